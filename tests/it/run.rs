//! Runs from job to record, on the scripted engine of `scripted.rs`: resuming, refusing, failing, comparing.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use evalsuite::cli::Exit;
use evalsuite::engine::model::FileHash;
use evalsuite::engine::{Capacity, Dtype, Engine, EngineError, EngineInfo, Event as EngineEvent, OpenOptions, Request};
use evalsuite::hub::Hub;
use evalsuite::jobs::eval::{EvalJob, EvalPlan, EvalRecord, Rescored, render, rescore, show_prompt};
use evalsuite::jobs::{Destination, Event, JobError};
use evalsuite::record::{RunFolder, RunPlan as _, read_journal};
use evalsuite::report::Format;
use evalsuite::task::{ChatUse, Dataset, DatasetSpec, Selection};
use tempfile::TempDir;

use crate::scripted::{
    ROWS, dataset, engine, engine_on, evaluate, evaluate_with, inputs, inputs_of, job, model, target,
};
use crate::without_checksums;

/// In memory where that is possible: these tests sync thousands of small files.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

fn answers(folder: &Path) -> String {
    fs::read_to_string(folder.join("answers.jsonl")).unwrap()
}

fn message<T: std::fmt::Debug>(result: Result<T, JobError>) -> String {
    let text = result.expect_err("this must fail").to_string();
    assert!(text.contains("\nhint: "), "no hint: {text}");
    text
}

#[test]
fn a_run_leaves_journal_answers_and_record() {
    let scratch = scratch();
    let job = job(scratch.path().join("run"));
    let finished = evaluate(&job, &inputs()).unwrap();
    let (record, _) = finished.results.unwrap();
    assert!(record.complete && finished.failures.is_empty());
    let [f32, f16] = &record.dtypes[..] else { panic!("two precisions") };
    assert_eq!((f32.n, f32.answered, f32.cut, f32.output_tokens), (ROWS, ROWS, 1, Some(3 * ROWS as u64)));
    assert_eq!(f32.load_seconds, Some(0.5));
    let strict = |dtype: &evalsuite::jobs::eval::DtypeRecord| dtype.rules[0].accuracy.unwrap();
    // The script's numbers end in 0, so that the unescaped dot of the strict rule costs no digit that matters.
    assert_eq!(strict(f32).n, ROWS);
    assert!(f32.rules.iter().all(|rule| rule.against.is_none()));
    // Rows 0 and 3 are wrong in f16, by script.
    let flexible = |dtype: &evalsuite::jobs::eval::DtypeRecord| {
        dtype.rules.iter().find(|rule| rule.rule.starts_with("flexible")).unwrap().clone()
    };
    let paired = flexible(f16).against.unwrap();
    assert_eq!(flexible(f32).accuracy.unwrap().successes - flexible(f16).accuracy.unwrap().successes, paired.lost);
    assert_eq!((paired.lost, paired.gained), (2, 0));
    assert_eq!(EvalRecord::read(&finished.folder.join("record.json")).unwrap(), record);
    assert_eq!(answers(&finished.folder).lines().count(), 2 * ROWS);
    let hash = evalsuite::files::sha256(answers(&finished.folder).as_bytes());
    assert_eq!(record.answers_sha256, Some(hash));
}

#[test]
fn a_run_killed_at_any_byte_of_its_journal_resumes_to_the_same_bytes() {
    let scratch = scratch();
    let inputs = inputs();
    let folder = scratch.path().join("run");
    let selection = Selection { limit: Some(2), indices: Vec::new() };
    let job = EvalJob { selection, target: target("scripted", &[Dtype::F32]), ..job(folder.clone()) };
    evaluate(&job, &inputs).unwrap();
    let expected = answers(&folder);
    let journal = folder.join("f32/journal.jsonl");
    let whole = fs::read(&journal).unwrap();
    let resuming = EvalJob { resume: true, ..job };
    for length in 0..=whole.len() {
        fs::write(&journal, &whole[..length]).unwrap();
        fs::remove_file(folder.join("answers.jsonl")).unwrap();
        fs::remove_file(folder.join("record.json")).unwrap();
        let finished = evaluate(&resuming, &inputs).unwrap();
        assert!(finished.results.unwrap().0.complete, "cut at {length}");
        assert_eq!(answers(&folder), expected, "cut at {length}");
    }
}

