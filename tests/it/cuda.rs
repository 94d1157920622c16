//! The GPU engine against the CPU engine and transformers. Without a GPU every test here says so and does nothing.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use evalsuite::engine::model::{ModelSource, ModelSpec};
use evalsuite::engine::{
    Batching, Dtype, Engine, EngineKind, Event, Finish, GenerateOptions, Logits, OpenOptions, Prompt, READ_ROWS,
    Request, Sampling, Text, Work, gpu_is_present, open,
};
use evalsuite::hub::Hub;
use evalsuite::score::Distribution;

use crate::awq_writer::Checkpoint;
use crate::complete;
use crate::random_model::{FEATURED, SHAPES, Shape, write_featured};

fn no_gpu() -> bool {
    let missing = !gpu_is_present();
    if missing {
        crate::skip::skip("gpu", "no GPU (or no driver, NVRTC or cuBLASLt) on this machine");
    }
    missing
}

pub(crate) fn source(name: &str) -> Arc<ModelSource> {
    let spec = ModelSpec { source: name.to_owned(), revision: "main".to_owned() };
    Arc::new(ModelSource::open(&spec, &Hub::from_environment(true).unwrap()).unwrap())
}

/// A random model of each shape, in a folder that lasts as long as the first value.
pub(crate) fn shaped(shape: &Shape) -> (tempfile::TempDir, Arc<ModelSource>) {
    let folder = shape.write();
    let opened = source(&folder.path().display().to_string());
    (folder, opened)
}

/// The same with its layers packed as AWQ in groups of so many inputs.
fn packed(shape: &Shape, group: usize) -> (tempfile::TempDir, Arc<ModelSource>) {
    let dense = shape.write();
    let folder = Checkpoint::of(dense.path(), Some(group), None, false).write();
    let opened = source(&folder.path().display().to_string());
    (folder, opened)
}

pub(crate) fn engine(source: &Arc<ModelSource>, kind: EngineKind, dtype: Dtype, batch: usize) -> Box<dyn Engine> {
    open(source, &OpenOptions::new(kind, dtype, Some(batch))).unwrap()
}

/// Logits behind all tokens but the last, row by row.
fn logits(engine: &mut dyn Engine, tokens: &[u32]) -> Vec<f32> {
    let mut all = Vec::new();
    let mut sink = |rows: &[f32]| {
        all.extend_from_slice(rows);
        ControlFlow::Continue(())
    };
    engine.predict(tokens, 1, &mut sink).unwrap();
    all
}

/// Token ids that look random and are the same everywhere.
pub(crate) fn tokens(count: usize, vocabulary: usize, seed: u64) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    (0..count).map(|_| (3 + next() % (vocabulary - 3)) as u32).collect()
}

pub(crate) fn generate(id: usize, prompt: Vec<u32>, options: GenerateOptions) -> Request {
    let prompt = Arc::new(Prompt { text: String::new(), token_ids: prompt });
    Request { id, prompt, work: Work::Generate(options) }
}

pub(crate) fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ignore_eos: true, ..GenerateOptions::default() }
}

/// The largest difference, relative to the largest logit.
fn relative_error(ours: &[f32], reference: &[f32]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    let largest = reference.iter().map(|value| f64::from(value.abs())).fold(0.0, f64::max);
    let pairs = ours.iter().zip(reference);
    pairs
        .map(|(a, b)| f64::from(a - b).abs())
        .fold(0.0, |worst, error| if error.is_nan() { f64::INFINITY } else { worst.max(error) })
        / largest
}

/// The same of all rows but this part of them, whose errors are the largest.
fn error_but_of(part: f64, vocabulary: usize, ours: &[f32], reference: &[f32]) -> f64 {
    let largest = |row: &[f32]| row.iter().fold(0.0_f64, |largest, logit| largest.max(f64::from(logit.abs())));
    let scale = 1.0 / largest(reference);
    let rows = ours.chunks(vocabulary).zip(reference.chunks(vocabulary));
    let mut errors: Vec<f64> =
        rows.map(|(ours, reference)| relative_error(ours, reference) * largest(reference) * scale).collect();
    errors.sort_by(f64::total_cmp);
    errors[errors.len() - 1 - (part * errors.len() as f64) as usize]
}

