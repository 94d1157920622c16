//! `blame`: which layers and projections of rounded weights lost answers, against logits and whole runs computed here.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::{ModelSource, ModelSpec, TensorNames};
use evalsuite::engine::{
    Capacity, Dtype, Engine, EngineError, EngineInfo, EngineKind, Event as EngineEvent, Logits, Request, Text,
};
use evalsuite::hub::Hub;
use evalsuite::jobs::blame::{BlameFinished, BlameInputs, BlameJob, BlameRecord, evaluate};
use evalsuite::jobs::eval::StoredRun;
use evalsuite::jobs::{Event, JobContext, JobError, Target, VariantSpec, open_engine};
use evalsuite::record::VariantName;
use evalsuite::report::Format;
use tempfile::TempDir;

use crate::bundled_run::{lines, open, program, prompt, said, with_run};
use crate::program::mistake;
use crate::tiny_model;

/// So many that awq loses some.
const ROWS: usize = 100;
const LIMIT: usize = 5;

/// Tokens and rightness of a variant's answers, by sample.
fn answers(folder: &TempDir, variant: &str) -> BTreeMap<usize, (Vec<u32>, bool)> {
    let lines = lines(folder, "answers.jsonl").into_iter();
    let own = lines.filter(|line| line["dtype"] == variant).map(|line| {
        let scores = line["scores"].as_array().unwrap();
        let right = scores.iter().find(|score| score["rule"] == "numeric").unwrap()["correct"] == true;
        let ids = serde_json::from_value(line["token_ids"].clone()).unwrap();
        (line["sample"].as_u64().unwrap() as usize, (ids, right))
    });
    own.collect()
}

fn first_other(a: &[u32], b: &[u32]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b)
}

/// An answer's place: all tokens before it, the reference's there and the variant's.
struct Place {
    before: Vec<u32>,
    token: u32,
    other: u32,
}

/// ln p of the token less that of the other, and whether the token is the most probable one.
fn seen(engine: &CpuEngine, place: &Place) -> (f64, bool) {
    let logits = engine.logits(&place.before, 1).remove(0);
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
    (f64::from(logits[place.token as usize] - logits[place.other as usize]), best == place.token as usize)
}

fn places(folder: &TempDir, record: &BlameRecord, variant: &str) -> Vec<Place> {
    let (model, truth, own) = (open("bundled"), answers(folder, "f32"), answers(folder, variant));
    let place = |at: usize, sample: usize| {
        let mut before = prompt(folder, &model, sample as u64);
        before.extend(&truth[&sample].0[..at]);
        Place { before, token: truth[&sample].0[at], other: own[&sample].0[at] }
    };
    record.answers.iter().map(|answer| place(answer.at.tokens_before, answer.at.sample)).collect()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
}