#[test]
fn an_interrupted_run_keeps_what_is_done_and_generates_only_the_rest() {
    let scratch = scratch();
    let inputs = inputs();
    let whole = evaluate(&job(scratch.path().join("whole")), &inputs).unwrap();
    let job = job(scratch.path().join("broken"));
    let broken = evaluate_with(&job, &inputs, &mut |options| Ok(engine(options.dtype, "1")), &mut |event, flag| {
        if matches!(event, Event::Progress(progress) if progress.completed == 2) {
            flag.store(true, Ordering::Relaxed);
        }
    })
    .unwrap();
    assert!(broken.results.is_none());
    assert!(!broken.folder.join("record.json").exists());
    let mut generated = 0;
    let resuming = EvalJob { resume: true, ..job };
    evaluate_with(&resuming, &inputs, &mut |options| Ok(engine(options.dtype, "1")), &mut |event, _| {
        if let Event::Progress(progress) = event {
            generated = generated.max(progress.completed_now);
            assert_eq!(progress.total, ROWS);
        }
    })
    .unwrap();
    assert_eq!(answers(&broken.folder), answers(&whole.folder));
    let record = EvalRecord::read(&broken.folder.join("record.json")).unwrap();
    assert_eq!(record.dtypes[0].sessions.len(), 2);
    assert_eq!(record.dtypes[1].sessions.len(), 1);
    assert_eq!(generated, ROWS, "f16 had nothing yet");
}

#[test]
fn all_that_an_engine_handed_out_before_an_interruption_is_in_the_journal_in_its_order() {
    let scratch = scratch();
    let mut job = EvalJob { target: target("scripted", &[Dtype::F32]), ..job(scratch.path().join("run")) };
    job.sampling.temperature = 0.7;
    job.sampling.repeats = 400;
    let mut open = |options: &OpenOptions| Ok(engine(options.dtype, "1"));
    let broken = evaluate_with(&job, &inputs(), &mut open, &mut |event, flag| {
        if matches!(event, Event::Progress(progress) if progress.completed == 1500) {
            flag.store(true, Ordering::Relaxed);
        }
    })
    .unwrap();
    assert!(broken.results.is_none());
    let journal = read_journal(&RunFolder::journal_path(&broken.folder, &Dtype::F32.into())).unwrap().values;
    let journal: Vec<(usize, usize)> = journal.iter().map(|one| (one.sample, one.repeat)).collect();
    let all = (0..ROWS).flat_map(|sample| (0..400).map(move |repeat| (sample, repeat)));
    assert_eq!(journal, all.rev().take(1500).collect::<Vec<_>>(), "the script answers the last request first");
}

#[test]
fn resuming_a_finished_run_opens_no_engine() {
    let scratch = scratch();
    let inputs = inputs();
    let job = job(scratch.path().join("run"));
    evaluate(&job, &inputs).unwrap();
    let before = answers(&scratch.path().join("run"));
    let resuming = EvalJob { resume: true, ..job };
    let again = evaluate_with(&resuming, &inputs, &mut |_| panic!("nothing is missing"), &mut |_, _| {}).unwrap();
    assert_eq!(answers(&again.folder), before);
}

#[test]
fn resuming_under_another_plan_names_every_difference() {
    let scratch = scratch();
    let mut inputs = inputs();
    let folder = scratch.path().join("run");
    let begun = job(folder.clone());
    evaluate(&begun, &inputs).unwrap();
    let mut other = EvalJob { resume: true, ..begun.clone() };
    other.target.dtypes = vec![Dtype::F32];
    other.sampling.max_tokens = Some(65);
    other.sampling.seed = 9;
    other.selection = Selection { limit: Some(2), indices: Vec::new() };
    inputs.dataset.sha256 = "db".repeat(32);
    inputs.protocol.sha256 = "a0".repeat(32);
    let text = message(evaluate(&other, &inputs));
    for difference in [
        "dtypes: was f32,f16, is f32",
        "generation.max_tokens: was 64, is 65",
        "generation.seed: was 0, is 9",
        "dataset.selection: was all, is first 2",
        "dataset.sha256: was dada",
        "protocol.sha256: was ",
    ] {
        assert!(text.contains(difference), "{difference} is not in {text}");
    }
    assert!(!text.contains("\n  command") && !text.contains("\n  model."), "{text}");
    let mut another_model = crate::scripted::inputs();
    let mut source = model(None);
    std::sync::Arc::get_mut(&mut source).unwrap().sha256 = FileHash::known("66".repeat(32));
    another_model.checkpoints = source.into();
    let text = message(evaluate(&EvalJob { resume: true, ..begun }, &another_model));
    assert!(text.contains("model.sha256: was 5c5c"), "{text}");
}