#[test]
fn every_random_shape_runs_on_the_cpu() {
    for shape in &SHAPES {
        let ((_folder, plain), (_packed_folder, packed)) = (shaped(shape), packed(shape, 32));
        for (source, dtype) in [(plain, Dtype::F32), (packed, Dtype::Awq)] {
            let fed = tokens(5, source.config.vocabulary, 1);
            let found = logits(engine(&source, EngineKind::Cpu, dtype, 1).as_mut(), &fed);
            assert!(found.iter().all(|value| value.is_finite()), "{} {dtype}", shape.name);
            assert!(found.iter().any(|value| value.abs() > 0.1), "{} {dtype}: all logits are small", shape.name);
        }
    }
}

#[test]
fn f32_logits_of_every_family_are_the_cpu_engines() {
    if no_gpu() {
        return;
    }
    let written = SHAPES.each_ref().map(|shape| (shape.name, shaped(shape)));
    let models = written.iter().map(|(name, (_, source))| (*name, Arc::clone(source)));
    for (name, source) in models.chain([("bundled", source("bundled"))]) {
        let length = source.config.context_tokens.min(300);
        let fed = tokens(length, source.config.vocabulary, 7);
        let ours = logits(engine(&source, EngineKind::Cuda, Dtype::F32, 1).as_mut(), &fed);
        let reference = logits(engine(&source, EngineKind::Cpu, Dtype::F32, 1).as_mut(), &fed);
        let error = relative_error(&ours, &reference);
        println!("{name}: f32 logits differ by {error:.2e} of the largest");
        // Two orders of summation in binary32, through as many layers.
        assert!(error <= 1e-5 * (source.config.layers as f64).sqrt(), "{name}: {error:e}");
    }
}

/// Two engines that round every stored activation to eleven (f16) or eight (bf16) bits part by a few roundings a layer.
#[test]
fn smaller_precisions_stay_near_the_cpu_engine_in_the_same_precision() {
    if no_gpu() {
        return;
    }
    for shape in &SHAPES {
        let ((_folder, source), name) = (shaped(shape), shape.name);
        let fed = tokens(source.config.context_tokens.min(100), source.config.vocabulary, 9);
        for (dtype, unit) in
            [(Dtype::F16, 2.0_f64.powi(-11)), (Dtype::Bf16, 2.0_f64.powi(-8)), (Dtype::Int8, 2.0_f64.powi(-11))]
        {
            let ours = logits(engine(&source, EngineKind::Cuda, dtype, 1).as_mut(), &fed);
            let reference = logits(engine(&source, EngineKind::Cpu, dtype, 1).as_mut(), &fed);
            let error = relative_error(&ours, &reference);
            println!("{name} {dtype}: logits differ by {error:.2e} of the largest");
            assert!(error <= 16.0 * unit * (source.config.layers as f64).sqrt(), "{name} {dtype}: {error:e}");
        }
    }
}

