//! `--until`: a verdict in as few questions as it takes, on the scripted engine of `scripted.rs`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use evalsuite::compare::Comparison;
use evalsuite::engine::{Capacity, Dtype, Engine, EngineError, EngineInfo, Event as EngineEvent, OpenOptions, Request};
use evalsuite::jobs::Event;
use evalsuite::jobs::eval::{EvalInputs, EvalJob, EvalRecord, StoredRun, Until, UntilRecord};
use evalsuite::record::{Glance, RunFolder, RunStatus, read_journal};
use evalsuite::score::Shown;
use evalsuite::task::{ChatUse, Dataset, Sample};

use crate::program::{evalsuite, text};
use crate::run::scratch;
use crate::scripted::{dataset, engine, evaluate, evaluate_with, inputs_of, job, model, target};

/// Of so many, f16 answers every third wrongly and bf16 none.
const ROWS: usize = 400;

fn inputs() -> EvalInputs {
    inputs_with(|_| None)
}

fn inputs_with(cluster: impl Fn(usize) -> Option<String>) -> EvalInputs {
    let sample = |index: usize| {
        let question = format!("{index} and 1000 less 900 , times ten ?");
        Sample { cluster: cluster(index), ..Sample::new(index, question, format!("It is so.\n#### {}0", index + 100)) }
    };
    let dataset = Dataset { samples: (0..ROWS).map(sample).collect(), ..dataset() };
    inputs_of(model(None), dataset, "gsm8k-cot-zeroshot", ChatUse::Never).unwrap()
}

fn until(folder: PathBuf) -> EvalJob {
    EvalJob {
        until: Some(Until { margin_points: 2.0 }),
        rule: None,
        target: target("scripted", &[Dtype::F32, Dtype::F16, Dtype::Bf16]),
        ..job(folder)
    }
}

/// By the rule that the script's answers are read by.
fn flexible(inputs: EvalInputs) -> EvalInputs {
    let mut inputs = inputs;
    let name = inputs.protocol.rule_names().into_iter().find(|name| name.starts_with("flexible")).unwrap();
    inputs.protocol.set_headline(&name).unwrap();
    inputs
}

fn shown(record: &EvalRecord) -> Vec<(String, Shown, usize)> {
    let until: &UntilRecord = record.until.as_ref().unwrap();
    until.variants.iter().map(|one| (one.variant.to_string(), one.shown, one.questions)).collect()
}

#[test]
fn a_run_ends_when_each_variant_is_shown_to_be_worse_or_no_worse_and_says_so() {
    let scratch = scratch();
    let inputs = flexible(inputs());
    let job = until(scratch.path().join("run"));
    let finished = evaluate(&job, &inputs).unwrap();
    let (record, table) = finished.results.unwrap();
    let found = shown(&record);
    let [(_, Shown::Worse, of_f16), (_, Shown::NoWorse, 212)] = &found[..] else { panic!("{found:?}") };
    assert!((10..60).contains(of_f16), "a third is lost: {found:?}");
    // The block that shows it is asked to its end: the engine's two, or 64 before any is open.
    assert_eq!(record.dtypes.iter().map(|dtype| dtype.n).collect::<Vec<_>>(), [212, 64, 212]);
    assert!(!record.complete);
    let words = crate::program::flowing(&table);
    assert!(
        words.contains("bf16 is no worse than f32 by more than 2 points, shown by 212 of 400 questions"),
        "{table}"
    );
    assert!(words.contains(&format!("f16 is worse than f32, shown by {of_f16} of 400 questions")), "{table}");
    assert!(
        words.contains("bf16 no worse 212 400 0 0 +0.0") || words.contains("bf16 no worse 212 400 0 0 0.0"),
        "{table}"
    );
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(record.notes.iter().any(|note| note.starts_with("--until ended the run after 212 of 400")), "{record:?}");
    assert_eq!(Glance::read(&finished.folder).unwrap().status, RunStatus::Decided);
    // The questions are no first rows.
    let run = StoredRun::read(&finished.folder).unwrap();
    let asked: Vec<usize> = run.completions[1].1.iter().map(|one| one.sample).collect();
    assert!(asked.iter().any(|row| *row > ROWS / 2) && asked.iter().any(|row| *row < ROWS / 2), "{asked:?}");
    assert_eq!(run.record.until, record.until);
    let verdict = Comparison::new(std::slice::from_ref(&run), Vec::new(), None, Vec::new()).verdict;
    assert!(verdict.contains("bf16 is no worse than f32 by more than 2 points, shown by 212 of 400"), "{verdict}");
    // What was shown is shown: the same command asks nothing more, and opens no engine.
    let again = EvalJob { resume: true, ..job };
    let mut opened = 0;
    let open = &mut |options: &OpenOptions| {
        opened += 1;
        Ok(engine(options.dtype, "1"))
    };
    let (second, _) = evaluate_with(&again, &inputs, open, &mut |_, _| {}).unwrap().results.unwrap();
    assert_eq!((second.until, opened), (record.until, 0));
}