/// Every figure of the map is what engines opened here, with the weights put back one by one, give for the stored answers.
#[test]
fn the_map_is_what_models_with_weights_put_back_make_of_the_answers_that_were_lost() {
    let folder = with_run(&format!("--dtype f32,awq --limit {ROWS}"));
    let report = said(&folder, &format!("blame run --engine cpu --limit {LIMIT} --out blame.json"));
    let record = BlameRecord::read(&folder.path().join("blame.json")).unwrap().unwrap();
    let (truth, own) = (answers(&folder, "f32"), answers(&folder, "awq"));
    let lost: Vec<(usize, usize)> = truth
        .iter()
        .filter(|(sample, (_, right))| *right && !own[sample].1)
        .map(|(sample, (ids, _))| (*sample, first_other(ids, &own[sample].0).unwrap()))
        .collect();
    assert!(lost.len() > LIMIT, "{} lost: too few for this test", lost.len());
    let found: Vec<_> = record.answers.iter().map(|answer| (answer.at.sample, answer.at.tokens_before)).collect();
    assert_eq!(found, lost[..LIMIT], "the first of those that are right in f32 and wrong in awq");
    assert_eq!((record.run.lost, record.run.answers, record.run.lost_read), (lost.len(), ROWS, LIMIT));
    assert!(record.complete && record.answers.iter().all(|answer| answer.lost && answer.counted));

    let (f32, awq) = (open("bundled"), open("bundled-awq"));
    let places = places(&folder, &record, "awq");
    let exact = CpuEngine::load(&f32, Dtype::F32, None).unwrap();
    let mut engine = CpuEngine::load(&awq, Dtype::Awq, None).unwrap();
    let there: Vec<f64> = places.iter().map(|place| seen(&exact, place).0).collect();
    let here: Vec<f64> = places.iter().map(|place| seen(&engine, place).0).collect();
    for ((answer, there), here) in record.answers.iter().zip(&there).zip(&here) {
        close(answer.reference_margin, *there);
        close(answer.variant_margin, *here);
        assert_eq!(answer.is_near_tie, *there <= 0.1);
    }
    let lacking: f64 = there.iter().zip(&here).map(|(there, here)| there - here).sum();
    let names = TensorNames::new(&f32.config, &f32.tensors.names());
    let mut best: Vec<(f64, usize, String)> = vec![(f64::NEG_INFINITY, 0, String::new()); places.len()];
    for layer in &record.layers {
        let linears: Vec<String> = names.block(layer.layer).linears().into_iter().map(str::to_owned).collect();
        assert_eq!(layer.parts.len(), linears.len());
        let whole = std::iter::once((None, &layer.whole));
        let parts = layer.parts.iter().enumerate().map(|(index, part)| (Some(index), &part.put_back));
        for (linear, figures) in whole.chain(parts) {
            let source = match linear {
                None => Arc::clone(&f32),
                Some(linear) => Arc::new(awq.with_linear_of(&f32, layer.layer, linear).unwrap()),
            };
            engine.reload_layer(&source, layer.layer).unwrap();
            let now: Vec<(f64, bool)> = places.iter().map(|place| seen(&engine, place)).collect();
            let back: f64 = now.iter().zip(&here).map(|((now, _), here)| now - here).sum();
            close(figures.restored.unwrap(), back / lacking);
            assert_eq!((figures.kept, figures.of), (now.iter().filter(|(_, kept)| *kept).count(), LIMIT));
            let Some(linear) = linear else { continue };
            assert!(linears[linear].ends_with(&format!(".{}", layer.parts[linear].name)));
            for (best, (margin, _)) in best.iter_mut().zip(now) {
                if margin > best.0 {
                    *best = (margin, layer.layer, layer.parts[linear].name.clone());
                }
            }
        }
        engine.reload_layer(&awq, layer.layer).unwrap();
    }
    for (answer, (margin, layer, part)) in record.answers.iter().zip(best) {
        let found = answer.best.as_ref().unwrap();
        close(found.margin, margin);
        assert_eq!((found.layer, &found.part), (layer, &part));
    }
    errors_are_of_the_residual_stream(&folder, &record);
    texts_hold_the_figures(&folder, &record, &report);
}

/// ‖awq − f32‖ / ‖f32‖ behind each layer, mean over the answers' tokens up to their places.
fn errors_are_of_the_residual_stream(folder: &TempDir, record: &BlameRecord) {
    let (f32, awq) = (open("bundled"), open("bundled-awq"));
    let mut engines =
        [CpuEngine::load(&f32, Dtype::F32, None).unwrap(), CpuEngine::load(&awq, Dtype::Awq, None).unwrap()];
    let (mut sums, mut tokens) = (vec![0.0; record.layers.len()], 0);
    for (answer, place) in record.answers.iter().zip(places(folder, record, "awq")) {
        let text: Vec<u32> = place.before.iter().copied().chain([place.token]).collect();
        let from = place.before.len() - answer.at.tokens_before;
        for engine in &mut engines {
            engine.layers().unwrap().begin(&[Text { tokens: &text, from }]).unwrap();
        }
        tokens += text.len() - from;
        for sum in &mut sums {
            let [there, here] = engines.each_mut().map(|engine| {
                engine.layers().unwrap().advance().unwrap();
                engine.layers().unwrap().states()
            });
            let hidden = f32.config.hidden;
            assert_eq!(there.len(), (text.len() - from) * hidden);
            for (there, here) in there.chunks(hidden).zip(here.chunks(hidden)) {
                let off: f64 = there.iter().zip(here).map(|(a, b)| f64::from(a - b).powi(2)).sum();
                let size: f64 = there.iter().map(|a| f64::from(*a).powi(2)).sum();
                *sum += (off / size).sqrt();
            }
        }
    }
    for (layer, sum) in record.layers.iter().zip(sums) {
        close(layer.output_error.unwrap(), sum / tokens as f64);
    }
}