/// Families with more than the plain decoder, on the GPU's general path: logits, greedy tokens, and the same bits alone and in company.
#[test]
fn families_with_features_are_the_cpu_engines() {
    if no_gpu() {
        return;
    }
    for featured in FEATURED {
        let (folder, name) = (write_featured(featured), featured.0);
        let source = source(&folder.path().display().to_string());
        let layers = (source.config.layers as f64).sqrt();
        let fed = tokens(source.config.context_tokens.min(300), source.config.vocabulary, 7);
        for (dtype, allowed) in [
            (Dtype::F32, 1e-5 * layers),
            (Dtype::F16, 16.0 * 2.0_f64.powi(-11) * layers),
            (Dtype::Bf16, 16.0 * 2.0_f64.powi(-8) * layers),
            (Dtype::Int8, 16.0 * 2.0_f64.powi(-11) * layers),
        ] {
            // Where two experts' scores are nearly equal, a rounding chooses between them, and the row is another: not of every row
            // is the same then.
            let unlike = match (source.config.features.experts, dtype) {
                (None, _) | (_, Dtype::F32) => 0.0,
                (Some(_), Dtype::Int8) => continue, // refused
                (Some(_), Dtype::Bf16) => 0.5,
                (Some(_), _) => 0.2,
            };
            let ours = logits(engine(&source, EngineKind::Cuda, dtype, 1).as_mut(), &fed);
            let reference = logits(engine(&source, EngineKind::Cpu, dtype, 1).as_mut(), &fed);
            let error = error_but_of(unlike, source.config.vocabulary, &ours, &reference);
            println!("{name} {dtype}: logits differ by {error:.2e} of the largest");
            assert!(error <= allowed, "{name} {dtype}: {error:e}");
        }
        let prompt = |id: usize| fed[id..id + 5 + 3 * id].to_vec();
        let requests = || (0..12).map(|id| generate(id, prompt(id), greedy(24))).collect::<Vec<_>>();
        let reference = complete(engine(&source, EngineKind::Cpu, Dtype::F32, 12).as_mut(), requests());
        for batching in [Batching::Invariant, Batching::Fast] {
            let options = OpenOptions { batching, ..OpenOptions::new(EngineKind::Cuda, Dtype::F32, Some(12)) };
            let mut cuda = open(&source, &options).unwrap();
            let together = complete(cuda.as_mut(), requests());
            for (reference, together) in reference.iter().zip(&together) {
                assert_eq!(together.token_ids, reference.token_ids, "{name} {batching:?}");
            }
        }
        let mut half = engine(&source, EngineKind::Cuda, Dtype::F16, 12);
        let together = complete(half.as_mut(), requests());
        for (id, together) in together.iter().enumerate() {
            let alone = complete(half.as_mut(), vec![generate(id, prompt(id), greedy(24))]);
            assert_eq!(together.token_ids, alone[0].token_ids, "{name}: a request sees its batch");
        }
    }
}

/// What no kernel computes is refused by its name, never computed otherwise.
#[test]
fn experts_in_int8_are_refused_by_name() {
    if no_gpu() {
        return;
    }
    for name in ["qwen2-moe", "qwen3-moe"] {
        let source = source(&crate::data(name).display().to_string());
        let options = OpenOptions::new(EngineKind::Cuda, Dtype::Int8, Some(1));
        let error = open(&source, &options).err().unwrap().to_string();
        assert!(error.contains("experts in int8") && error.contains("hint: run with `--engine cpu`"), "{error}");
    }
}

/// The checkpoints that these are tests of run on the CPU.
#[test]
fn every_featured_shape_runs_on_the_cpu() {
    for featured in FEATURED {
        let folder = write_featured(featured);
        let source = source(&folder.path().display().to_string());
        let fed = tokens(50, source.config.vocabulary, 1);
        let found = logits(engine(&source, EngineKind::Cpu, Dtype::F32, 1).as_mut(), &fed);
        assert!(found.iter().all(|value| value.is_finite()), "{}", featured.0);
        assert!(found.iter().any(|value| value.abs() > 0.1), "{}: all logits are small", featured.0);
    }
}

/// As above. The large-batch path multiplies by a dense copy, which rounds each weight to eleven bits more: one of the same size as
/// that of what it is multiplied by, and a sum of many such averages them.
#[test]
fn awq_logits_stay_near_the_cpu_engine() {
    if no_gpu() {
        return;
    }
    for shape in &SHAPES {
        let (_dense, original) = shaped(shape);
        let (config, name) = (&original.config, shape.name);
        let inputs = [config.hidden, config.heads * config.head_dim, config.intermediate];
        let fed = tokens(config.context_tokens.min(100), config.vocabulary, 9);
        for group in [32, 64, 128] {
            if !inputs.iter().all(|inputs| inputs.is_multiple_of(group)) {
                continue;
            }
            let (_folder, source) = packed(shape, group);
            let ours = logits(engine(&source, EngineKind::Cuda, Dtype::Awq, 1).as_mut(), &fed);
            let reference = logits(engine(&source, EngineKind::Cpu, Dtype::Awq, 1).as_mut(), &fed);
            let error = relative_error(&ours, &reference);
            println!("{name}, awq in groups of {group}: logits differ by {error:.2e} of the largest");
            let allowed = 16.0 * 2.0_f64.powi(-11) * (config.layers as f64).sqrt();
            assert!(error <= allowed, "{name}, groups of {group}: {error:e}");
        }
    }
}