#[test]
fn a_run_that_was_ended_resumes_to_the_full_set() {
    let scratch = scratch();
    let inputs = flexible(inputs());
    let ended = until(scratch.path().join("run"));
    evaluate(&ended, &inputs).unwrap();
    let full = EvalJob { until: None, resume: true, ..ended.clone() };
    let finished = evaluate(&full, &inputs).unwrap();
    let (record, table) = finished.results.unwrap();
    assert!(record.complete && record.until.is_none());
    assert!(record.dtypes.iter().all(|dtype| dtype.n == ROWS && dtype.sessions.len() == 2));
    assert!(table.contains("f16 is worse than f32 (-33.5 points, 95 % interval"), "{table}");
    let whole = EvalJob { until: None, ..until(scratch.path().join("whole")) };
    let whole = evaluate(&whole, &inputs).unwrap();
    let answers = |folder: &std::path::Path| std::fs::read(folder.join("answers.jsonl")).unwrap();
    assert_eq!(answers(&finished.folder), answers(&whole.folder));
    assert_eq!(Glance::read(&finished.folder).unwrap().status, RunStatus::Complete);
}

#[test]
fn an_interrupted_run_goes_on_to_the_verdict_of_an_uninterrupted_one() {
    let scratch = scratch();
    let inputs = flexible(inputs());
    let whole = evaluate(&until(scratch.path().join("whole")), &inputs).unwrap().results.unwrap().0;
    let broken = until(scratch.path().join("broken"));
    let opened = RefCell::new(Vec::new());
    let open = &mut |options: &OpenOptions| {
        opened.borrow_mut().push(options.dtype);
        Ok(engine(options.dtype, "1"))
    };
    let finished = evaluate_with(&broken, &inputs, open, &mut |event, flag| {
        // In the middle of a block.
        if matches!(event, Event::Progress(progress) if progress.completed == 71) {
            flag.store(true, Ordering::Relaxed);
        }
    });
    assert!(finished.unwrap().results.is_none());
    assert_eq!(*opened.borrow(), [Dtype::F32, Dtype::F16, Dtype::Bf16], "each once");
    let resumed = EvalJob { resume: true, ..broken };
    let (record, _) = evaluate(&resumed, &inputs).unwrap().results.unwrap();
    assert_eq!(record.until, whole.until);
    assert!(record.dtypes[0].sessions.iter().all(|session| session.generate_seconds.is_some()));
}

#[test]
fn a_variant_that_fails_leaves_the_others_their_verdict_and_the_reference_ends_the_run() {
    let scratch = scratch();
    let inputs = flexible(inputs());
    let failing = |dtype: Dtype, folder: &str| {
        let open = &mut |options: &OpenOptions| {
            if options.dtype == dtype {
                Err(EngineError::invalid("no such card", "buy one"))
            } else {
                Ok(engine(options.dtype, "1"))
            }
        };
        let finished = evaluate_with(&until(scratch.path().join(folder)), &inputs, open, &mut |_, _| {}).unwrap();
        (Glance::read(&finished.folder).unwrap().status, finished.failures.len(), finished.results.unwrap())
    };
    let (status, failures, (record, table)) = failing(Dtype::F16, "other");
    assert_eq!((status, failures), (RunStatus::Incomplete, 1));
    assert_eq!(shown(&record)[1], ("bf16".to_owned(), Shown::NoWorse, 212));
    assert!(table.contains("f16 did not finish"), "{table}");
    let (_, failures, (record, _)) = failing(Dtype::F32, "reference");
    assert_eq!(failures, 1);
    assert!(record.dtypes.iter().all(|dtype| dtype.n == 0), "nothing can be compared");
}

#[test]
fn questions_of_one_cluster_are_asked_together_and_count_once() {
    let scratch = scratch();
    let inputs = flexible(inputs_with(|row| Some(format!("template {}", row / 2))));
    let (record, _) = evaluate(&until(scratch.path().join("run")), &inputs).unwrap().results.unwrap();
    let found = shown(&record);
    // 200 pairs are worth 200 questions, and these are too few to show it.
    assert_eq!((found[1].1, found[1].2), (Shown::Nothing, ROWS));
    assert_eq!(record.until.as_ref().unwrap().variants[1].answers, ROWS);
    assert!(found[0].2.is_multiple_of(2) && found[0].1 == Shown::Worse, "{found:?}");
}

