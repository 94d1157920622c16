//! One precision through all parts: what fails keeps what was measured before.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::prompts::Purpose;
use super::{BenchContext, BenchEvent, BenchInputs, BenchJob, BenchProgress};
use super::{BenchPart, DtypeBench};
use crate::engine::{
    Dtype, Engine, EngineError, Event as EngineEvent, GenerateOptions, Prompt, Request, Timings, Work,
};
use crate::jobs::JobError;
use crate::record::{peak_memory, reset_peak_memory};

/// What the record says of the warm-up.
pub(super) const WARM_UP: &str = "after the last load, not counted: one request of 128 prompt and 8 output tokens, and \
                                  before many at once 32 such requests";

/// Requests that run before many at once do.
const WARM_UP_REQUESTS: usize = 32;

/// Between two reports of progress: they must not cost what they report.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// How a part ended.
pub(super) enum Part<T> {
    Done(T),
    Interrupted,
}

/// What came of requests that ran together.
pub(super) struct Ran {
    /// One a request, in the order in which they were given.
    pub(super) timings: Vec<Timings>,
    /// From submission until the engine returned.
    pub(super) seconds: f64,
}

/// One precision's way through the parts.
pub(super) struct Lane<'a, 'b> {
    pub(super) job: &'a BenchJob,
    pub(super) inputs: &'a BenchInputs,
    pub(super) dtype: Dtype,
    pub(super) surroundings: &'a mut BenchContext<'b>,
}

/// How a precision ended, apart from what was measured.
pub(super) enum End {
    Complete,
    Interrupted,
    Failed(JobError),
}

/// Measures a precision.
pub(super) fn measure(
    job: &BenchJob,
    inputs: &BenchInputs,
    dtype: Dtype,
    surroundings: &mut BenchContext,
) -> (DtypeBench, End) {
    let scope = reset_peak_memory();
    let mut bench = DtypeBench::new(dtype);
    let ended = Lane { job, inputs, dtype, surroundings }.run(&mut bench);
    bench.peak_memory = peak_memory(scope);
    let end = match ended {
        Ok(Part::Done(())) => End::Complete,
        Ok(Part::Interrupted) => End::Interrupted,
        Err(error) => {
            bench.failure = Some(error.to_string());
            End::Failed(error)
        }
    };
    (bench, end)
}

impl Lane<'_, '_> {
    fn run(mut self, bench: &mut DtypeBench) -> Result<Part<()>, JobError> {
        let Part::Done(mut engine) = self.load(bench)? else { return Ok(Part::Interrupted) };
        let engine = engine.as_mut();
        let many = self.job.has(BenchPart::Concurrent) || self.job.has(BenchPart::Workload);
        if (many || self.job.has(BenchPart::Single)) && self.warm_up(engine, 1)?.is_none() {
            return Ok(Part::Interrupted);
        }
        if self.job.has(BenchPart::Single)
            && let Part::Interrupted = self.single(engine, bench)?
        {
            return Ok(Part::Interrupted);
        }
        if many && self.warm_up(engine, WARM_UP_REQUESTS)?.is_none() {
            return Ok(Part::Interrupted);
        }
        if self.job.has(BenchPart::Concurrent) {
            let Part::Done(run) = self.concurrent(engine)? else { return Ok(Part::Interrupted) };
            bench.concurrent = Some(run);
        }
        if self.job.has(BenchPart::Workload) {
            let Part::Done(run) = self.workload(engine)? else { return Ok(Part::Interrupted) };
            bench.workload = Some(run);
        }
        Ok(Part::Done(()))
    }

    /// Work that is not counted; `None` where the user broke off.
    fn warm_up(&mut self, engine: &mut dyn Engine, requests: usize) -> Result<Option<()>, JobError> {
        let prompts = self.inputs.prompts();
        // Each round of the warm-up has prompts of its own, told apart by its size.
        let prompt = |number: usize| prompts.prompt(Purpose::WarmUp, requests * 100 + number, &[], 128);
        let requests = (0..requests).map(|number| (prompt(number), 8)).collect();
        Ok(self.generate(engine, requests, None)?.map(|_| ()))
    }

