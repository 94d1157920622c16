//! What an engine does in a moment of prefill and a moment of decode, for the estimate before a run.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::event::Speed;
use crate::engine::{Engine, EngineError, Event, GenerateOptions, Prompt, Request, Work};

/// As long as either takes about, unless a single request takes longer.
const MOMENT: Duration = Duration::from_millis(400);

/// Of a run's tokens, as many as its estimate may cost.
const SHARE: usize = 50;

/// Prompt tokens from which decode begins.
const DECODE_PROMPT: usize = 8;

/// Tokens of a request's decode.
const DECODE_TOKENS: (usize, usize) = (8, 64);

/// Measures on requests that look like a run's and are none of them: its prompts' tokens in another order, of which the prefix cache
/// knows nothing then or later. `run_tokens` is what the run will read and write. `None` where the engine fails, which the run will tell.
pub(super) fn measure(
    engine: &mut dyn Engine,
    prompts: &[Arc<Prompt>],
    run_tokens: usize,
    interrupted: &AtomicBool,
) -> Option<Speed> {
    let batch = engine.info().batch.min(prompts.len());
    let allowance = run_tokens / SHARE / 2;
    let prefill = prefill(engine, prompts, (batch, allowance), interrupted).ok()?;
    let decode = decode(engine, prompts, (batch, allowance), interrupted).ok()?;
    let speed = Speed { prefill: prefill?, decode: decode? };
    (!interrupted.load(Ordering::Relaxed)).then_some(speed)
}

/// Prompt tokens a second, of ever more prompts at once.
fn prefill(
    engine: &mut dyn Engine,
    prompts: &[Arc<Prompt>],
    (batch, allowance): (usize, usize),
    interrupted: &AtomicBool,
) -> Result<Option<f64>, EngineError> {
    let (mut count, mut spent, mut round) = (1, 0, 1);
    loop {
        let requests: Vec<Request> =
            (0..count).map(|id| request(id, reordered(&prompts[(id + spent) % prompts.len()], round), 1)).collect();
        let tokens: usize = requests.iter().map(|request| request.prompt.token_ids.len()).sum();
        let begun = Instant::now();
        let ended = run(engine, requests, interrupted, &mut |_| false)?;
        let took = begun.elapsed();
        spent += tokens;
        if took * 2 > MOMENT || count >= batch || 2 * spent > allowance {
            return Ok((ended > 0).then(|| tokens as f64 / took.as_secs_f64()));
        }
        (count, round) = ((2 * count).min(batch), round + 1);
    }
}

/// Output tokens a second of a full batch.
fn decode(
    engine: &mut dyn Engine,
    prompts: &[Arc<Prompt>],
    (batch, allowance): (usize, usize),
    interrupted: &AtomicBool,
) -> Result<Option<f64>, EngineError> {
    let max_tokens = (allowance / batch.max(1)).clamp(DECODE_TOKENS.0, DECODE_TOKENS.1);
    let short = |id: usize| {
        let mut prompt = reordered(&prompts[id % prompts.len()], 0);
        prompt.token_ids.truncate(DECODE_PROMPT);
        request(id, prompt, max_tokens)
    };
    let begun = Instant::now();
    // From the first step on that brought tokens, which has prefilled too.
    let (mut from, mut first, mut tokens) = (begun, 0, 0);
    run(engine, (0..batch).map(short).collect(), interrupted, &mut |new_tokens| {
        if tokens == 0 && new_tokens > 0 {
            (from, first) = (Instant::now(), new_tokens);
        }
        tokens += new_tokens;
        begun.elapsed() > MOMENT
    })?;
    let whole = tokens == first;
    let (tokens, seconds) = if whole { (tokens, begun.elapsed()) } else { (tokens - first, from.elapsed()) };
    Ok((tokens > 0).then(|| tokens as f64 / seconds.as_secs_f64()))
}