#[test]
fn without_a_reference_there_is_nothing_to_show() {
    let scratch = scratch();
    for dtypes in [&[Dtype::F16, Dtype::Bf16][..], &[Dtype::F32]] {
        let job = EvalJob { target: target("scripted", dtypes), ..until(scratch.path().join("run")) };
        let error = evaluate(&job, &inputs()).unwrap_err().to_string();
        assert!(error.contains("--until compares variants with a reference") && error.contains("hint: "), "{error}");
        assert!(!scratch.path().join("run").exists(), "no folder is left behind");
    }
}

#[test]
fn the_program_exits_with_1_unless_nothing_is_shown_to_be_worse() {
    let scratch = scratch();
    let arguments =
        ["gsm8k", "--engine", "cpu", "--dtype", "f32,f16", "--limit", "3", "--max-tokens", "4", "--out", "run"];
    let run = |more: &[&str]| {
        let output = evalsuite().current_dir(scratch.path()).args(arguments).args(more).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, table, said) = run(&["--until", "no worse than 2"]);
    assert_eq!(code, Some(1), "{said}");
    let words = crate::program::flowing(&table);
    assert!(words.contains("Until no worse than 2 points"), "{table}");
    assert!(said.contains("right on any of 3 questions"), "{said}");
    // All of them are asked: there is no rest.
    let (code, _, said) = run(&["--resume"]);
    assert_eq!(code, Some(0), "{said}");
}

/// How long a look at the meter takes.
const METER: Duration = Duration::from_millis(20);

/// The scripted engine with a meter that a step moves by one joule.
struct Metered {
    engine: Box<dyn Engine>,
    joules: f64,
}

impl Engine for Metered {
    fn info(&self) -> &EngineInfo {
        self.engine.info()
    }

    fn joules(&self) -> Option<f64> {
        // As a driver's library that has to start first.
        std::thread::sleep(METER);
        Some(self.joules)
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.engine.submit(request)
    }

    fn step(&mut self, events: &mut Vec<EngineEvent>) -> Result<(), EngineError> {
        self.joules += 1.0;
        self.engine.step(events)
    }

    fn cancel(&mut self, request: usize) -> bool {
        self.engine.cancel(request)
    }

    fn capacity(&self) -> Capacity {
        self.engine.capacity()
    }
}

#[test]
fn the_blocks_of_a_session_add_up_in_time_and_energy() {
    let scratch = scratch();
    let inputs = flexible(inputs());
    // The meter stands anywhere when the engine is opened.
    let open = &mut |options: &OpenOptions| {
        let metered: Box<dyn Engine> = Box::new(Metered { engine: engine(options.dtype, "1"), joules: 1000.0 });
        Ok(metered)
    };
    let finished = evaluate_with(&until(scratch.path().join("run")), &inputs, open, &mut |_, _| {}).unwrap();
    let run = StoredRun::read(&finished.folder).unwrap();
    for (dtype, (_, completions)) in run.record.dtypes.iter().zip(&run.completions) {
        let [session] = &dtype.sessions[..] else { panic!("{} sessions", dtype.sessions.len()) };
        // An answer a step, in every block.
        assert_eq!(session.joules, Some(dtype.n as f64), "{}", dtype.dtype);
        let right = dtype.rule(run.record.headline()).unwrap().accuracy.unwrap().successes as f64;
        let cost = dtype.rule(run.record.headline()).unwrap().cost.unwrap();
        assert!((cost.joules_per_right.unwrap() - dtype.n as f64 / right).abs() < 1e-9);
        assert!((cost.seconds_per_right.unwrap() - dtype.generate_seconds.unwrap() / right).abs() < 1e-9);
        // Looks at the meter, two a block, are no generating: once the first of a run, which starts NVML, counted as the reference's.
        assert!(session.generate_seconds.unwrap() < 20.0 * METER.as_secs_f64(), "{:?}", session.generate_seconds);
        // Each block goes on where the one before it ended.
        let latest = completions.iter().map(|one| one.at_seconds).fold(0.0, f64::max);
        assert!(latest <= session.generate_seconds.unwrap(), "{latest}");
        let mut journal = read_journal(&RunFolder::journal_path(&finished.folder, &dtype.dtype)).unwrap().values;
        let in_order: Vec<f64> = journal.drain(..).map(|one| one.at_seconds).collect();
        assert!(in_order[0] > 0.0 && in_order.is_sorted(), "{in_order:?}");
    }
    let ratio = run.record.dtypes[2].rule(run.record.headline()).unwrap().cost.unwrap().joules_ratio.unwrap();
    assert!((ratio.value - 1.0).abs() < 1e-9, "bf16 answers as f32 does: {ratio:?}");
}