/// Logits of transformers in binary32 on the GPU, computed by `benches/transformers_gpu.py`.
#[test]
#[ignore = "needs a GPU and python3 with torch and transformers"]
fn f32_logits_are_transformers() {
    if no_gpu() {
        return;
    }
    for shape in &SHAPES {
        let ((folder, source), name) = (shaped(shape), shape.name);
        let fed = tokens(source.config.context_tokens.min(300), source.config.vocabulary, 7);
        let ours = logits(engine(&source, EngineKind::Cuda, Dtype::F32, 1).as_mut(), &fed);
        let [ids, out] = ["tokens.json", "logits.bin"].map(|name| folder.path().join(name));
        // Our engine tells nothing behind the last token.
        std::fs::write(&ids, serde_json::to_string(&fed[..fed.len() - 1]).unwrap()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/transformers_gpu.py");
        let status = Command::new("python3").arg(script).arg(folder.path()).args([&ids, &out]).status().unwrap();
        assert!(status.success(), "{name}: {status}");
        let bytes = std::fs::read(out).unwrap();
        let reference: Vec<f32> = bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
        let error = relative_error(&ours, &reference);
        println!("{name}: f32 logits differ from transformers' by {error:.2e} of the largest");
        // As above: two orders of summation.
        assert!(error <= 1e-5 * (source.config.layers as f64).sqrt(), "{name}: {error:e}");
    }
}

/// The large-batch path, and the small-batch path with its own order of summation.
#[test]
fn greedy_tokens_are_the_cpu_engines() {
    if no_gpu() {
        return;
    }
    let source = source("bundled");
    let requests = |details: bool| -> Vec<Request> {
        let prompt = |id: usize| tokens(5 + id * 3, source.config.vocabulary, id as u64);
        (0..40).map(|id| generate(id, prompt(id), GenerateOptions { details, ..greedy(40) })).collect()
    };
    let reference = complete(engine(&source, EngineKind::Cpu, Dtype::F32, 16).as_mut(), requests(true));
    // Tokens are sampled on the device where no details are asked for, and only then is the fused decode kernel used.
    for (batching, batch, details) in [
        (Batching::Invariant, 16, true),
        (Batching::Invariant, 16, false),
        (Batching::Fast, 1, false),
        (Batching::Fast, 3, false),
        (Batching::Fast, 8, false),
    ] {
        let options = OpenOptions { batching, ..OpenOptions::new(EngineKind::Cuda, Dtype::F32, Some(batch)) };
        let ours = complete(open(&source, &options).unwrap().as_mut(), requests(details));
        assert_eq!(ours.len(), reference.len());
        for (ours, reference) in ours.iter().zip(&reference) {
            let parted = ours.token_ids.iter().zip(&reference.token_ids).position(|(a, b)| a != b);
            let Some(at) = parted else { continue };
            // Two best logits closer than this may change places between two correct engines.
            assert!(
                reference.details[at].margin < 1e-3,
                "{batching:?}, batch {batch}: request {} parts at {at} from a margin of {}",
                ours.request,
                reference.details[at].margin
            );
        }
    }
}

/// The promise of golden files: what a request says depends on the request alone.
#[test]
fn tokens_do_not_depend_on_the_batch() {
    if no_gpu() {
        return;
    }
    let bundled = source("bundled");
    let (_folder, awq) = packed(&SHAPES[0], 64);
    for (dtype, source) in [
        (Dtype::F32, &bundled),
        (Dtype::F16, &bundled),
        (Dtype::Bf16, &bundled),
        (Dtype::Int8, &bundled),
        (Dtype::Awq, &awq),
    ] {
        let request = |id: usize| {
            generate(id, tokens(3 + id * 7 % 211, source.config.vocabulary, id as u64), greedy(24 + id % 9))
        };
        let texts = |batch: usize, count: usize| -> Vec<Vec<u32>> {
            let requests = (0..count).map(request).collect();
            complete(engine(source, EngineKind::Cuda, dtype, batch).as_mut(), requests)
                .into_iter()
                .map(|completion| completion.token_ids)
                .collect()
        };
        let all = texts(1319, 1319);
        for (batch, count) in [(1, 24), (2, 40), (7, 70), (64, 200), (200, 400)] {
            let fewer = texts(batch, count);
            for id in 0..count {
                assert_eq!(fewer[id], all[id], "{dtype}: request {id} differs between batch {batch} and 1319");
            }
        }
    }
}

/// A break at a step dropped what had ended in it.
#[test]
fn whoever_breaks_off_at_a_step_has_been_told_what_ended_in_it() {
    let source = source("bundled");
    for kind in [EngineKind::Cpu, EngineKind::Cuda] {
        if kind == EngineKind::Cuda && no_gpu() {
            continue;
        }
        let requests = (0..4).map(|id| generate(id, tokens(5, source.config.vocabulary, id as u64), greedy(3)));
        let (mut told, mut generated) = (Vec::new(), 0);
        let mut sink = |event| match event {
            Event::Step { new_tokens, .. } => {
                generated += new_tokens;
                if generated == 12 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            Event::Token(_) | Event::Failed { .. } | Event::Note(_) => panic!("none was asked for"),
            Event::Completed(completion) => {
                told.push(completion.request);
                // Nor does it matter that the first of them is answered so.
                ControlFlow::Break(())
            }
        };
        engine(&source, kind, Dtype::F32, 8).run(requests.collect(), &mut sink).unwrap();
        told.sort_unstable();
        assert_eq!(told, [0, 1, 2, 3], "{kind:?}");
    }
}

#[test]
fn scores_stops_and_sampling_work_as_on_the_cpu() {
    if no_gpu() {
        return;
    }
    let source = source("bundled");
    let vocabulary = source.config.vocabulary;
    let sampled = |seed| GenerateOptions {
        sampling: Sampling { temperature: 0.8, top_p: 0.95, top_k: 40, seed },
        details: true,
        ..greedy(30)
    };
    let scored = |id: usize| Request {
        id,
        prompt: Arc::new(Prompt { text: String::new(), token_ids: tokens(9 + id, vocabulary, id as u64) }),
        work: Work::Score { continuation: tokens(300, vocabulary, 77 + id as u64), top_tokens: 0 },
    };
    let mut requests: Vec<Request> =
        (0..12).map(|id| generate(id, tokens(20, vocabulary, id as u64), sampled(id as u64))).collect();
    requests.extend((12..15).map(scored));
    let stop = GenerateOptions { stop_strings: Arc::from(["1".to_owned(), " a".to_owned()]), ..greedy(60) };
    requests.extend((15..30).map(|id| generate(id, tokens(12, vocabulary, id as u64), stop.clone())));
    requests.push(generate(30, tokens(4, vocabulary, 1), GenerateOptions { max_tokens: 0, ..greedy(0) }));
    let ours = complete(engine(&source, EngineKind::Cuda, Dtype::F32, 8).as_mut(), requests.clone());
    let reference = complete(engine(&source, EngineKind::Cpu, Dtype::F32, 8).as_mut(), requests);
    assert_eq!(ours.len(), reference.len());
    let mut equal = 0;
    for (ours, reference) in ours.iter().zip(&reference) {
        if reference.finish == Finish::Scored {
            assert_eq!((ours.finish, &ours.token_ids), (reference.finish, &reference.token_ids));
            for (a, b) in ours.details.iter().zip(&reference.details) {
                assert!((a.log_probability - b.log_probability).abs() < 1e-3, "{a:?} {b:?}");
                assert!((a.log_sum_exp - b.log_sum_exp).abs() < 1e-3, "{a:?} {b:?}");
            }
        }
        equal += usize::from(
            ours.token_ids == reference.token_ids && ours.text == reference.text && ours.finish == reference.finish,
        );
    }
    // A draw that falls within 1e-5 of a boundary may go the other way; of thirty requests hardly one.
    assert!(equal + 2 >= ours.len(), "{equal} of {} requests are the CPU's", ours.len());
}

#[test]
fn a_shared_prefix_changes_no_token() {
    if no_gpu() {
        return;
    }
    let source = source("bundled");
    let prefix = tokens(400, source.config.vocabulary, 5);
    let prompt = |id: usize| [prefix.clone(), tokens(10 + id, source.config.vocabulary, id as u64)].concat();
    let mut cuda = engine(&source, EngineKind::Cuda, Dtype::F16, 64);
    let together = complete(cuda.as_mut(), (0..20).map(|id| generate(id, prompt(id), greedy(20))).collect());
    for (id, together) in together.iter().enumerate() {
        let alone = complete(cuda.as_mut(), vec![generate(id, prompt(id), greedy(20))]);
        assert_eq!(alone[0].token_ids, together.token_ids, "request {id}");
    }
}

#[test]
fn fast_batching_says_nearly_the_same() {
    if no_gpu() {
        return;
    }
    let source = source("bundled");
    let requests = || -> Vec<Request> {
        (0..60).map(|id| generate(id, tokens(5 + id, source.config.vocabulary, id as u64), greedy(30))).collect()
    };
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Int8] {
        for batch in [1, 3, 8, 60] {
            let options =
                OpenOptions { batching: Batching::Fast, ..OpenOptions::new(EngineKind::Cuda, dtype, Some(batch)) };
            let fast = complete(open(&source, &options).unwrap().as_mut(), requests());
            let steady = complete(engine(&source, EngineKind::Cuda, dtype, 60).as_mut(), requests());
            let agree: usize = fast
                .iter()
                .zip(&steady)
                .map(|(a, b)| a.token_ids.iter().zip(&b.token_ids).take_while(|(a, b)| a == b).count())
                .sum();
            let all: usize = steady.iter().map(|completion| completion.token_ids.len()).sum();
            println!("{dtype}, batch {batch}: {agree} of {all} tokens before the first difference");
            let least = if dtype == Dtype::F32 { 0.98 } else { 0.6 };
            assert!(agree as f64 >= least * all as f64, "{dtype}, batch {batch}: {agree} of {all}");
        }
    }
}

/// Texts of many lengths, which take several steps, and one that takes more than a step by itself.
#[test]
fn texts_read_together_have_the_bits_of_texts_read_alone() {
    if no_gpu() {
        return;
    }
    let (_folder, model) = shaped(&SHAPES[0]);
    let context = model.config.context_tokens;
    for dtype in [Dtype::F32, Dtype::F16] {
        let mut engine = engine(&model, EngineKind::Cuda, dtype, 16);
        let texts: Vec<(Vec<u32>, usize)> = (0..150_usize)
            .map(|seed| {
                let length = 2 + (seed * 37) % (context - 2);
                (tokens(length, model.config.vocabulary, seed as u64), 1 + seed % (length - 1))
            })
            .collect();
        let all: Vec<Text> = texts.iter().map(|(tokens, from)| Text { tokens, from: *from }).collect();
        engine.read(&all).unwrap();
        let rows: usize = all.iter().map(Text::rows).sum();
        let mut together = Vec::new();
        for start in (0..rows).step_by(READ_ROWS) {
            let logits = engine.read_logits(start..rows.min(start + READ_ROWS)).unwrap();
            together.extend_from_slice(&logits.to_host().unwrap());
        }
        let mut alone = Vec::new();
        for (tokens, from) in &texts {
            let mut sink = |rows: &[f32]| {
                alone.extend_from_slice(rows);
                ControlFlow::Continue(())
            };
            engine.predict(tokens, *from, &mut sink).unwrap();
        }
        assert_eq!(together.len(), rows * model.config.vocabulary);
        let same = together.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && together.len() == alone.len(), "{dtype}");
        let beyond = engine.read_logits(0..READ_ROWS + 1).unwrap_err().to_string();
        assert!(beyond.contains("were read"), "{beyond}");
    }
}