/// Runs requests until they have ended, the user breaks off, or `enough` says so of a step's new tokens. How many ended.
fn run(
    engine: &mut dyn Engine,
    requests: Vec<Request>,
    interrupted: &AtomicBool,
    enough: &mut dyn FnMut(u64) -> bool,
) -> Result<usize, EngineError> {
    let (mut ended, all) = (0, requests.len());
    engine.run(requests, &mut |event| {
        let stop = match event {
            Event::Completed(_) => {
                ended += 1;
                ended == all
            }
            Event::Step { new_tokens, .. } => enough(new_tokens) || ended == all,
            Event::Token(_) | Event::Failed { .. } | Event::Note(_) => false,
        };
        if stop || interrupted.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(ended)
}

/// The same tokens from the last to the first, and begun further along in each round.
fn reordered(prompt: &Prompt, round: usize) -> Prompt {
    let mut token_ids: Vec<u32> = prompt.token_ids.iter().rev().copied().collect();
    let shift = round % token_ids.len().max(1);
    token_ids.rotate_left(shift);
    Prompt { text: prompt.text.clone(), token_ids }
}

fn request(id: usize, prompt: Prompt, max_tokens: usize) -> Request {
    let options = GenerateOptions { max_tokens, ignore_eos: true, ..GenerateOptions::default() };
    Request { id, prompt: Arc::new(prompt), work: Work::Generate(options) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Dtype;
    use crate::engine::cpu::CpuEngine;
    use crate::engine::model::{ModelSource, ModelSpec};
    use crate::hub::{DEFAULT_REVISION, Hub};

    fn engine() -> CpuEngine {
        let spec = ModelSpec { source: crate::bundled::NAME.to_owned(), revision: DEFAULT_REVISION.to_owned() };
        let source = ModelSource::open(&spec, &Hub::from_environment(true).unwrap()).unwrap();
        CpuEngine::load(&source, Dtype::F32, Some(8)).unwrap()
    }

    fn prompts(count: u32) -> Vec<Arc<Prompt>> {
        let prompt =
            |n: u32| Prompt { text: n.to_string(), token_ids: (0..100).map(|at| 3 + (at * (n + 1)) % 1000).collect() };
        (0..count).map(|n| Arc::new(prompt(n))).collect()
    }

    #[test]
    fn a_measured_engine_is_as_it_was() {
        let (mut engine, prompts) = (engine(), prompts(12));
        let full = engine.capacity();
        let speed = measure(&mut engine, &prompts, 12 * 300, &AtomicBool::new(false)).unwrap();
        assert!(speed.prefill > 0.0 && speed.prefill.is_finite() && speed.decode > 0.0 && speed.decode.is_finite());
        assert_eq!(engine.capacity(), full);
        // Its prefix cache knows no beginning of the run's prompts.
        let mut cached = 0;
        let requests = prompts.iter().enumerate().map(|(id, prompt)| request(id, (**prompt).clone(), 2)).collect();
        engine
            .run(requests, &mut |event| {
                if let Event::Completed(completion) = event {
                    cached += completion.cached_tokens;
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(cached, 0);
    }

    #[test]
    fn a_measurement_costs_no_more_than_its_share() {
        struct Counting<'a>(CpuEngine, &'a mut usize);
        impl Engine for Counting<'_> {
            fn info(&self) -> &crate::engine::EngineInfo {
                self.0.info()
            }
            fn submit(&mut self, request: Request) -> Result<(), EngineError> {
                *self.1 += request.max_total_tokens(usize::MAX);
                self.0.submit(request)
            }
            fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
                self.0.step(events)
            }
            fn cancel(&mut self, request: usize) -> bool {
                self.0.cancel(request)
            }
            fn capacity(&self) -> crate::engine::Capacity {
                self.0.capacity()
            }
        }
        let (prompts, mut tokens) = (prompts(40), 0);
        let run_tokens = 200_000;
        measure(&mut Counting(engine(), &mut tokens), &prompts, run_tokens, &AtomicBool::new(false)).unwrap();
        assert!(tokens > 100 && tokens < run_tokens / 20, "{tokens}");
    }

    #[test]
    fn an_interrupted_measurement_says_nothing() {
        assert_eq!(measure(&mut engine(), &prompts(4), 10_000, &AtomicBool::new(true)), None);
    }

    #[test]
    fn every_round_reads_other_prompts() {
        let prompt = Prompt { text: "7".to_owned(), token_ids: vec![1, 2, 3, 4] };
        assert_eq!(reordered(&prompt, 0).token_ids, [4, 3, 2, 1]);
        assert_eq!(reordered(&prompt, 1).token_ids, [3, 2, 1, 4]);
        assert_eq!(reordered(&prompt, 6).token_ids, [2, 1, 4, 3]);
    }
}
