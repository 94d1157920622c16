//! What a part of a benchmark is, and what it works with: one variant's engine, and requests that run together.

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ran::{Asked, Ran, Times, done};
use super::servers::{Servers, Troubles};
use super::{BenchJob, BenchPlan, DtypeBench, Workload};
use crate::engine::{Engine, EngineError, Event as EngineEvent, GenerateOptions, Request, Timings, Work};
use crate::jobs::requests::{Purpose, RandomPrompts};
use crate::jobs::{Event, JobContext, JobError, Progress, Variant};

/// What the record says of the warm-up.
pub(super) const WARM_UP: &str = "after the last load, not counted: one request of 128 prompt and 8 output tokens, and \
                                  before many at once 32 such requests";

/// Between two reports of progress: they must not cost what they report.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// A part of a benchmark: an entry of [`super::PARTS`]. Its figures go into a field of [`DtypeBench`] that its own tables show, or by
/// [`DtypeBench::add`] into a table that all parts share.
pub trait Part: Debug + Sync {
    /// The name on the command line and in files.
    fn name(&self) -> &'static str;

    /// What it measures, in a line.
    fn description(&self) -> &'static str;

    /// Tokens of its longest request, prompt and output.
    fn longest_request(&self, plan: &BenchPlan, workload: &Workload) -> usize;

    /// The way out where the model's context does not hold that.
    fn too_long_hint(&self) -> &'static str {
        "leave this part out with `--only`, or give a `--model` with a longer context"
    }

    /// Whether it runs where no part is named.
    fn is_default(&self) -> bool {
        true
    }

    /// How often it wants the engine opened; what the last opening gives is what runs.
    fn openings(&self, job: &BenchJob) -> usize {
        let _ = job;
        1
    }

    /// Whether it wants the engine opened once more, before those, with weights that are not in the page cache.
    fn begins_cold(&self) -> bool {
        false
    }

    /// Whether servers can be asked for it, whose loading nobody sees.
    fn runs_on_endpoints(&self) -> bool {
        true
    }

    /// Requests that run together before it and are not counted; 0 where it runs none.
    fn warm_up_requests(&self) -> usize;

    /// Measures.
    fn run(&self, runner: &mut Runner, opened: &mut Opened, bench: &mut DtypeBench) -> Result<PartEnd, JobError>;
}

/// How a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartEnd {
    /// With its figures.
    Done,
    /// The user broke off.
    Interrupted,
}

/// What a variant was opened as.
pub enum Opened {
    /// An engine here.
    Engine(Box<dyn Engine>),
    /// Servers of it.
    Servers(Servers),
}

impl Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Engine(_)) { "Engine" } else { "Servers" })
    }
}

/// One variant's way through the parts.
pub struct Runner<'a, 'b> {
    pub(super) job: &'a BenchJob,
    pub(super) plan: &'a BenchPlan,
    pub(super) workload: &'a Workload,
    pub(super) prompts: RandomPrompts,
    pub(super) variant: &'a Variant,
    pub(super) context: &'a mut JobContext<'b>,
    /// What the user has to know.
    pub(super) notes: Vec<String>,
    /// What servers did other than asked.
    pub(super) troubles: Troubles,
}

impl Debug for Runner<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("variant", &self.variant.name).finish_non_exhaustive()
    }
}

impl Runner<'_, '_> {
    /// Says that a part of the variant's work is over.
    pub(super) fn ended(&mut self) {
        (self.context.emit)(Event::Ended(self.variant.name.clone()));
    }

    /// A request of so many tokens, behind `shared` ones that all prompts begin with.
    pub(super) fn asked(
        &self,
        (purpose, number): (Purpose, usize),
        shared: usize,
        prompt_tokens: usize,
        output_tokens: usize,
    ) -> Asked {
        let prompt = self.prompts.prompt(purpose, number, shared, prompt_tokens);
        Asked { prompt, prompt_tokens: shared + prompt_tokens, output_tokens }
    }

