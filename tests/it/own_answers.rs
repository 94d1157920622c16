//! `perplexity --run`: f32's own answers of a run of the bundled model, read by its other precisions.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use evalsuite::engine::Dtype;
use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::{ModelSource, ModelSpec};
use evalsuite::jobs::eval::StoredRun;
use evalsuite::jobs::perplexity::{Divergence, PerplexityInputs, PerplexityJob, PerplexityRecord, Reading, evaluate};
use evalsuite::jobs::{JobContext, JobError, Target, open_engine};
use evalsuite::report::Format;
use evalsuite::score::Estimate;
use evalsuite::task::ChatUse;
use serde_json::Value;
use tempfile::TempDir;

use crate::bundled_run::{lines, open, program, prompt, said, with_run};
use crate::program::mistake;
use crate::{tiny_model, without_checksums};

/// So many that departures of either kind are among them.
const ROWS: usize = 80;

fn read(folder: &TempDir, arguments: &str) -> PerplexityRecord {
    serde_json::from_str(&said(folder, &format!("perplexity --format json --engine cpu {arguments}"))).unwrap()
}

fn job(source: &str) -> PerplexityJob {
    let spec = ModelSpec { source: source.to_owned(), revision: "main".to_owned() };
    PerplexityJob {
        command: vec!["evalsuite".to_owned(), "perplexity".to_owned()],
        target: Target::new(spec, vec![Dtype::F32, Dtype::F16], evalsuite::engine::EngineKind::Cpu),
        text: "not read".to_owned(),
        split: "test".to_owned(),
        chat: ChatUse::Auto,
        window: None,
        stride: None,
        limit_tokens: None,
        run: None,
        limit: None,
        out: None,
        worst: 0,
        format: Format::Json,
    }
}

/// The tokens and the text of every answer in a run, by variant and sample.
fn answers(folder: &TempDir) -> BTreeMap<(String, u64), (Vec<u32>, String)> {
    let lines = lines(folder, "answers.jsonl").into_iter();
    let of_line = |line: Value| {
        let ids = serde_json::from_value(line["token_ids"].clone()).unwrap();
        let text = line["text"].as_str().unwrap().to_owned();
        ((line["dtype"].as_str().unwrap().to_owned(), line["sample"].as_u64().unwrap()), (ids, text))
    };
    lines.map(of_line).collect()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    logits.iter().map(|logit| f64::from(*logit) - sum.ln()).collect()
}

/// The prompt of a sample with f32's answer behind it, and where that begins.
fn document(folder: &TempDir, model: &ModelSource, sample: u64) -> (Vec<u32>, usize) {
    let mut tokens = prompt(folder, model, sample);
    let scored = tokens.len();
    tokens.extend(&answers(folder)[&("f32".to_owned(), sample)].0);
    (tokens, scored)
}

fn against<'a>(record: &'a PerplexityRecord, dtype: &str) -> &'a Divergence {
    let dtype = record.dtypes.iter().find(|one| one.dtype.as_str() == dtype).unwrap();
    dtype.against.as_ref().unwrap()
}