fn texts_hold_the_figures(folder: &TempDir, record: &BlameRecord, report: &str) {
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
    let heads = report.lines().find(|line| line.starts_with("layer ") && line.ends_with("error")).unwrap();
    let heads: Vec<&str> = heads.split_whitespace().collect();
    assert_eq!(heads, ["layer", "all", "q", "k", "v", "o", "gate", "up", "down", "kept", "error"], "{report}");
    let kept = record.kept.as_ref().unwrap();
    let layers: Vec<String> = kept.layers.iter().map(usize::to_string).collect();
    let command = format!("evalsuite quantize --model bundled --group-size 64 --keep {} --out DIR", layers.join(","));
    assert!(report.contains(&command), "{report}");
    let sentence = format!("would have kept {} of {LIMIT} answers", kept.kept);
    assert!(report.replace('\n', " ").contains(&sentence), "{report}");
    assert_eq!(said(folder, "show blame.json"), *report);
    assert_eq!(said(folder, "report blame.json"), *report);
    let page = said(folder, "report blame.json --format html");
    assert!(page.contains("<table class=\"map\">") && page.contains("style=\"--heat:100\""), "{page}");
    assert!(page.contains(&command) && page.contains(&sentence));
    let restored = record.layers[0].whole.restored.unwrap();
    let markdown = said(folder, "show blame.json --format markdown");
    assert!(markdown.contains(&format!(" {:.1} |", restored * 100.0)), "{markdown}");
    assert!(
        markdown.contains("\n`evalsuite quantize ") && markdown.contains("` | `"),
        "commands and tokens are code: {markdown}"
    );
    let json: BlameRecord = serde_json::from_str(&said(folder, "show blame.json --format json")).unwrap();
    assert_eq!(json, *record);
}

/// What blame says that kept layers would do is what a checkpoint made by its command does in a run of its own.
#[test]
fn the_checkpoint_that_is_proposed_keeps_the_answers_that_were_promised() {
    let folder = tempfile::tempdir().unwrap();
    said(&folder, "quantize --model bundled --out rtn --method rtn --group-size 64");
    said(&folder, "eval gsm8k --engine cpu --quiet --out run --dtype f32 --variant rtn=rtn --limit 40");
    said(&folder, "blame run --engine cpu --variant rtn --limit 6 --out blame.json");
    let record = BlameRecord::read(&folder.path().join("blame.json")).unwrap().unwrap();
    let kept = record.kept.as_ref().unwrap();
    assert!(kept.of >= 3 && kept.kept > 0, "{kept:?}");
    let layers: Vec<String> = kept.layers.iter().map(usize::to_string).collect();
    let keep = layers.join(",");
    said(&folder, &format!("quantize --model bundled --group-size 64 --method rtn --keep {keep} --out kept"));
    said(&folder, "eval gsm8k --engine cpu --quiet --out again --dtype f32 --variant rtn=kept --limit 40");
    let truth = answers(&folder, "f32");
    std::fs::rename(folder.path().join("run"), folder.path().join("before")).unwrap();
    std::fs::rename(folder.path().join("again"), folder.path().join("run")).unwrap();
    let now = answers(&folder, "rtn");
    let counted = record.answers.iter().filter(|answer| answer.counted);
    let (mut token, mut wholly) = (0, 0);
    for answer in counted {
        let (there, here) = (&truth[&answer.at.sample].0, &now[&answer.at.sample].0);
        // Before the place, too, the kept layers may go otherwise than the text that was forced.
        let place = answer.at.tokens_before;
        token += usize::from(here.get(..=place) == there.get(..=place));
        wholly += usize::from(here == there);
    }
    assert_eq!(wholly, kept.wholly, "answers that are the same to their ends");
    assert!(token <= kept.kept && token >= wholly, "{token} keep their token, {} were promised", kept.kept);
    let rest: u64 =
        ["rtn", "kept"].map(|name| bytes_of(&folder.path().join(name))).iter().fold(0, |less, bytes| bytes - less);
    let off = rest.abs_diff(kept.more_bytes.unwrap());
    assert!(off < 4096, "{rest} bytes more on disk, {:?} were said", kept.more_bytes);
}

fn bytes_of(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("model.safetensors")).unwrap().len()
}

