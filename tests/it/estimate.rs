//! How long a run is said to take: before it begins, and while it runs.

use std::time::{Duration, Instant};

use evalsuite::engine::{
    Capacity, Completion, Dtype, Engine, EngineError, EngineInfo, Event, Finish, Request, Timings, Work,
};
use evalsuite::jobs::Event as RunEvent;
use evalsuite::jobs::eval::EvalJob;
use evalsuite::task::Dataset;

use crate::run::scratch;
use crate::scripted::{ROWS, dataset, engine, evaluate_with, inputs, inputs_of, job, model};

#[test]
fn an_estimate_is_told_before_each_variant_for_all_that_are_left() {
    let scratch = scratch();
    let mut told = Vec::new();
    let mut loaded = 0;
    evaluate_with(
        &job(scratch.path().join("run")),
        &inputs(),
        &mut |options| Ok(engine(options.dtype, "1")),
        &mut |event, _| match event {
            RunEvent::Loaded { .. } => loaded += 1,
            RunEvent::Estimate(estimate) => {
                let (expected, most) = (estimate.expected.unwrap(), estimate.most);
                assert!(expected.0 <= most.0 as f64 && expected.1 <= most.1 && most.1.is_finite());
                let name = estimate.variant.to_string();
                told.push((
                    loaded,
                    name,
                    estimate.variants,
                    estimate.completions,
                    estimate.by_variant,
                    expected.0,
                    most.0,
                ));
            }
            _ => (),
        },
    )
    .unwrap();
    // The second is expected to be as the first was, three tokens each.
    let first = (1, "f32".to_owned(), 2, 2 * ROWS, false, told[0].5, 64);
    assert_eq!(told, [first, (2, "f16".to_owned(), 1, ROWS, true, 3.0, 64)]);
    // What is there already is not estimated.
    let resumed = EvalJob { resume: true, ..job(scratch.path().join("run")) };
    evaluate_with(&resumed, &inputs(), &mut |options| Ok(engine(options.dtype, "1")), &mut |event, _| {
        assert!(!matches!(event, RunEvent::Estimate(_)));
    })
    .unwrap();
}

const SLOTS: usize = 4;
const STEP: Duration = Duration::from_millis(15);
/// Tokens of a request that is free to end.
const TOKENS: usize = 40;

/// Gives every running request a token a step, and every step takes the same time.
struct Metronome {
    info: EngineInfo,
    requests: Vec<(Request, usize)>,
}

impl Engine for Metronome {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.requests.push((request, 0));
        Ok(())
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        std::thread::sleep(STEP);
        let new_tokens = self.requests.len().min(SLOTS) as u64;
        self.requests.iter_mut().take(SLOTS).for_each(|(_, tokens)| *tokens += 1);
        self.requests.retain(|(request, tokens)| {
            let Work::Generate(options) = &request.work else { panic!("it only generates") };
            let goes_on = *tokens < if options.ignore_eos { options.max_tokens } else { TOKENS };
            if !goes_on {
                events.push(Event::Completed(completion(request.id)));
            }
            goes_on
        });
        events.push(Event::Step { running: self.requests.len().min(SLOTS), new_tokens, cache_bytes: None });
        Ok(())
    }

    fn cancel(&mut self, request: usize) -> bool {
        let before = self.requests.len();
        self.requests.retain(|(waiting, _)| waiting.id != request);
        self.requests.len() < before
    }

    fn capacity(&self) -> Capacity {
        Capacity { running: self.requests.len(), free_slots: SLOTS, ..Capacity::default() }
    }
}

fn completion(request: usize) -> Completion {
    Completion {
        request,
        token_ids: vec![2; TOKENS],
        text: "The answer is 7.".to_owned(),
        thought: None,
        finish: Finish::EndOfSequence,
        details: Vec::new(),
        top_tokens: Vec::new(),
        timings: Timings::default(),
        cached_tokens: 0,
        server: None,
    }
}

/// An engine of known speed takes as long as it was said to, and says so all the while: as nearly as a busy machine wakes sleepers.
#[test]
fn what_is_told_comes_true() {
    let scratch = scratch();
    let samples = (0..3)
        .flat_map(|_| dataset().samples)
        .enumerate()
        .map(|(index, sample)| evalsuite::task::Sample { index, ..sample });
    let inputs = {
        let dataset = Dataset { samples: samples.collect(), rows: 3 * ROWS, ..dataset() };
        inputs_of(model(None), dataset, "gsm8k-cot-zeroshot", evalsuite::task::ChatUse::Never).unwrap()
    };
    let mut open = |options: &evalsuite::engine::OpenOptions| -> Result<Box<dyn Engine>, EngineError> {
        let info = EngineInfo { batch: SLOTS, ..engine(options.dtype, "1").info().clone() };
        Ok(Box::new(Metronome { info, requests: Vec::new() }))
    };
    let mut estimates = Vec::new();
    let (mut begun, mut remaining) = (Instant::now(), Vec::new());
    let mut took = Vec::new();
    evaluate_with(&job(scratch.path().join("run")), &inputs, &mut open, &mut |event, _| match event {
        RunEvent::Estimate(estimate) => {
            (begun, remaining) = (Instant::now(), Vec::new());
            estimates.push(estimate);
        }
        RunEvent::Progress(progress) => remaining.push((progress.seconds, progress.remaining_seconds)),
        RunEvent::Ended(_) => took.push((begun.elapsed().as_secs_f64(), std::mem::take(&mut remaining))),
        _ => (),
    })
    .unwrap();
    // Both variants, if every answer took its 64 tokens.
    let [both, last] = &estimates[..] else { panic!("{estimates:?}") };
    let all: f64 = took.iter().map(|(seconds, _)| seconds * 64.0 / TOKENS as f64).sum();
    assert!(both.most.1 > all / 3.0 && both.most.1 < all * 3.0, "{both:?}: {all}");
    assert_eq!(last.variant.as_str(), Dtype::F16.name());
    let (seconds, remaining) = &took[1];
    let expected = last.expected.unwrap().1;
    assert!(expected > seconds / 3.0 && expected < seconds * 3.0, "{last:?}: {seconds}");
    for (passed, told) in remaining.iter().filter(|(passed, _)| *passed > seconds / 10.0 && *passed < seconds * 0.9) {
        let (told, truth) = (told.unwrap(), seconds - passed);
        assert!(told > truth / 3.0 && told < truth * 3.0, "{told} s after {passed} of {seconds}");
    }
}
