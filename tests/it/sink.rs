//! What it costs an engine to hand out its completions: time in the sink is time in which a GPU has nothing to do.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evalsuite::engine::{
    Capacity, Completion, Dtype, Engine, EngineError, EngineInfo, Event, Finish, OpenOptions, Request, Timings,
};
use evalsuite::jobs::Event as RunEvent;
use evalsuite::jobs::eval::EvalJob;
use evalsuite::task::{ChatUse, Dataset, Sample};

use crate::scripted::{dataset, engine, evaluate_with, inputs_of, job, model, target};

/// As many as GSM8K's test split has.
const REQUESTS: usize = 1319;

/// Tokens of every completion.
const TOKENS: usize = 256;

/// Rounds of which the median is told.
const ROUNDS: usize = 7;

/// Completes its requests evenly over some steps, as fast as the sink takes them, and tells what that took.
struct Burst {
    info: EngineInfo,
    steps: usize,
    told: Arc<Mutex<Option<(Duration, Instant)>>>,
}

impl Engine for Burst {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn submit(&mut self, _: Request) -> Result<(), EngineError> {
        unreachable!("whole runs only")
    }

    fn step(&mut self, _: &mut Vec<Event>) -> Result<(), EngineError> {
        unreachable!("whole runs only")
    }

    fn cancel(&mut self, _: usize) -> bool {
        false
    }

    fn capacity(&self) -> Capacity {
        Capacity::default()
    }

    fn run(
        &mut self,
        requests: Vec<Request>,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let a_step = requests.len().div_ceil(self.steps);
        let mut in_sink = Duration::ZERO;
        for (step, ending) in requests.chunks(a_step).enumerate() {
            let running = requests.len() - step * a_step;
            let completed: Vec<Event> = ending.iter().map(|request| Event::Completed(completion(request.id))).collect();
            let begun = Instant::now();
            let new_tokens = (ending.len() * TOKENS) as u64;
            let _ = sink(Event::Step { running, new_tokens, cache_bytes: None });
            for event in completed {
                let _ = sink(event);
            }
            in_sink += begun.elapsed();
        }
        *self.told.lock().unwrap() = Some((in_sink, Instant::now()));
        Ok(())
    }
}

/// A worked answer of the length that a small model writes.
fn completion(request: usize) -> Completion {
    let line = |n: usize| format!("Step {n}: {} books and {n} more are {} + {n} = {} books.\n", n * 7, n * 7, n * 8);
    Completion {
        request,
        token_ids: (0..TOKENS as u32).map(|n| (n * 7919 + request as u32) % 49_152).collect(),
        text: format!("{}So the answer is {}.", (1..20).map(line).collect::<String>(), request),
        thought: None,
        finish: Finish::EndOfSequence,
        details: Vec::new(),
        top_tokens: Vec::new(),
        timings: Timings { queued_seconds: 0.0, first_token_seconds: 0.001, total_seconds: 0.002 },
        cached_tokens: 0,
        server: None,
    }
}

/// One run into a folder on the disk, its completions spread over `steps`: milliseconds in the sink, and from the engine's
/// end until the journal is on the disk.
fn round(steps: usize) -> (f64, f64) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let sample = |index| Sample { index, ..dataset().samples[0].clone() };
    let dataset = Dataset { samples: (0..REQUESTS).map(sample).collect(), rows: REQUESTS, ..dataset() };
    let inputs = inputs_of(model(None), dataset, "gsm8k-cot-zeroshot", ChatUse::Never).unwrap();
    let job = EvalJob { target: target("scripted", &[Dtype::F16]), ..job(folder.path().join("run")) };
    let told = Arc::new(Mutex::new(None));
    let mut open = |options: &OpenOptions| -> Result<Box<dyn Engine>, EngineError> {
        let info = engine(options.dtype, "1").info().clone();
        Ok(Box::new(Burst { info, steps, told: Arc::clone(&told) }))
    };
    let mut journalled = None;
    let mut tell = |event, _: &AtomicBool| {
        if let RunEvent::Ended(_) = event {
            journalled = Some(Instant::now());
        }
    };
    let (record, _) = evaluate_with(&job, &inputs, &mut open, &mut tell).unwrap().results.unwrap();
    assert_eq!(record.dtypes[0].n, REQUESTS);
    let (in_sink, ended) = told.lock().unwrap().unwrap();
    (in_sink.as_secs_f64() * 1e3, (journalled.unwrap() - ended).as_secs_f64() * 1e3)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `cargo test --release --test it sink:: -- --ignored --nocapture`
#[test]
#[ignore = "measures: run it alone"]
fn what_a_completion_costs_its_engine() {
    for steps in [1, 16, 256] {
        let (in_sink, tail): (Vec<f64>, Vec<f64>) = (0..ROUNDS).map(|_| round(steps)).unzip();
        let (in_sink, tail) = (median(in_sink), median(tail));
        println!(
            "{REQUESTS} completions of {TOKENS} tokens within {steps:>3} steps: {in_sink:.1} ms in the sink ({:.1} µs each), \
             journal on disk {tail:.1} ms after the engine's end",
            in_sink * 1e3 / REQUESTS as f64,
        );
    }
}