#[test]
fn resuming_with_another_engine_is_refused() {
    let scratch = scratch();
    let inputs = inputs();
    let job = job(scratch.path().join("run"));
    evaluate(&job, &inputs).unwrap();
    fs::write(scratch.path().join("run/f16/journal.jsonl"), "").unwrap();
    let resuming = EvalJob { resume: true, ..job };
    let text =
        message(evaluate_with(&resuming, &inputs, &mut |options| Ok(engine(options.dtype, "2")), &mut |_, _| {}));
    assert!(text.contains("scripted 1") && text.contains("scripted 2"), "{text}");
}

#[test]
fn resuming_on_another_card_is_refused() {
    let scratch = scratch();
    let inputs = inputs();
    let job = job(scratch.path().join("run"));
    let card = "NVIDIA H200, NVRTC 13.0";
    let on = |job: &EvalJob, card: &str| {
        evaluate_with(job, &inputs, &mut |options| Ok(engine_on(options.dtype, "1", Some(card))), &mut |_, _| {})
    };
    on(&job, card).unwrap();
    fs::write(scratch.path().join("run/f16/journal.jsonl"), "").unwrap();
    let resuming = EvalJob { resume: true, ..job };
    let text = message(on(&resuming, "NVIDIA A100, NVRTC 13.0"));
    let part =
        "begun by the engine scripted 1 on NVIDIA H200, NVRTC 13.0 and would go on with scripted 1 on NVIDIA A100";
    assert!(text.contains(part), "{text}");
    on(&resuming, card).unwrap();
}