fn job(folder: &TempDir, variant: &str, limit: usize) -> BlameJob {
    let spec = |source: &str| ModelSpec { source: source.to_owned(), revision: "main".to_owned() };
    let mut target = Target::new(spec("bundled"), vec![Dtype::F32, Dtype::F16, Dtype::Awq], EngineKind::Cpu);
    target.variants =
        vec![VariantSpec { name: VariantName::parse("again").unwrap(), model: spec("bundled-awq"), precision: None }];
    BlameJob {
        command: vec!["evalsuite".to_owned(), "blame".to_owned()],
        target,
        run: folder.path().join("run"),
        variant: variant.to_owned(),
        rule: None,
        limit,
        out: None,
        format: Format::Terminal { colour: false },
    }
}

fn inputs(job: &BlameJob) -> Result<BlameInputs, JobError> {
    let hub: Hub = tiny_model::no_hub();
    BlameInputs::new(job, &StoredRun::read(&job.run)?, job.target.open(&hub)?)
}

fn run_with(
    job: &BlameJob,
    tell: &mut dyn FnMut(&Event, &AtomicBool),
    wrap: &mut dyn FnMut(Box<dyn Engine>) -> Box<dyn Engine>,
) -> Result<BlameFinished, JobError> {
    run_on(job, &inputs(job)?, tell, wrap)
}

fn run_on(
    job: &BlameJob,
    inputs: &BlameInputs,
    tell: &mut dyn FnMut(&Event, &AtomicBool),
    wrap: &mut dyn FnMut(Box<dyn Engine>) -> Box<dyn Engine>,
) -> Result<BlameFinished, JobError> {
    let interrupted = AtomicBool::new(false);
    let mut context = JobContext {
        open_engine: &mut |variant, target| open_engine(variant, target).map(&mut *wrap),
        emit: &mut |event| tell(&event, &interrupted),
        interrupted: &interrupted,
    };
    evaluate(job, inputs, &mut context)
}

#[test]
fn answers_in_several_groups_are_what_they_are_in_one() {
    let folder = with_run("--dtype f32,f16,awq --variant again=bundled-awq --limit 30");
    let job = job(&folder, "awq", 4);
    let mut inputs = inputs(&job).unwrap();
    let mut read = |together: usize| {
        inputs.together = together;
        run_on(&job, &inputs, &mut |_, _| {}, &mut |engine| engine).unwrap().record
    };
    let (one, several) = (read(8192), read(200));
    assert_eq!((&one.answers, &one.together, &one.kept), (&several.answers, &several.together, &several.kept));
    for (one, several) in one.layers.iter().zip(&several.layers) {
        assert_eq!((&one.whole, &one.parts), (&several.whole, &several.parts));
        // Sums in another order.
        close(several.output_error.unwrap() / one.output_error.unwrap(), 1.0);
    }
}

/// An engine that does not show its layers, as one on a GPU does not, and writes down which were put, and from weights stored as what.
struct Closed(Box<dyn Engine>, Arc<Mutex<Vec<(usize, String)>>>);

impl Closed {
    fn boxed(engine: Box<dyn Engine>) -> Box<dyn Engine> {
        Box::new(Self(engine, Arc::default()))
    }
}

impl Engine for Closed {
    fn info(&self) -> &EngineInfo {
        self.0.info()
    }

    fn submit(&mut self, _: Request) -> Result<(), EngineError> {
        unreachable!("nothing is generated here")
    }

    fn step(&mut self, _: &mut Vec<EngineEvent>) -> Result<(), EngineError> {
        Ok(())
    }

    fn cancel(&mut self, _: usize) -> bool {
        false
    }

    fn capacity(&self) -> Capacity {
        Capacity::default()
    }

    fn read(&mut self, texts: &[Text]) -> Result<(), EngineError> {
        self.0.read(texts)
    }

    fn read_logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, EngineError> {
        self.0.read_logits(rows)
    }

    fn reload_layer(&mut self, source: &ModelSource, layer: usize) -> Result<(), EngineError> {
        self.1.lock().unwrap().push((layer, source.stored_as.clone()));
        self.0.reload_layer(source, layer)
    }
}