/// Greedy answers are the same until a variant's most probable token is another: what the run stored is what teacher-forcing must find.
#[test]
fn a_variant_leaves_f32_s_answers_where_its_own_in_the_run_first_differ() {
    let folder = with_run(&format!("--dtype f32,f16,int8,awq --limit {ROWS}"));
    let (record, answers, model) = (read(&folder, "--run run"), answers(&folder), open("bundled"));
    let names: Vec<&str> = record.dtypes.iter().map(|dtype| dtype.dtype.as_str()).collect();
    assert_eq!(names, ["f32", "f16", "int8", "awq"], "the run's precisions");
    let engine = CpuEngine::load(&model, Dtype::F32, None).unwrap();
    let mut kinds = Vec::new();
    for variant in ["f16", "int8", "awq"] {
        let departures = against(&record, variant).departures.as_ref().unwrap();
        let stored: Vec<(usize, usize)> = (0..ROWS as u64)
            .filter_map(|sample| {
                let [own, truth] = [variant, "f32"].map(|name| &answers[&(name.to_owned(), sample)].0);
                Some((sample as usize, own.iter().zip(truth).position(|(own, truth)| own != truth)?))
            })
            .collect();
        let found: Vec<_> = departures.list.iter().map(|one| (one.at.sample, one.at.tokens_before)).collect();
        assert_eq!(found, stored, "{variant}");
        assert_eq!(departures.answers, ROWS);
        let share = stored.len() as f64 / ROWS as f64;
        assert!((departures.share.value - share).abs() < 1e-12);
        // One answer a question: s / √n.
        let error = (share * (1.0 - share) / (ROWS as f64 - 1.0)).sqrt();
        assert!((departures.share.standard_error.unwrap() - error).abs() < 1e-12);
        for departure in &departures.list {
            let place = departure.at.tokens_before;
            let own = answers[&(variant.to_owned(), departure.at.sample as u64)].0[place];
            let (tokens, scored) = document(&folder, &model, departure.at.sample as u64);
            let rows = engine.logits(&tokens, tokens.len());
            let row = log_softmax(&rows[scored + place - 1]);
            let margin = row[tokens[scored + place] as usize] - row[own as usize];
            assert!((departure.margin - margin).abs() < 1e-6, "{departure:?}: {margin}");
            assert_eq!(departure.is_near_tie, margin <= 0.1, "{departure:?}");
            let written = model.tokenizer.decode_with_special(&[own]).unwrap();
            assert_eq!(departure.this, written);
            kinds.push(departure.is_near_tie);
        }
    }
    assert!(kinds.contains(&true) && kinds.contains(&false), "a kind is not seen: {kinds:?}");
    let of_awq = against(&record, "awq").departures.as_ref().unwrap();
    let report = said(&folder, "perplexity --run run --engine cpu --dtype f32,awq --worst 2");
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
    assert!(report.contains(&format!("First departures from f32's own answers, {ROWS} of them")), "{report}");
    let mut real: Vec<_> = of_awq.list.iter().filter(|one| !one.is_near_tie).collect();
    real.sort_by(|a, b| b.margin.total_cmp(&a.margin));
    let first = report.split_once("Largest real departures of awq").unwrap().1.lines().nth(1).unwrap();
    let place = format!("sample {}, token {}, margin ", real[0].at.sample, real[0].at.tokens_before);
    assert!(first.starts_with(&place), "{first} is not {place}");
    let markdown = said(&folder, "perplexity --run run --engine cpu --dtype f32,awq --worst 2 --format markdown");
    assert!(markdown.contains("### Largest real departures of awq\n"), "{markdown}");
}

#[test]
fn every_token_of_an_answer_is_scored_behind_its_own_prompt() {
    let folder = with_run("--dtype f32,f16 --limit 6");
    let (record, stored, model) = (read(&folder, "--run run --limit 4"), answers(&folder), open("bundled"));
    let engine = CpuEngine::load(&model, Dtype::F32, None).unwrap();
    let (mut nats, mut count, mut bytes) = (0.0, 0, 0);
    for sample in 0..4 {
        let (tokens, scored) = document(&folder, &model, sample);
        let rows = engine.logits(&tokens, tokens.len());
        for place in scored..tokens.len() {
            nats -= log_softmax(&rows[place - 1])[tokens[place] as usize];
        }
        count += tokens.len() - scored;
        bytes += stored[&("f32".to_owned(), sample)].1.len();
    }
    assert_eq!((record.windows.scored_tokens, record.windows.scored_bytes), (count, bytes));
    assert_eq!((record.windows.blocks, record.windows.count, record.text.rows), (4, 4, Some(4)));
    let own = record.dtypes[0].nats_per_token.unwrap();
    assert!((own.value - nats / count as f64).abs() < 1e-6);
    assert!(own.standard_error.is_some());
    assert_eq!((record.text.reading, record.text.answers_of.as_ref().unwrap().as_str()), (Reading::Answers, "f32"));
    let answers = std::fs::read(folder.path().join("run/answers.jsonl")).unwrap();
    assert_eq!(record.text.sha256, evalsuite::files::sha256(&answers));
    let own_answers: Vec<&String> = record.notes.iter().filter(|note| note.contains("itself would leave")).collect();
    assert!(own_answers.is_empty(), "the engine that wrote them reads them as its own: {own_answers:?}");
}

fn of_run(job: &PerplexityJob, run: &StoredRun) -> Result<PerplexityInputs, JobError> {
    PerplexityInputs::of_run(job, run, open("bundled"))
}