#[test]
fn a_changed_journal_is_refused() {
    let scratch = scratch();
    let inputs = inputs();
    let job = job(scratch.path().join("run"));
    evaluate(&job, &inputs).unwrap();
    let journal = scratch.path().join("run/f32/journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let first = text.lines().next().unwrap();
    let resuming = EvalJob { resume: true, ..job };
    fs::write(&journal, format!("{text}{first}\n")).unwrap();
    assert!(message(evaluate(&resuming, &inputs)).contains("is there twice"));
    let other = text.replacen("\"prompt_sha256\":\"", "\"prompt_sha256\":\"f", 1);
    fs::write(&journal, &other).unwrap();
    assert!(message(evaluate(&resuming, &inputs)).contains("journal.jsonl:1: damaged line"));
    fs::write(&journal, without_checksums(&other)).unwrap();
    assert!(message(evaluate(&resuming, &inputs)).contains("is not one of this run"));
    fs::write(&journal, format!("{{\"sample\":\n{text}")).unwrap();
    assert!(message(evaluate(&resuming, &inputs)).contains("journal.jsonl:1: damaged line"));
}

#[test]
fn a_folder_is_neither_overwritten_nor_shared() {
    let scratch = scratch();
    let inputs = inputs();
    let folder = scratch.path().join("run");
    let job = job(folder.clone());
    evaluate(&job, &inputs).unwrap();
    assert!(message(evaluate(&job, &inputs)).contains("something in"));
    let plan = RunFolder::read_plan::<evalsuite::jobs::eval::EvalPlan>(&folder).unwrap();
    let (held, _) = RunFolder::resume(&folder, &plan).unwrap();
    let in_use = format!("in use by another evalsuite (process {})", std::process::id());
    assert!(message(evaluate(&EvalJob { resume: true, ..job.clone() }, &inputs)).contains(&in_use));
    assert!(message(evaluate(&job, &inputs)).contains(&in_use));
    drop(held);
    evaluate(&EvalJob { resume: true, ..job }, &inputs).unwrap();
}

#[test]
fn resume_without_a_folder_finds_the_newest_run_of_the_same_plan() {
    let scratch = scratch();
    let inputs = inputs();
    let runs = Destination::Under(scratch.path().to_path_buf());
    let resuming = EvalJob { destination: runs.clone(), resume: true, ..job(PathBuf::new()) };
    assert!(message(evaluate(&resuming, &inputs)).contains("no run under"));
    let begun = EvalJob { destination: runs, ..job(PathBuf::new()) };
    let first = evaluate(&begun, &inputs).unwrap().folder;
    let mut other = begun.clone();
    other.sampling.seed = 5;
    let second = evaluate(&other, &inputs).unwrap().folder;
    assert_ne!(first, second);
    assert_eq!(evaluate(&resuming, &inputs).unwrap().folder, first);
    let mut third = resuming;
    third.sampling.seed = 6;
    assert!(message(evaluate(&third, &inputs)).contains("generation.seed: was 5, is 6"));
}

#[test]
fn one_precision_that_does_not_load_loses_nothing_of_the_others() {
    let scratch = scratch();
    let inputs = inputs();
    let whole = evaluate(&job(scratch.path().join("whole")), &inputs).unwrap();
    let job = job(scratch.path().join("broken"));
    let mut open = |options: &OpenOptions| match options.dtype {
        Dtype::F32 => Err(EngineError::failed("out of memory", "close something")),
        dtype => Ok(engine(dtype, "1")),
    };
    let broken = evaluate_with(&job, &inputs, &mut open, &mut |_, _| {}).unwrap();
    let [(variant, error)] = &broken.failures[..] else { panic!("{:?}", broken.failures) };
    assert_eq!(*variant, Dtype::F32);
    assert_eq!(Exit::from(error), Exit::EngineFailure);
    let (record, table) = broken.results.unwrap();
    assert!(!record.complete);
    assert_eq!((record.dtypes[0].n, record.dtypes[1].n), (0, ROWS));
    assert!(record.dtypes[0].rules[0].accuracy.is_none(), "nothing measured is not 0");
    assert!(table.contains("n/a") && table.contains("f32 did not finish: out of memory"), "{table}");
    assert_eq!(Exit::of_accuracy(&record, 0.0), Exit::BelowMinimum, "no accuracy reaches no minimum");
    evaluate(&EvalJob { resume: true, ..job }, &inputs).unwrap();
    assert_eq!(answers(&broken.folder), answers(&whole.folder));
}

#[test]
fn the_lowest_accuracy_of_any_precision_decides_min_accuracy() {
    let scratch = scratch();
    let finished = evaluate(&job(scratch.path().join("run")), &inputs()).unwrap();
    let (record, _) = finished.results.unwrap();
    let lowest = record.dtypes.iter().map(|dtype| dtype.rules[0].accuracy.unwrap().value).fold(1.0, f64::min) * 100.0;
    assert_eq!(Exit::of_accuracy(&record, lowest), Exit::Success);
    assert_eq!(Exit::of_accuracy(&record, lowest + 0.1), Exit::BelowMinimum);
}

#[test]
fn repeats_count_every_completion_under_its_own_seed() {
    let scratch = scratch();
    let inputs = inputs();
    let mut sampled = job(scratch.path().join("all"));
    sampled.sampling.temperature = 0.7;
    sampled.sampling.repeats = 3;
    let all = evaluate(&sampled, &inputs).unwrap();
    let (record, table) = all.results.unwrap();
    assert_eq!(record.dtypes[0].n, 3 * ROWS);
    assert_eq!(record.dtypes[0].rules[0].accuracy.unwrap().n, 3 * ROWS);
    assert!(table.contains("n counts all 3 completions"), "{table}");
    let lines: Vec<String> = answers(&all.folder).lines().map(str::to_owned).collect();
    let distinct: std::collections::HashSet<&String> = lines.iter().collect();
    assert_eq!(distinct.len(), lines.len());
    let texts = |line: &&String| line.split("seed-").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let f32_seeds: std::collections::HashSet<String> = lines.iter().take(3 * ROWS).map(|line| texts(&line)).collect();
    assert_eq!(f32_seeds.len(), 3 * ROWS, "every repeat of every sample has its own seed");
    // Neither --limit nor --samples changes an answer.
    let some = EvalJob {
        selection: Selection { limit: None, indices: vec![3] },
        destination: Destination::Folder(scratch.path().join("some")),
        ..sampled
    };
    let some = evaluate(&some, &inputs).unwrap();
    for line in answers(&some.folder).lines() {
        assert!(lines.iter().any(|full| full == line), "{line}");
    }
}

/// Hands everything out at once, and then takes steps until it is told to stop.
struct Restless(Box<dyn Engine>);

impl Engine for Restless {
    fn info(&self) -> &EngineInfo {
        self.0.info()
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.0.submit(request)
    }

    fn step(&mut self, events: &mut Vec<EngineEvent>) -> Result<(), EngineError> {
        self.0.step(events)
    }

    fn cancel(&mut self, request: usize) -> bool {
        self.0.cancel(request)
    }

    fn capacity(&self) -> Capacity {
        self.0.capacity()
    }

    fn run(
        &mut self,
        requests: Vec<Request>,
        sink: &mut dyn FnMut(EngineEvent) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.0.run(requests, sink)?;
        let begun = Instant::now();
        while sink(EngineEvent::Step { running: 1, new_tokens: 0, cache_bytes: None }).is_continue() {
            assert!(begun.elapsed() < Duration::from_mins(1), "nobody told the engine that its work is in vain");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

#[test]
fn a_full_disk_stops_the_engine_and_keeps_what_is_done() {
    let scratch = TempDir::new().unwrap();
    let disk = scratch.path().to_str().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=32k", "none", disk]).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        crate::skip::skip("root", "mounting a small tmpfs needs root and the mount command");
        return;
    }
    let inputs = inputs();
    let folder = scratch.path().join("run");
    let mut job = job(folder.clone());
    job.sampling.temperature = 0.7;
    job.sampling.repeats = 50;
    let mut open = |options: &OpenOptions| -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(Restless(engine(options.dtype, "1"))))
    };
    let text = message(evaluate_with(&job, &inputs, &mut open, &mut |_, _| {}));
    assert!(text.contains("cannot write") && text.contains("f32/journal.jsonl"), "{text}");
    assert!(text.contains("disk is full"), "{text}");
    assert!(fs::metadata(folder.join("f32/journal.jsonl")).unwrap().len() > 4000);
    let grown = Command::new("mount").args(["-o", "remount,size=8m", disk]).status().unwrap().success();
    let resumed = evaluate(&EvalJob { resume: true, ..job.clone() }, &inputs).map(|finished| answers(&finished.folder));
    let unmounted = Command::new("umount").args(["-l", disk]).status().unwrap().success();
    assert!(grown && unmounted);
    let elsewhere = crate::run::scratch();
    let job = EvalJob { destination: Destination::Folder(elsewhere.path().join("run")), ..job };
    assert_eq!(resumed.unwrap(), answers(&evaluate(&job, &inputs).unwrap().folder));
}

#[test]
fn prompts_that_would_spoil_a_run_are_found_before_it() {
    let scratch = scratch();
    let folder = scratch.path().join("run");
    let job = job(folder.clone());
    let with_question = |question: &str| {
        let mut dataset = dataset();
        dataset.samples[2].question = question.to_owned();
        inputs_of(model(None), dataset, "direct", ChatUse::Never).unwrap()
    };
    let text = message(evaluate(&job, &with_question(&"seven ".repeat(600))));
    assert!(text.contains("the prompt of sample 2 has") && text.contains("context holds 512"), "{text}");

    let text = message(evaluate(&job, &with_question("<s> and then 7 ?")));
    assert!(text.contains("sample 2 begins with the token <s> (id 1) twice"), "{text}");

    let required = inputs_of(model(None), dataset(), "direct", ChatUse::Required).map(|_| ());
    assert!(message(required).contains("needs a chat template"));
    let auto = inputs_of(model(None), dataset(), "direct", ChatUse::Auto).unwrap();
    assert!(auto.notes[0].contains("no chat template"), "{:?}", auto.notes);
    assert!(!folder.exists(), "nothing was begun");

    let mut notes = Vec::new();
    evaluate_with(&job, &inputs(), &mut |options| Ok(engine(options.dtype, "1")), &mut |event, _| {
        if let Event::Note(note) = event {
            notes.push(note);
        }
    })
    .unwrap();
    assert!(notes.iter().any(|note| note.contains("\"Q:\" stands in 5 of 5 prompts")), "{notes:?}");
}

#[test]
fn show_prompt_gives_text_and_ids_and_begins_nothing() {
    let scratch = scratch();
    let folder = scratch.path().join("run");
    let text = show_prompt(&inputs(), &job(folder.clone()), 3).unwrap().to_string();
    assert!(text.starts_with("Q: 3 and 1000"), "{text}");
    assert!(text.contains("token ids: [1, 2, "), "{text}");
    assert!(!folder.exists());
    assert!(show_prompt(&inputs(), &job(folder.clone()), ROWS).is_err());
    let mut dataset = dataset();
    dataset.samples[3].question = "seven ".repeat(600);
    let inputs = inputs_of(model(None), dataset, "direct", ChatUse::Never).unwrap();
    let text = show_prompt(&inputs, &job(folder), 3).unwrap().to_string();
    assert!(text.starts_with("seven") && text.contains("a run would refuse it: the prompt of sample 3"), "{text}");
}

#[test]
fn reports_fit_their_readers() {
    let scratch = scratch();
    let finished = evaluate(&job(scratch.path().join("run")), &inputs()).unwrap();
    let (record, table) = finished.results.unwrap();
    for (model, dataset) in [("real", "real"), ("bundled", "real"), ("real", "bundled"), ("bundled", "bundled")] {
        let mut record = record.clone();
        record.plan.target.model.source = model.to_owned();
        record.plan.dataset.source = dataset.to_owned();
        let table = render(&record, &Format::Terminal { colour: false }).unwrap();
        for line in table.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
            assert_eq!(line, line.trim_end());
        }
        assert_eq!(table.contains("--model HuggingFaceTB/"), model == "bundled", "{table}");
        assert_eq!(table.contains("--dataset openai/gsm8k"), dataset == "bundled", "{table}");
        assert!(!table.contains("\n\n\n"), "{table}");
    }
    assert!(!table.contains('\u{1b}'), "no colours were asked for");
    assert!(!table.contains("bundled"), "{table}");
    assert!(table.contains("Against f32"), "{table}");
    let colours = render(&record, &Format::Terminal { colour: true }).unwrap();
    assert!(colours.contains('\u{1b}'));
    assert_eq!(console::strip_ansi_codes(&colours), table);
    let markdown = render(&record, &Format::Markdown).unwrap();
    assert!(markdown.contains("| f16 |") && !markdown.contains("\n\n\n"), "{markdown}");
    let json: EvalRecord = serde_json::from_str(&render(&record, &Format::Json).unwrap()).unwrap();
    assert_eq!(json, record);
    let own = Format::Custom {
        name: "own".to_owned(),
        template: "{% for row in accuracies %}{{ row.dtype }} {{ row.n }};{% endfor %}".to_owned(),
    };
    assert!(render(&record, &own).unwrap().starts_with("f32 5;"));
    let broken = Format::Custom { name: "own.md".to_owned(), template: "{{ nothing.here }}".to_owned() };
    let text = render(&record, &broken).unwrap_err().to_string();
    assert!(text.contains("template own.md") && text.contains("hint: "), "{text}");
}