#[test]
fn divergences_on_the_device_are_those_of_the_same_logits_on_the_host() {
    if no_gpu() {
        return;
    }
    let (_folder, model) = shaped(&SHAPES[0]);
    let vocabulary = model.config.vocabulary;
    let mut exact = engine(&model, EngineKind::Cuda, Dtype::F32, 16);
    let mut rounded = engine(&model, EngineKind::Cuda, Dtype::F16, 16);
    let fed = tokens(100, vocabulary, 5);
    let text = Text { tokens: &fed, from: 1 };
    exact.read(&[text]).unwrap();
    rounded.read(&[text]).unwrap();
    let (truth, this) = (exact.read_logits(0..99).unwrap(), rounded.read_logits(0..99).unwrap());
    let (Logits::Device(on_device), Logits::Device(reference)) = (&this, &truth) else { panic!("both are on the GPU") };
    assert!(on_device.is_beside(reference));
    let scores = on_device.scores(Some(reference), &fed[1..]).unwrap().unwrap();
    let (truth, this) = (truth.to_host().unwrap(), this.to_host().unwrap());
    for (row, score) in scores.iter().enumerate() {
        let of_row = row * vocabulary..(row + 1) * vocabulary;
        let (p, q) = (Distribution::new(&truth[of_row.clone()]).unwrap(), Distribution::new(&this[of_row]).unwrap());
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert_eq!(score.best, q.best(), "row {row}");
        assert!(near(score.kl.unwrap(), p.divergence(&q).unwrap()), "row {row}");
        assert!(near(score.log_probability, q.log_probability(fed[row + 1]).unwrap()), "row {row}");
        assert!(near(score.reference_of_best.unwrap(), p.log_probability(q.best()).unwrap()), "row {row}");
    }
    assert!(scores.iter().any(|score| score.kl > Some(0.0)), "f16 differs from f32 somewhere");
}