    /// Work that is not counted; `None` where the user broke off.
    pub(super) fn warm_up(&mut self, opened: &mut Opened, requests: usize) -> Result<Option<()>, JobError> {
        // Each round of the warm-up has prompts of its own, told apart by its size.
        let asked = |number: usize| self.asked((Purpose::WarmUp, requests * 100 + number), 0, 128, 8);
        let requests = (0..requests).map(asked).collect();
        Ok(self.generate(opened, requests, None)?.map(|_| ()))
    }

    /// Runs requests together and checks that each got what it asked for; what servers did otherwise is counted. Progress is emitted for a
    /// `part`; `None` where the user broke off.
    pub(super) fn generate(
        &mut self,
        opened: &mut Opened,
        requests: Vec<Asked>,
        part: Option<&'static str>,
    ) -> Result<Option<Ran>, JobError> {
        if self.context.interrupted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let progress = part.map(|part| self.progress(part, &requests));
        match opened {
            Opened::Engine(engine) => self.run_here(engine.as_mut(), requests, progress),
            Opened::Servers(servers) => {
                let JobContext { emit, interrupted, .. } = &mut *self.context;
                servers.run(requests, progress, &mut self.troubles, (&mut **emit, interrupted))
            }
        }
    }

    fn progress(&self, part: &'static str, requests: &[Asked]) -> Progress {
        Progress {
            variant: self.variant.name.clone(),
            part: Some(part),
            completed: 0,
            completed_now: 0,
            total: requests.len(),
            running: 0,
            cache_bytes: None,
            output_tokens: 0,
            expected_tokens: Some(requests.iter().map(|asked| asked.output_tokens as u64).sum()),
            seconds: 0.0,
            remaining_seconds: None,
        }
    }

    fn run_here(
        &mut self,
        engine: &mut dyn Engine,
        prompts: Vec<Asked>,
        mut progress: Option<Progress>,
    ) -> Result<Option<Ran>, JobError> {
        let outputs: Vec<usize> = prompts.iter().map(|asked| asked.output_tokens).collect();
        let requests = prompts.into_iter().enumerate().map(|(id, asked)| Request {
            id,
            prompt: asked.prompt,
            work: Work::Generate(GenerateOptions {
                max_tokens: asked.output_tokens,
                ignore_eos: true,
                ..GenerateOptions::default()
            }),
        });
        let requests: Vec<Request> = requests.collect();
        let mut ended: Vec<Option<(usize, Timings)>> = vec![None; outputs.len()];
        let mut stranger = None;
        let context = &mut *self.context;
        let interrupted = context.interrupted;
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
                        progress.completed_now += 1;
                    }
                }
                // None is asked for, nor emitted by a run on files.
                EngineEvent::Token(_) | EngineEvent::Failed { .. } | EngineEvent::Note(_) => (),
            }
            if let Some(progress) = progress.as_mut().filter(|_| reported.elapsed() >= REPORT_EVERY) {
                reported = Instant::now();
                progress.seconds = begun.elapsed().as_secs_f64();
                let left = progress.expected_tokens.map(|all| all.saturating_sub(progress.output_tokens) as f64);
                progress.remaining_seconds = left.zip(progress.tokens_per_second()).map(|(left, speed)| left / speed);
                (context.emit)(Event::Progress(progress.clone()));
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
            Some((tokens, timings)) if tokens == wanted => Ok(Times::of(&timings, tokens)),
            Some((tokens, _)) => Err(fault(format!("the engine gave {tokens} of {wanted} tokens of request {id}"))),
            None => Err(fault(format!("the engine returned without completing request {id}"))),
        });
        let times: Vec<Times> = finished.collect::<Result<_, _>>()?;
        if let Some(progress) = progress {
            (context.emit)(done(progress, seconds));
        }
        let output_tokens = times.iter().map(|one| one.output_tokens as u64).sum();
        Ok(Some(Ran { times, seconds, output_tokens, failed: 0 }))
    }
}

fn fault(what: String) -> JobError {
    EngineError::failed(what, "this is a fault of the engine; choose another with `--engine`").into()
}