#[test]
fn without_f32_the_table_says_that_there_is_no_ground_truth() {
    let scratch = scratch();
    let inputs = inputs();
    let alone = EvalJob { target: target("scripted", &[Dtype::F16, Dtype::Bf16]), ..job(scratch.path().join("run")) };
    let (record, table) = evaluate(&alone, &inputs).unwrap().results.unwrap();
    assert!(table.contains("no ground truth"), "{table}");
    assert!(record.dtypes.iter().flat_map(|dtype| &dtype.rules).all(|rule| rule.against.is_none()));
}

#[test]
fn a_record_of_another_format_is_refused() {
    let scratch = scratch();
    let finished = evaluate(&job(scratch.path().join("run")), &inputs()).unwrap();
    let path = finished.folder.join("record.json");
    let text = fs::read_to_string(&path).unwrap().replacen("\"format\": 2", "\"format\": 3", 1);
    fs::write(&path, without_checksums(&text)).unwrap();
    let text = EvalRecord::read(&path).unwrap_err().to_string();
    assert!(text.contains("format 3") && text.contains("reads formats up to 2"), "{text}");
}

#[test]
fn rescoring_applies_another_protocols_rules_to_the_same_answers() {
    let scratch = scratch();
    let file = scratch.path().join("problems.jsonl");
    let line = |sample: &evalsuite::task::Sample| {
        serde_json::json!({"question": sample.question, "answer": sample.answer}).to_string() + "\n"
    };
    fs::write(&file, dataset().samples.iter().map(line).collect::<String>()).unwrap();
    let hub = Hub::from_environment(true).unwrap();
    let spec = DatasetSpec {
        source: file.display().to_string(),
        split: "test".to_owned(),
        revision: "main".to_owned(),
        sha256: None,
    };
    let dataset = Dataset::open(&spec, &hub).unwrap();
    let inputs = inputs_of(model(None), dataset, "gsm8k-cot-zeroshot", ChatUse::Never).unwrap();
    let job = EvalJob { dataset: spec, ..job(scratch.path().join("run")) };
    let finished = evaluate(&job, &inputs).unwrap();
    let (original, _) = finished.results.unwrap();

    let Rescored { record: same, file: path, folder } =
        rescore(&finished.folder, "gsm8k-cot-zeroshot", &hub, None).unwrap();
    assert_eq!(path, finished.folder.join("rescore-gsm8k-cot-zeroshot.json"));
    assert_eq!(EvalRecord::read(&path).unwrap(), same);
    let rules = |record: &EvalRecord| record.dtypes.iter().map(|dtype| dtype.rules.clone()).collect::<Vec<_>>();
    assert_eq!(rules(&same), rules(&original));
    assert_eq!(same.dtypes[0].output_tokens_per_second, original.dtypes[0].output_tokens_per_second);
    // Under the same rules the folder of its own says what the run's says.
    assert_eq!(folder, scratch.path().join("run-rescored-gsm8k-cot-zeroshot"));
    let stored = EvalRecord::read(&folder.join("record.json")).unwrap();
    assert_eq!(stored.answers_sha256, original.answers_sha256);
    assert_eq!(
        fs::read(folder.join("answers.jsonl")).unwrap(),
        fs::read(finished.folder.join("answers.jsonl")).unwrap()
    );
    assert_eq!(
        fs::read(folder.join("samples.jsonl")).unwrap(),
        fs::read(finished.folder.join("samples.jsonl")).unwrap()
    );
    assert_eq!(stored.generated_under.as_ref(), Some(&original.plan.protocol));
    let again = rescore(&folder, "gsm8k", &hub, Some(&scratch.path().join("again"))).unwrap();
    assert_eq!(again.record.generated_under, stored.generated_under, "what made the answers stays");
    assert!(message(rescore(&folder, "gsm8k", &hub, Some(&folder))).contains("there is something in"));
    // It is no run to go on with: its answers are another protocol's.
    let plan = RunFolder::read_plan::<EvalPlan>(&folder).unwrap();
    assert_eq!(plan.differences(&original.plan).unwrap()[0].field, "generated_under");

    let other = rescore(&finished.folder, "gsm8k", &hub, None).unwrap().record;
    assert_eq!(other.dtypes[0].rules[0].extracted, 0, "no answer of the script ends in ####");
    assert!(other.notes[0].contains("gsm8k-cot-zeroshot"), "{:?}", other.notes);
    // The header names what the answers were made with, and apart from it whose rules scored them.
    for (format, lines) in [
        (
            Format::Terminal { colour: false },
            ["protocol  gsm8k-cot-zeroshot (version 2), plain text", "rules     gsm8k (version 2)"],
        ),
        (
            Format::Markdown,
            ["| protocol | gsm8k-cot-zeroshot (version 2), plain text |", "| rules | gsm8k (version 2) |"],
        ),
    ] {
        let table = render(&other, &format).unwrap();
        assert!(lines.iter().all(|line| table.lines().any(|own| own == *line)), "{table}");
        assert!(!render(&original, &format).unwrap().contains("rules"), "an ordinary run has one protocol");
    }

    fs::write(&file, "{\"question\":\"?\",\"answer\":\"#### 1\"}\n").unwrap();
    assert!(message(rescore(&finished.folder, "gsm8k", &hub, None)).contains("have changed since the run"));
}