    /// Runs requests of (prompt, tokens to generate) together and checks that each got what it asked for. BenchProgress is
    /// told for a `part`; `None` where the user broke off.
    pub(super) fn generate(
        &mut self,
        engine: &mut dyn Engine,
        prompts: Vec<(Arc<Prompt>, usize)>,
        part: Option<BenchPart>,
    ) -> Result<Option<Ran>, JobError> {
        if self.surroundings.interrupted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let outputs: Vec<usize> = prompts.iter().map(|(_, output_tokens)| *output_tokens).collect();
        let requests = prompts.into_iter().enumerate().map(|(id, (prompt, output_tokens))| Request {
            id,
            prompt,
            work: Work::Generate(GenerateOptions {
                max_tokens: output_tokens,
                ignore_eos: true,
                ..GenerateOptions::default()
            }),
        });
        let requests: Vec<Request> = requests.collect();
        let mut ended: Vec<Option<(usize, Timings)>> = vec![None; outputs.len()];
        let mut stranger = None;
        let surroundings = &mut *self.surroundings;
        let interrupted = surroundings.interrupted;
        let mut progress = part.map(|part| BenchProgress {
            dtype: self.dtype,
            part,
            completed: 0,
            requests: outputs.len(),
            running: 0,
            cache_bytes: None,
            output_tokens: 0,
            expected_tokens: outputs.iter().map(|tokens| *tokens as u64).sum(),
            seconds: 0.0,
        });
        let begun = Instant::now();
        let mut reported = begun;
        engine.run(requests, &mut |event| {
            match event {
                EngineEvent::Step { running, new_tokens, cache_bytes } => {
                    if let Some(progress) = &mut progress {
                        progress.running = running;
                        progress.cache_bytes = cache_bytes;
                        progress.output_tokens += new_tokens;
                    }
                }
                EngineEvent::Completed(completion) => {
                    match ended.get_mut(completion.request) {
                        Some(slot) => *slot = Some((completion.token_ids.len(), completion.timings)),
                        None => stranger = Some(completion.request),
                    }
                    if let Some(progress) = &mut progress {
                        progress.completed += 1;
                    }
                }
                EngineEvent::Token(_) | EngineEvent::Failed { .. } => (), // neither is asked for, nor told by a run
            }
            if let Some(progress) = progress.as_mut().filter(|_| reported.elapsed() >= REPORT_EVERY) {
                reported = Instant::now();
                progress.seconds = begun.elapsed().as_secs_f64();
                (surroundings.tell)(BenchEvent::Progress(*progress));
            }
            if stranger.is_some() || interrupted.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        if let Some(request) = stranger {
            return Err(fault(format!("the engine completed request {request}, which it was never given")));
        }
        let unfinished = ended.iter().any(Option::is_none);
        if unfinished && interrupted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let finished = ended.into_iter().zip(outputs).enumerate().map(|(id, (ended, wanted))| match ended {
            Some((tokens, timings)) if tokens == wanted => Ok(timings),
            Some((tokens, _)) => Err(fault(format!("the engine gave {tokens} of {wanted} tokens of request {id}"))),
            None => Err(fault(format!("the engine returned without completing request {id}"))),
        });
        let timings = finished.collect::<Result<_, _>>()?;
        if let Some(progress) = progress {
            let output_tokens = progress.expected_tokens;
            (surroundings.tell)(BenchEvent::Progress(BenchProgress {
                completed: progress.requests,
                running: 0,
                cache_bytes: None,
                output_tokens,
                seconds,
                ..progress
            }));
        }
        Ok(Some(Ran { timings, seconds }))
    }
}

fn fault(what: String) -> JobError {
    EngineError::failed(what, "this is a fault of the engine; choose another with `--engine`").into()
}
