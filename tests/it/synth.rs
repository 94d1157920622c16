//! Random checkpoints: read by our own loader and by the safetensors crate, and made again to the same bytes.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::ModelSpec;
use evalsuite::engine::{Dtype, Engine as _};
use evalsuite::synth::{ModelShape, SynthEnd, SynthFormat, SynthJob, WEIGHT_DEVIATION, synthesise};
use safetensors::SafeTensors;

use crate::files_of;
use crate::program::{evalsuite, text};
use crate::tiny_model::{no_hub, open};

pub(crate) const FORMATS: [(&str, SynthFormat); 4] = [
    ("f32", SynthFormat::F32),
    ("f16", SynthFormat::F16),
    ("bf16", SynthFormat::Bf16),
    ("awq", SynthFormat::Awq { group_size: 32 }),
];

pub(crate) fn job(format: SynthFormat, out: PathBuf) -> SynthJob {
    SynthJob { shape: ModelShape::parse("tiny").unwrap(), format, out, seed: 1, layers: None }
}

/// Makes a checkpoint in a fresh folder.
pub(crate) fn made(job: &SynthJob) {
    let finished = synthesise(job, &mut |_| (), &AtomicBool::new(false)).unwrap();
    assert!(matches!(finished, SynthEnd::Written(bytes) if bytes > 0), "{finished:?}");
}

#[test]
fn every_format_opens_and_computes_finite_numbers() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in FORMATS {
        let out = folder.path().join(name);
        made(&job(format, out.clone()));
        assert_eq!(
            files_of(&out).keys().collect::<Vec<_>>(),
            ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
        );
        let source = open(&out).unwrap();
        let stored = if name == "awq" { "awq-int4 (group 32)" } else { name };
        assert_eq!((source.stored_as.as_str(), source.config.vocabulary), (stored, 600));
        assert_eq!((source.tokenizer.bos_id, source.tokenizer.eos_ids.first()), (Some(1), Some(&2)));
        let ids = source.tokenizer.encode("Two plus two?", true).unwrap();
        assert_eq!(source.tokenizer.decode(&ids).unwrap(), "Two plus two?");
        let dtype = if name == "awq" { Dtype::Awq } else { Dtype::F16 };
        let engine = CpuEngine::load(&source, dtype, None).unwrap();
        assert_eq!(engine.info().dtype, Some(dtype));
        let logits = engine.logits(&ids, 1).concat();
        let largest = logits.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(logits.iter().all(|value| value.is_finite()) && largest > 0.01, "{name}: {largest}");
    }
}

#[test]
fn weights_are_normal_and_norms_are_one() {
    let folder = tempfile::tempdir().unwrap();
    made(&job(SynthFormat::F32, folder.path().join("out")));
    let bytes = std::fs::read(folder.path().join("out/model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 3 + 2 * 9);
    for (name, view) in file.iter() {
        let values: Vec<f64> =
            view.data().chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
        if name.ends_with("norm.weight") {
            assert!(values.iter().all(|value| *value == 1.0), "{name}");
            continue;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let deviation = (values.iter().map(|value| value.powi(2)).sum::<f64>() / n).sqrt();
        // Five standard errors: σ/√n of a mean, σ/√2n of a deviation.
        assert!(mean.abs() < 5.0 * WEIGHT_DEVIATION / n.sqrt(), "{name}: mean {mean}");
        assert!((deviation / WEIGHT_DEVIATION - 1.0).abs() < 5.0 / (2.0 * n).sqrt(), "{name}: {deviation}");
    }
}

/// A family with learned positions, layer norms and biases.
#[test]
fn an_opt_checkpoint_opens_as_one_and_generates() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("opt-125m");
    let shape = ModelShape::parse("opt-125m").unwrap();
    made(&SynthJob { shape, layers: Some(1), ..job(SynthFormat::F16, out.clone()) });
    let source = open(&out).unwrap();
    assert_eq!((source.config.family.name(), source.config.layers), ("opt", 1));
    assert_eq!((source.config.context_tokens, source.config.vocabulary), (2048, 50_272));
    assert_eq!((source.tokenizer.bos_id, source.tokenizer.eos_ids.first()), (Some(2), Some(&2)));
    let ids = source.tokenizer.encode("Two plus two?", true).unwrap();
    assert_eq!(source.tokenizer.decode(&ids).unwrap(), "Two plus two?");
    let logits = CpuEngine::load(&source, Dtype::F32, None).unwrap().logits(&ids, 1).concat();
    let largest = logits.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    assert!(logits.iter().all(|value| value.is_finite()) && largest > 0.01, "{largest}");
}

#[test]
fn the_bytes_depend_on_the_seed_and_not_on_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in FORMATS {
        let make = |run: &str, seed: u64, threads: usize| {
            let out = folder.path().join(format!("{name}-{run}"));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| made(&SynthJob { seed, ..job(format, out.clone()) }));
            files_of(&out)
        };
        let one = make("one", 1, 1);
        assert_eq!(one, make("five", 1, 5), "{name}");
        let other = make("other", 2, 1);
        assert_ne!(one["model.safetensors"], other["model.safetensors"], "{name}");
        assert_eq!(one["tokenizer.json"], other["tokenizer.json"], "{name}");
    }
}