#[test]
fn an_engine_that_reads_texts_whole_finds_the_same_but_no_errors_of_layers() {
    let folder = with_run("--dtype f32,f16,awq --variant again=bundled-awq --limit 30");
    let job = job(&folder, "again", 3);
    let (mut done, mut said) = (0, Vec::new());
    let open = run_with(
        &job,
        &mut |event, _| {
            if let Event::Reading(progress) = event {
                assert!(progress.done > done && progress.done <= progress.total, "{progress:?}");
                assert!(progress.remaining_seconds().is_some());
                done = progress.done;
                said.push(progress.what.clone());
            }
        },
        &mut |engine| engine,
    );
    let open = open.unwrap().record;
    assert!(said.contains(&"layer 2 of 4, gate_proj".to_owned()), "{said:?}");
    let closed = run_with(&job, &mut |_, _| {}, &mut Closed::boxed).unwrap().record;
    assert!(closed.layers.iter().all(|layer| layer.output_error.is_none()));
    let without_errors = |record: &BlameRecord| {
        let mut layers = record.layers.clone();
        for layer in &mut layers {
            layer.output_error = None;
        }
        (layers, record.answers.clone(), record.together.clone(), record.kept.clone())
    };
    assert_eq!(without_errors(&open), without_errors(&closed));
    assert!(open.layers.iter().all(|layer| layer.output_error.is_some_and(|error| error > 0.0)));
}

#[test]
fn what_was_read_before_an_interruption_is_kept() {
    let folder = with_run("--dtype f32,f16,awq --variant again=bundled-awq --limit 30");
    let job = job(&folder, "awq", 3);
    let whole = run_with(&job, &mut |_, _| {}, &mut |engine| engine).unwrap().record;
    let mut tell = |event: &Event, interrupted: &AtomicBool| {
        if matches!(event, Event::Reading(progress) if progress.what == "layer 1 of 4, k_proj") {
            interrupted.store(true, Ordering::Relaxed);
        }
    };
    let finished = run_with(&job, &mut tell, &mut |engine| engine).unwrap();
    let record = &finished.record;
    assert!(!record.complete && record.kept.is_none() && record.together.is_empty());
    assert_eq!(record.layers[0], whole.layers[0]);
    let of = |layer: usize| -> Vec<usize> {
        let parts = record.layers[layer].parts.iter().map(|part| part.put_back.of);
        std::iter::once(record.layers[layer].whole.of).chain(parts).collect()
    };
    let n = record.answers.len();
    assert_eq!(of(1), [n, n, n, 0, 0, 0, 0, 0], "the whole layer, q and k");
    assert_eq!(of(2), [0; 8]);
    let report = finished.report.unwrap();
    let words = report.replace('\n', " ");
    assert!(words.contains("interrupted") && words.contains("n/a") && words.contains("was broken off"), "{report}");
    let mut tell = |event: &Event, interrupted: &AtomicBool| {
        interrupted
            .store(matches!(event, Event::Loaded { .. }) || interrupted.load(Ordering::Relaxed), Ordering::Relaxed);
    };
    let finished = run_with(&job, &mut tell, &mut |engine| engine).unwrap();
    assert!(finished.report.is_none() && finished.record.answers.is_empty());
}

#[test]
fn where_few_answers_are_lost_those_that_changed_most_are_beside_them() {
    let folder = with_run(&format!("--dtype f32,awq --limit {ROWS}"));
    let (truth, own) = (answers(&folder, "f32"), answers(&folder, "awq"));
    let lost = truth.iter().filter(|(sample, (_, right))| *right && !own[sample].1).map(|(sample, _)| *sample);
    let mut expected: Vec<usize> = lost.collect();
    let few = expected.len();
    let mut others = changed(&folder);
    others.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert!(few > 0 && others.len() > 1);
    expected.push(others[0].0);
    expected.sort_unstable();
    said(&folder, &format!("blame run --engine cpu --limit {} --out blame.json", few + 1));
    let record = BlameRecord::read(&folder.path().join("blame.json")).unwrap().unwrap();
    assert_eq!(record.answers.iter().map(|answer| answer.at.sample).collect::<Vec<_>>(), expected);
    assert_eq!(record.run.lost_read, few);
    let not_lost: Vec<usize> =
        record.answers.iter().filter(|answer| !answer.lost).map(|answer| answer.at.sample).collect();
    assert_eq!(not_lost, [others[0].0]);
}

/// Token agreement of awq's answers with f32's, of the samples where some token is another and f32 is not right alone.
fn changed(folder: &TempDir) -> Vec<(usize, f64)> {
    let (truth, own) = (answers(folder, "f32"), answers(folder, "awq"));
    let changed = truth.iter().filter_map(|(sample, (there, right))| {
        let (here, still) = &own[sample];
        first_other(there, here).filter(|_| *still || !*right)?;
        let same = there.iter().zip(here).filter(|(there, here)| there == here).count();
        Some((*sample, same as f64 / there.len().max(here.len()) as f64))
    });
    changed.collect()
}