/// What was captured of a decode step, or made for the fused kernel, must not outlive the weights that it was made of.
#[test]
fn layers_put_back_one_by_one_make_the_other_checkpoint() {
    if no_gpu() {
        return;
    }
    let (dense, int4) = (source("bundled"), source("bundled-awq"));
    let text = tokens(150, dense.config.vocabulary, 5);
    let answer = |engine: &mut dyn Engine| {
        let request = generate(1, text[..40].to_vec(), greedy(30));
        complete(engine, vec![request]).remove(0).token_ids
    };
    for batching in [Batching::Invariant, Batching::Fast] {
        let open = |source, dtype| {
            let options = OpenOptions { batching, ..OpenOptions::new(EngineKind::Cuda, dtype, Some(2)) };
            open(source, &options).unwrap()
        };
        let (mut half, mut awq) = (open(&dense, Dtype::F16), open(&int4, Dtype::Awq));
        let (exact, before) = (logits(half.as_mut(), &text), logits(awq.as_mut(), &text));
        let (written, written_before) = (answer(half.as_mut()), answer(awq.as_mut()));
        assert!(exact != before && written != written_before);
        for layer in 0..dense.config.layers {
            awq.reload_layer(&dense, layer).unwrap();
            assert!(awq.read_logits(0..1).is_err(), "what other weights computed is gone");
        }
        assert!(logits(awq.as_mut(), &text) == exact, "{batching:?}");
        assert_eq!(answer(awq.as_mut()), written, "{batching:?}");
        for layer in 0..dense.config.layers {
            awq.reload_layer(&int4, layer).unwrap();
        }
        assert!(logits(awq.as_mut(), &text) == before, "{batching:?}");
        // One projection: the stack that it lies in is dense then, and computes as the CPU's.
        let put_back = Arc::new(int4.with_linear_of(&dense, 1, 2).unwrap());
        awq.reload_layer(&put_back, 1).unwrap();
        let mut reference = engine(&int4, EngineKind::Cpu, Dtype::Awq, 2);
        reference.reload_layer(&put_back, 1).unwrap();
        let distance = |a: &[f32], b: &[f32]| {
            let off: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            (off / b.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>()).sqrt()
        };
        let (on_gpu, on_cpu) = (logits(awq.as_mut(), &text), logits(reference.as_mut(), &text));
        let apart = distance(&on_gpu, &on_cpu);
        assert!(apart < 0.1 * distance(&on_cpu, &before), "{batching:?}: {apart}");
    }
}