/// Larger tensors than one thread writes at a time, and a cut model is the beginning of the whole one.
#[test]
fn a_cut_model_is_the_beginning_of_the_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let make = |layers: usize| {
        let out = folder.path().join(layers.to_string());
        let shape = ModelShape::parse("smollm2-135m").unwrap();
        made(&SynthJob { shape, layers: Some(layers), ..job(SynthFormat::F16, out.clone()) });
        std::fs::read(out.join("model.safetensors")).unwrap()
    };
    let (one, two) = (make(1), make(2));
    let (one, two) = (SafeTensors::deserialize(&one).unwrap(), SafeTensors::deserialize(&two).unwrap());
    assert_eq!((one.len(), two.len()), (2 + 9, 2 + 18));
    for (name, view) in one.iter() {
        assert!(view.data() == two.tensor(name).unwrap().data(), "{name}");
    }
    let table = one.tensor("model.embed_tokens.weight").unwrap();
    assert!(table.data().len() > 50_000_000, "it is larger than a chunk");
    let (first, second) = table.data().split_at(4 << 20);
    assert_ne!(first, &second[..4 << 20], "chunks do not repeat");
    assert_eq!(open(&folder.path().join("2")).unwrap().config.layers, 2);
}

#[test]
fn the_awq_checkpoint_is_the_awq_form_of_the_dense_one() {
    let folder = tempfile::tempdir().unwrap();
    made(&job(SynthFormat::F16, folder.path().join("m")));
    made(&job(SynthFormat::Awq { group_size: 64 }, folder.path().join("m-awq")));
    let path = folder.path().join("m");
    let spec = ModelSpec { source: path.display().to_string(), revision: "main".to_owned() };
    let form = open(&path).unwrap().open_awq_form(&spec, None, &no_hub()).unwrap().expect("it lies beside the model");
    let layer = form.tensors.read_packed("model.layers.1.mlp.down_proj").unwrap().expect("it is packed");
    assert_eq!((layer.inputs, layer.outputs, layer.group_size), (128, 64, 64));
    // 7 and 8 in equal numbers, so that codes lie around them.
    assert!(layer.zeros().iter().all(|zero| matches!(zero, 7 | 8)));
    let sum: f64 = layer.zeros().iter().map(|zero| f64::from(*zero)).sum();
    assert_eq!(sum, 7.5 * layer.zeros().len() as f64);
    assert!((0..16).all(|code| layer.codes().contains(&code)));
}

#[test]
fn what_is_there_already_is_not_overwritten_and_what_is_broken_off_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let job = job(SynthFormat::F16, out.clone());
    let finished = synthesise(&job, &mut |_| (), &AtomicBool::new(true)).unwrap();
    assert_eq!(finished, SynthEnd::Interrupted);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");

    let mut seen = Vec::new();
    let finished = synthesise(&job, &mut |progress| seen.push(progress), &AtomicBool::new(false)).unwrap();
    let last = seen.last().unwrap();
    assert_eq!(finished, SynthEnd::Written(last.total_bytes));
    assert_eq!((last.done_bytes, last.remaining_seconds()), (last.total_bytes, Some(0.0)));

    let before = files_of(&out);
    let error = synthesise(&job, &mut |_| (), &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("there is something in") && error.contains("\nhint: "), "{error}");
    assert_eq!(files_of(&out), before);

    let partial = folder.path().join("other.partial");
    std::fs::create_dir(&partial).unwrap();
    std::fs::write(partial.join("thesis.txt"), "mine").unwrap();
    let other = SynthJob { out: folder.path().join("other"), ..job };
    let error = synthesise(&other, &mut |_| (), &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("is in the way"), "{error}");
    assert_eq!(files_of(&partial).len(), 1);
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = |flags: &[&str]| {
        let output = evalsuite().arg("synth").args(flags).arg("--out").arg(folder.path().join("out")).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    for (flags, part) in [
        (&["--shape", "tinylama-1.1b", "--dtype", "f16"][..], "did you mean `tinyllama-1.1b`"),
        (&["--shape", "tiny", "--dtype", "f-16"], "did you mean `f16`"),
        (&["--shape", "tiny", "--dtype", "f16", "--group-size", "32"], "no use with --dtype f16"),
        (&["--shape", "tiny", "--dtype", "awq", "--group-size", "48"], "does not divide the inputs of tiny"),
        (&["--shape", "tiny", "--dtype", "awq", "--group-size", "0"], "does not divide"),
        (&["--shape", "tiny", "--dtype", "f16", "--layers", "3"], "tiny has 2 blocks"),
        (&["--shape", "tiny", "--dtype", "f16", "--layers", "0"], "from 1 to 2"),
        (&["--shape", "tiny", "--dtype", "f16", "--threads", "0"], "--threads 1"),
    ] {
        let (code, message) = run(flags);
        assert_eq!(code, Some(2), "{flags:?}: {message}");
        assert!(message.contains(part) && message.contains("hint: "), "{flags:?}: {message}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a mistake writes nothing");
    let (code, message) = run(&["--shape", "smollm2-135m", "--dtype", "awq", "--layers", "1", "--seed", "9"]);
    assert_eq!(code, Some(0), "{message}");
    let source = open(&folder.path().join("out")).unwrap();
    assert_eq!(source.stored_as, "awq-int4 (group 64)", "the largest group that divides 576");
}