#[test]
fn without_a_lost_answer_those_that_changed_most_are_explained() {
    let all = with_run(&format!("--dtype f32,awq --limit {ROWS}"));
    let mut expected = changed(&all);
    assert!(expected.len() > 2, "{expected:?}: too few for this test");
    let samples: Vec<String> = expected.iter().map(|(sample, _)| sample.to_string()).collect();
    let folder = with_run(&format!("--dtype f32,awq --samples {}", samples.join(",")));
    let report = said(&folder, "blame run --engine cpu --limit 2 --out blame.json");
    let record = BlameRecord::read(&folder.path().join("blame.json")).unwrap().unwrap();
    expected.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut expected: Vec<usize> = expected[..2].iter().map(|(sample, _)| *sample).collect();
    expected.sort_unstable();
    assert_eq!(record.answers.iter().map(|answer| answer.at.sample).collect::<Vec<_>>(), expected);
    assert_eq!((record.run.lost_read, record.run.lost, record.run.changed), (0, 0, samples.len()));
    assert!(record.answers.iter().all(|answer| !answer.lost));
    assert!(report.contains("awq lost no answer, by numeric"), "{report}");
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let folder = with_run("--dtype f32,f16,int8,awq --limit 2");
    let refused = |arguments: &str| {
        let output = program(&folder, arguments);
        mistake(&output)
    };
    let error = refused("blame run --variant f16");
    assert!(error.contains("computes from the same weights as the reference"), "{error}");
    let error = refused("blame run --variant int8");
    assert!(error.contains("rounds weights while it loads"), "{error}");
    let error = refused("blame run --variant f32");
    assert!(error.contains("is what the others are held against"), "{error}");
    let error = refused("blame run --variant awk");
    assert!(error.contains("awk") && error.contains("awq"), "{error}");
    assert!(refused("blame run --limit 0").contains("--limit 0 asks for nothing"));
    assert!(refused("blame nothing").contains("cannot read nothing/plan.json"));
    let error = refused("blame run --rule none");
    assert!(error.contains("unknown rule `none`"), "{error}");
    let experts = crate::data("qwen3-moe");
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&experts).unwrap().flatten() {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let model = experts.display();
    let run = format!(
        "eval gsm8k --model {model} --dtype f32 --variant x=copy --limit 2 --max-tokens 2 --engine cpu --out moe"
    );
    assert!(program(&folder, &run).status.success());
    let error = refused("blame moe --variant x --engine cpu");
    assert!(error.contains("whose layers hold experts") && error.contains("evalsuite perplexity"), "{error}");
    let drawn = with_run("--dtype f32,awq --limit 2 --temperature 0.5");
    let error = mistake(&program(&drawn, "blame run"));
    assert!(error.contains("are not greedy"), "{error}");
}

/// Once answers were read to their ends with every layer that had been tried in f32, those too that had not helped.
#[test]
fn layers_beyond_the_best_step_are_rounded_again_before_answers_are_read_to_their_ends() {
    let folder = with_run(&format!("--dtype f32,f16,awq --variant again=bundled-awq --limit {ROWS}"));
    let put = Arc::default();
    let wrap = &mut |engine| -> Box<dyn Engine> { Box::new(Closed(engine, Arc::clone(&put))) };
    let record = run_with(&job(&folder, "again", 2), &mut |_, _| {}, wrap).unwrap().record;
    let [best, last] = &record.together[..] else { panic!("{:?}", record.together) };
    let kept = record.kept.unwrap();
    assert_eq!(
        (&kept.layers, best.put_back.kept),
        (&best.layers, last.put_back.kept),
        "the second layer has not helped"
    );
    let beyond: Vec<usize> = last.layers.iter().copied().filter(|layer| !best.layers.contains(layer)).collect();
    let ([best], [beyond]) = (&best.layers[..], &beyond[..]) else { panic!("{best:?}, {beyond:?}") };
    let put = put.lock().unwrap();
    let behind: Vec<(usize, &str)> = put[put.len() - 3..].iter().map(|(layer, from)| (*layer, from.as_str())).collect();
    assert_eq!(behind, [(*best, "f32"), (*beyond, "f32"), (*beyond, &*open("bundled-awq").stored_as)]);
}