#[test]
fn answers_to_one_question_or_to_a_cluster_s_are_one_observation() {
    let folder = with_run("--dtype f32 --limit 5 --repeats 2 --temperature 0.7");
    let mut run = StoredRun::read(&folder.path().join("run")).unwrap();
    let lengths = |samples: &[usize]| -> usize {
        let of = run.completions[0].1.iter().filter(|one| samples.contains(&one.sample));
        of.map(|one| one.token_ids.as_ref().unwrap().len()).sum()
    };
    let (questions, clusters) =
        ([0, 1, 2, 3, 4].map(|sample| lengths(&[sample])), [lengths(&[0, 3]), lengths(&[1]), lengths(&[2, 4])]);
    let inputs = of_run(&job("bundled"), &run).unwrap();
    assert_eq!(inputs.blocks(inputs.windows.len()), questions);
    assert_eq!(inputs.windows.len(), 10);
    assert!(inputs.notes.iter().any(|note| note.contains("at random")), "{:?}", inputs.notes);
    for (sample, cluster) in [(0, "a"), (2, "b"), (3, "a"), (4, "b")] {
        Arc::make_mut(&mut run.samples)[sample].cluster = Some(cluster.to_owned());
    }
    let inputs = of_run(&job("bundled"), &run).unwrap();
    assert_eq!(inputs.blocks(inputs.windows.len()), clusters);
    let record = read(&folder, "--run run --dtype f32,awq --limit 3");
    assert_eq!((record.windows.count, record.windows.blocks), (6, 3));
    assert!(against(&record, "awq").departures.is_none(), "what was drawn at random is left by every variant");
}

#[test]
fn answers_of_a_cluster_leave_as_one_observation_and_best_tokens_are_those_of_whole_logits() {
    const ROWS: usize = 24;
    let folder = with_run(&format!("--dtype f32,awq --limit {ROWS}"));
    let mut run = StoredRun::read(&folder.path().join("run")).unwrap();
    for sample in Arc::make_mut(&mut run.samples) {
        sample.cluster = Some((sample.sample / 6).to_string());
    }
    let mut job = job("bundled");
    job.target.dtypes = vec![Dtype::F32, Dtype::Awq];
    let interrupted = AtomicBool::new(false);
    let mut context = JobContext {
        open_engine: &mut |variant, target| open_engine(variant, target),
        emit: &mut |_| (),
        interrupted: &interrupted,
    };
    let checkpoints = job.target.open(&tiny_model::no_hub()).unwrap();
    let inputs = PerplexityInputs::of_run(&job, &run, checkpoints).unwrap();
    let record = evaluate(&job, &inputs, &mut context).unwrap().record;
    let against = against(&record, "awq");
    let departures = against.departures.as_ref().unwrap();
    let is_left = |sample: usize| departures.list.iter().any(|one| one.at.sample == sample);
    let left: Vec<f64> = (0..ROWS).map(|sample| f64::from(u8::from(is_left(sample)))).collect();
    assert!(left.contains(&0.0) && left.contains(&1.0), "{left:?}");
    assert_eq!(departures.share, Estimate::of_blocks(&left, &[6; 4]).unwrap());

    let model = open("bundled");
    let engines = [(&model, Dtype::F32), (&open("bundled-awq"), Dtype::Awq)]
        .map(|(model, dtype)| CpuEngine::load(model, dtype, None).unwrap());
    let best = |row: &[f32]| (1..row.len()).fold(0, |best, token| if row[token] > row[best] { token } else { best });
    let (mut same, mut count) = (0, 0);
    for sample in 0..ROWS as u64 {
        let (tokens, scored) = document(&folder, &model, sample);
        let [there, here] = engines.each_ref().map(|engine| engine.logits(&tokens, tokens.len()));
        let places = scored - 1..tokens.len() - 1;
        count += places.len();
        same += places.filter(|row| best(&there[*row]) == best(&here[*row])).count();
    }
    assert!(same < count, "no token is another");
    assert!((against.same_best.value - same as f64 / count as f64).abs() < 1e-12);
}

