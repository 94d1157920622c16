//! A GPU that fails while it generates, in the place of which a scripted engine fails: what is done is kept, and the CPU goes on where it is to.

use evalsuite::engine::{Capacity, Dtype, Engine, EngineError, EngineInfo, EngineKind, Event, Request};
use evalsuite::golden::{Origin, RecipeSource, candidates};
use evalsuite::jobs::eval::FindingKind;
use evalsuite::jobs::{Event as RunEvent, OnGpuFailure};

use crate::program::{evalsuite, mistake, text};
use crate::scripted::{ROWS, engine, engine_on, evaluate, evaluate_with, inputs, job};

/// An engine on a GPU that is lost behind so many answers of a run; a look at its speed before that has fewer requests.
struct Lost {
    engine: Box<dyn Engine>,
    left: usize,
    has_begun: bool,
}

impl Engine for Lost {
    fn info(&self) -> &EngineInfo {
        self.engine.info()
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.engine.submit(request)?;
        self.has_begun |= self.engine.capacity().running == ROWS;
        Ok(())
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if !self.has_begun {
            return self.engine.step(events);
        }
        let Some(left) = self.left.checked_sub(1) else {
            return Err(EngineError::failed("the GPU could not copy: CUDA_ERROR_OUT_OF_MEMORY", "end other programs"));
        };
        self.left = left;
        self.engine.step(events)
    }

    fn cancel(&mut self, request: usize) -> bool {
        self.engine.cancel(request)
    }

    fn capacity(&self) -> Capacity {
        self.engine.capacity()
    }
}

fn lost_after(answers: usize, dtype: Dtype) -> Box<dyn Engine> {
    Box::new(Lost { engine: engine_on(dtype, "on a GPU", Some("sm_90")), left: answers, has_begun: false })
}

#[test]
fn a_gpu_that_fails_keeps_what_is_done_and_names_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path().join("run"));
    let mut failing = |options: &evalsuite::engine::OpenOptions| Ok(lost_after(2, options.dtype));
    let finished = evaluate_with(&job, &inputs(), &mut failing, &mut |_, _| {}).unwrap();
    let [(_, f32), _] = &finished.failures[..] else { panic!("both failed: {:?}", finished.failures) };
    // The scripted engine answers the last request first.
    let said = f32.to_string();
    assert!(said.starts_with("after 2 of 5 answers, at sample 0 and 2 beside it: the GPU could not copy"), "{said}");
    assert!(f32.is_engine_failure());
    let (record, _) = finished.results.unwrap();
    assert_eq!(record.dtypes[0].n, 2);
    // On a GPU of the same kind it goes on.
    job.resume = true;
    let mut whole = |options: &evalsuite::engine::OpenOptions| Ok(engine_on(options.dtype, "on a GPU", Some("sm_90")));
    let (record, _) = evaluate_with(&job, &inputs(), &mut whole, &mut |_, _| {}).unwrap().results.unwrap();
    assert_eq!((record.dtypes[0].n, record.dtypes[0].sessions.len()), (ROWS, 2));
    assert!(!record.findings.iter().any(|finding| finding.kind == FindingKind::SeveralEngines));
}

#[test]
fn the_cpu_goes_on_where_it_is_to_and_the_record_says_whose_answers_are_whose() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path().join("run"));
    job.target.on_gpu_failure = OnGpuFailure::Cpu;
    job.target.engine = EngineKind::Auto;
    let mut opened = Vec::new();
    let mut open = |options: &evalsuite::engine::OpenOptions| {
        opened.push((options.dtype, options.kind));
        // f32's GPU fails; f16's does not.
        Ok(match (options.kind == EngineKind::Cpu, options.dtype) {
            (true, dtype) => engine(dtype, "on the CPU"),
            (false, Dtype::F32) => lost_after(2, Dtype::F32),
            (false, dtype) => engine_on(dtype, "on a GPU", Some("sm_90")),
        })
    };
    let mut notes = Vec::new();
    let finished = evaluate_with(&job, &inputs(), &mut open, &mut |event, _| {
        if let RunEvent::Note(note) = event {
            notes.push(note);
        }
    });
    let (record, report) = finished.unwrap().results.unwrap();
    assert_eq!(opened, [(Dtype::F32, EngineKind::Auto), (Dtype::F32, EngineKind::Cpu), (Dtype::F16, EngineKind::Auto)]);
    let note = notes.iter().find(|note| note.contains("goes on")).unwrap();
    assert!(note.contains("at sample 0") && note.contains("the CPU goes on with 3 requests"), "{note}");

    let [f32, f16] = &record.dtypes[..] else { panic!("two variants") };
    assert_eq!((f32.n, f32.sessions.len(), f32.failure.as_ref()), (ROWS, 2, None));
    assert_eq!((f16.n, f16.sessions.len()), (ROWS, 1));
    let versions: Vec<&str> = f32.sessions.iter().map(|session| session.engine.version.as_str()).collect();
    assert_eq!(versions, ["on a GPU", "on the CPU"]);
    assert!(f32.sessions.iter().all(|session| session.generate_seconds.is_some()), "both were measured");
    let mixed: Vec<_> = record.findings.iter().filter(|finding| finding.kind == FindingKind::SeveralEngines).collect();
    let [mixed] = mixed[..] else { panic!("one finding, of f32: {mixed:?}") };
    assert_eq!(mixed.variant.as_ref(), Some(&f32.dtype));
    assert!(mixed.what.starts_with("2 answers are of scripted on a GPU, 3 of scripted on the CPU"), "{}", mixed.what);
    assert!(report.replace("\n  ", " ").contains("2 answers are of scripted on a GPU"), "{report}");

    // The same answers as of one engine, for the script is one.
    let whole = tempfile::tempdir().unwrap();
    let other = crate::scripted::job(whole.path().join("run"));
    evaluate(&other, &inputs()).unwrap();
    let answers = |folder: &tempfile::TempDir| std::fs::read(folder.path().join("run/answers.jsonl")).unwrap();
    assert_eq!(answers(&folder), answers(&whole));

    let origin = Origin { recipe: RecipeSource::Command(&[]), protocol: None };
    let golden = candidates(&folder.path().join("run"), origin).unwrap();
    let refused = golden[0].1.as_ref().unwrap_err().to_string();
    assert!(refused.contains("golden outputs are one engine's") && golden[1].1.is_ok(), "{refused}");
}

#[test]
fn a_failure_of_the_cpu_or_of_the_file_is_not_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path().join("run"));
    job.target.on_gpu_failure = OnGpuFailure::Cpu;
    let mut opened = 0;
    let mut open = |options: &evalsuite::engine::OpenOptions| {
        opened += 1;
        Ok(Box::new(Lost { engine: engine(options.dtype, "1"), left: 1, has_begun: false }) as Box<dyn Engine>)
    };
    let finished = evaluate_with(&job, &inputs(), &mut open, &mut |_, _| {}).unwrap();
    assert_eq!((finished.failures.len(), opened), (2, 2));
    assert!(finished.failures[0].1.to_string().starts_with("the GPU could not copy"), "no GPU, no step to name");
}

#[test]
fn an_unknown_action_is_refused() {
    let output = evalsuite().args(["gsm8k", "--on-gpu-failure", "cpus"]).output().unwrap();
    let message = mistake(&output);
    assert!(message.contains("unknown action `cpus`") && message.contains("did you mean `cpu`?"), "{message}");
    let help = evalsuite().args(["quality", "--help"]).output().unwrap();
    assert!(text(&help.stdout).contains("--on-gpu-failure <ACTION>"));
}
