//! Lockstep: every window goes through every precision's engine before the next one begins, so that of f32's
//! distributions only one window's are ever held.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use super::{PerplexityInputs, PerplexityJob, Window};
use crate::engine::{Dtype, Engine, EngineError};
use crate::jobs::{Event, JobContext, JobError, WindowProgress};
use crate::score::Distribution;

/// What one precision thinks of one token of the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenScore {
    /// Natural logarithm of its probability.
    pub(super) log_probability: f64,
    /// The most probable token in its place.
    pub(super) best: u32,
    /// Natural logarithm of that one's probability.
    pub(super) best_log_probability: f64,
    /// KL(f32 ‖ this), nats; `None` for f32 itself and without it.
    pub(super) kl: Option<f64>,
}

/// One precision's way through the text.
pub(super) struct Lane {
    pub(super) dtype: Dtype,
    pub(super) engine: Option<Box<dyn Engine>>,
    /// One a scored token, of whole windows only.
    pub(super) scores: Vec<TokenScore>,
    /// In the engine.
    pub(super) seconds: f64,
    pub(super) failure: Option<JobError>,
}

/// Opens an engine a precision. Without f32, if it was asked for, there is nothing to hold the others against, so that
/// its failure is the run's; each other precision's failure is its own.
pub(super) fn open_lanes(
    job: &PerplexityJob,
    inputs: &PerplexityInputs,
    surroundings: &mut JobContext,
) -> Result<Vec<Lane>, JobError> {
    let mut lanes = Vec::new();
    for dtype in &inputs.dtypes {
        (surroundings.tell)(Event::Loading(*dtype));
        let options = job.subject.open_options(*dtype);
        let mut lane = Lane { dtype: *dtype, engine: None, scores: Vec::new(), seconds: 0.0, failure: None };
        match (surroundings.open_engine)(inputs.model_in(*dtype), &options) {
            Ok(engine) => {
                (surroundings.tell)(Event::Loaded(engine.info().clone()));
                lane.engine = Some(engine);
            }
            Err(error) => lane.fail(error.into(), surroundings)?,
        }
        lanes.push(lane);
    }
    Ok(lanes)
}

/// Reads the windows. Returns how many went through every precision: all of them unless interrupted.
pub(super) fn measure(
    lanes: &mut [Lane],
    inputs: &PerplexityInputs,
    surroundings: &mut JobContext,
) -> Result<usize, JobError> {
    let begun = Instant::now();
    let mut progress = WindowProgress {
        windows_done: 0,
        windows: inputs.windows.len(),
        passes_done: 0,
        passes: inputs.windows.len() * lanes.len(),
        scored_tokens: 0,
        seconds: 0.0,
    };
    for window in &inputs.windows {
        let mut reference = Vec::new();
        let mut fresh = Vec::new();
        for lane in &mut *lanes {
            fresh.push(lane.read(inputs, window, &mut reference, surroundings)?);
            if surroundings.interrupted.load(Ordering::Relaxed) {
                return Ok(progress.windows_done);
            }
            progress.passes_done += 1;
            if fresh.len() == progress.passes / progress.windows {
                progress.windows_done += 1;
                progress.scored_tokens += window.scored();
            }
            progress.seconds = begun.elapsed().as_secs_f64();
            (surroundings.tell)(Event::Window(progress));
        }
        for (lane, fresh) in lanes.iter_mut().zip(fresh) {
            lane.scores.extend(fresh);
        }
    }
    Ok(progress.windows_done)
}

impl Lane {
    /// Feeds a window and scores it against `reference`, f32's logits `[scored, vocabulary]` of the same window; f32
    /// itself fills them in. A precision that has failed scores nothing.
    fn read(
        &mut self,
        inputs: &PerplexityInputs,
        window: &Window,
        reference: &mut Vec<f32>,
        surroundings: &mut JobContext,
    ) -> Result<Vec<TokenScore>, JobError> {
        let Some(engine) = &mut self.engine else { return Ok(Vec::new()) };
        let begun = Instant::now();
        let mut reader = Reader {
            vocabulary: inputs.model.config.vocabulary,
            tokens: &inputs.tokens[window.from..window.fed.end],
            is_reference: self.dtype == Dtype::F32,
            reference,
            scores: Vec::with_capacity(window.scored()),
            broken: None,
            seconds: 0.0,
            interrupted: surroundings.interrupted,
        };
        let fed = &inputs.tokens[window.fed.clone()];
        let result = engine.predict(fed, window.from - window.fed.start, &mut |rows| reader.take(rows));
        self.seconds += begun.elapsed().as_secs_f64() - reader.seconds;
        let short = reader.scores.len() < window.scored() && !surroundings.interrupted.load(Ordering::Relaxed);
        let fault = match (result, reader.broken) {
            (Err(error), _) | (Ok(()), Some(error)) => Some(error),
            (Ok(()), None) if short => Some(EngineError::failed(
                format!("the engine gave {} of {} rows of logits", reader.scores.len(), window.scored()),
                "this is a fault of the engine; choose another with `--engine`",
            )),
            (Ok(()), None) => None,
        };
        let scores = reader.scores;
        match fault {
            None => Ok(scores),
            Some(error) => self.fail(error.into(), surroundings).map(|()| Vec::new()),
        }
    }

    /// Ends this precision; f32's end is everybody's.
    fn fail(&mut self, error: JobError, surroundings: &mut JobContext) -> Result<(), JobError> {
        if self.dtype == Dtype::F32 {
            return Err(error);
        }
        (surroundings.tell)(Event::Failed { dtype: self.dtype, message: error.to_string() });
        self.engine = None;
        self.scores = Vec::new();
        self.failure = Some(error);
        Ok(())
    }
}

/// Takes an engine's rows of logits as they come.
struct Reader<'a> {
    vocabulary: usize,
    /// The tokens that the rows predict.
    tokens: &'a [u32],
    is_reference: bool,
    reference: &'a mut Vec<f32>,
    scores: Vec<TokenScore>,
    broken: Option<EngineError>,
    /// Spent here rather than in the engine.
    seconds: f64,
    interrupted: &'a AtomicBool,
}

impl Reader<'_> {
    fn take(&mut self, rows: &[f32]) -> ControlFlow<()> {
        let begun = Instant::now();
        if self.is_reference {
            self.reference.extend_from_slice(rows);
        }
        let done = self.scores.len();
        let scored: Option<Vec<TokenScore>> =
            rows.par_chunks(self.vocabulary).enumerate().map(|(row, logits)| self.score(done + row, logits)).collect();
        self.seconds += begun.elapsed().as_secs_f64();
        let Some(scored) = scored else {
            self.broken = Some(EngineError::failed(
                "the model computed a logit that is no finite number",
                "values overflowed this precision: run with `--dtype bf16` or `--dtype f32`",
            ));
            return ControlFlow::Break(());
        };
        self.scores.extend(scored);
        if self.interrupted.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// `None` where the logits are no distribution or one too many.
    fn score(&self, row: usize, logits: &[f32]) -> Option<TokenScore> {
        let distribution = Distribution::new(logits)?;
        let truth = self.reference.chunks(self.vocabulary).nth(row).filter(|_| !self.is_reference);
        let kl = match truth {
            Some(truth) => Some(Distribution::new(truth)?.divergence(&distribution)?),
            None => None,
        };
        let best = distribution.best();
        Some(TokenScore {
            log_probability: distribution.log_probability(*self.tokens.get(row)?)?,
            best,
            best_log_probability: distribution.log_probability(best)?,
            kl,
        })
    }
}