#[test]
fn answers_without_token_ids_are_encoded_again_and_long_ones_cut() {
    let folder = with_run("--dtype f32 --limit 3");
    let mut run = StoredRun::read(&folder.path().join("run")).unwrap();
    let model = open("bundled");
    let before = of_run(&job("bundled"), &run).unwrap();
    let text = run.completions[0].1[1].text.clone();
    run.completions[0].1[1].token_ids = None;
    let inputs = of_run(&job("bundled"), &run).unwrap();
    let window = &inputs.windows[1];
    assert_eq!(inputs.tokens[window.from..window.fed.end], model.tokenizer.encode(&text, false).unwrap());
    assert!(
        inputs.notes.iter().any(|note| note.starts_with("answers encoded again") && note.ends_with(": 1")),
        "{:?}",
        inputs.notes
    );
    assert_eq!(inputs.windows[0], before.windows[0]);
    let context = model.config.context_tokens;
    run.completions[0].1[2].token_ids = Some(vec![5; context]);
    let inputs = of_run(&job("bundled"), &run).unwrap();
    assert_eq!(inputs.windows[2].fed.len(), context);
    assert!(
        inputs.notes.iter().any(|note| note.starts_with("answers cut") && note.ends_with(": 1")),
        "{:?}",
        inputs.notes
    );
}

#[test]
fn what_is_not_the_run_s_is_refused() {
    let folder = with_run("--dtype f32,int8 --limit 3");
    said(&folder, "eval gsm8k --engine cpu --quiet --out half --dtype f16,int8 --limit 3");
    said(&folder, "quality --engine cpu --quiet --out prose --dtype f32 --only copying --max-tokens 8");
    let other = crate::data("llama").display().to_string();
    let cases = [
        ("--run half".to_owned(), "no answers of f32: it has f16, int8"),
        (format!("--run run --model {other}"), "the model is another than that of the run"),
        ("--run nowhere".to_owned(), "nowhere"),
        ("--run prose".to_owned(), "prose"),
        ("--run run --text a.txt".to_owned(), "cannot be used with"),
        ("--run run --window 64".to_owned(), "cannot be used with"),
        ("--limit 4".to_owned(), "--run"),
        ("--run run --limit 0".to_owned(), "--limit"),
    ];
    for (arguments, expected) in &cases {
        let message = mistake(&program(&folder, &format!("perplexity {arguments}")));
        assert!(message.contains(expected), "{arguments}: {message}");
    }
    let record = read(&folder, "--run half --reference f16");
    assert_eq!(record.text.answers_of.as_ref().unwrap().as_str(), "f16");
    assert_eq!(record.dtypes[0].dtype.as_str(), "f16", "the reference that was named runs first");

    let path = |name: &str| folder.path().join("run").join(name);
    let spoil = |name: &str, from: &str, to: &str, expected: &str| {
        let bytes = std::fs::read_to_string(path(name)).unwrap();
        let spoiled = without_checksums(&bytes).replacen(from, to, 1);
        assert!(spoiled != without_checksums(&bytes), "{from} is not in {name}");
        std::fs::write(path(name), spoiled).unwrap();
        let message = mistake(&program(&folder, "perplexity --run run"));
        assert!(message.contains(expected), "{message}");
        std::fs::write(path(name), bytes).unwrap();
    };
    spoil("f32/journal.jsonl", "\"token_ids\":[", "\"token_ids\":[9,", "the journal was changed");
    spoil("samples.jsonl", "Reason step by step", "Reason", "the prompt of sample 0 is not the one");
    std::fs::remove_file(path("record.json")).unwrap();
    let message = mistake(&program(&folder, "perplexity --run run"));
    assert!(message.contains("has not finished"), "{message}");
}

/// The run's command may name its model from where it was given.
#[test]
fn the_run_s_own_model_is_found_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    said(&folder, "quantize --model bundled --out rtn --method rtn --group-size 64");
    said(&folder, "eval gsm8k --engine cpu --quiet --out run --dtype f32 --variant rtn=rtn --limit 3");
    let elsewhere = tempfile::tempdir().unwrap();
    let run = folder.path().join("run").display().to_string();
    let record = read(&elsewhere, &format!("--run {run}"));
    let names: Vec<&str> = record.dtypes.iter().map(|dtype| dtype.dtype.as_str()).collect();
    assert_eq!(names, ["f32", "rtn"]);
    assert!(Path::new(&record.text.source).ends_with("run"));
}
