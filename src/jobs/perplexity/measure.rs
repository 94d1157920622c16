//! Lockstep: every window goes through every variant's engine before the next one begins, so that of the reference's
//! distributions only one window's are ever held.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use super::{PerplexityInputs, PerplexityJob, Window};
use crate::engine::{Engine, EngineError};
use crate::jobs::{Event, JobContext, JobError, WindowProgress};
use crate::record::VariantName;
use crate::score::Distribution;

/// What one variant thinks of one token of the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenScore {
    /// Natural logarithm of its probability.
    pub(super) log_probability: f64,
    /// The most probable token in its place.
    pub(super) best: u32,
    /// Natural logarithm of that one's probability.
    pub(super) best_log_probability: f64,
    /// KL(reference ‖ this), nats; `None` for the reference itself and without one.
    pub(super) kl: Option<f64>,
    /// Natural logarithm of `best`'s probability in the reference; `None` for the reference itself and without one.
    #[expect(dead_code, reason = "read where departures from the reference's answers are found")]
    pub(super) reference_of_best: Option<f64>,
}

/// One variant's way through the text.
pub(super) struct Runner {
    pub(super) variant: VariantName,
    /// The others are held against it.
    pub(super) is_reference: bool,
    pub(super) engine: Option<Box<dyn Engine>>,
    /// One a scored token, of whole windows only.
    pub(super) scores: Vec<TokenScore>,
    /// In the engine.
    pub(super) seconds: f64,
    pub(super) failure: Option<JobError>,
}

/// Opens an engine a variant. Without the reference, if the run has one, there is nothing to hold the others against, so that
/// its failure is the run's; each other variant's failure is its own.
pub(super) fn open_runners(
    job: &PerplexityJob,
    inputs: &PerplexityInputs,
    context: &mut JobContext,
) -> Result<Vec<Runner>, JobError> {
    let mut runners = Vec::new();
    for variant in inputs.variants.iter() {
        let name = &variant.name;
        (context.emit)(Event::Loading { variant: name.clone(), repetition: 1, repetitions: 1 });
        let mut runner = Runner {
            variant: name.clone(),
            is_reference: inputs.variants.reference.as_ref() == Some(name),
            engine: None,
            scores: Vec::new(),
            seconds: 0.0,
            failure: None,
        };
        match (context.open_engine)(variant, &job.target) {
            Ok(engine) => {
                let info = engine.info().clone();
                (context.emit)(Event::Loaded { variant: name.clone(), engine: info, first_token: None });
                runner.engine = Some(engine);
            }
            Err(error) => runner.fail(error.into(), context)?,
        }
        runners.push(runner);
    }
    Ok(runners)
}

/// Reads the windows. Returns how many went through every variant: all of them unless interrupted.
pub(super) fn measure(
    runners: &mut [Runner],
    inputs: &PerplexityInputs,
    context: &mut JobContext,
) -> Result<usize, JobError> {
    let begun = Instant::now();
    let mut progress = WindowProgress {
        windows_done: 0,
        windows: inputs.windows.len(),
        passes_done: 0,
        passes: inputs.windows.len() * runners.len(),
        scored_tokens: 0,
        seconds: 0.0,
    };
    for window in &inputs.windows {
        let mut reference = Vec::new();
        let mut fresh = Vec::new();
        for runner in &mut *runners {
            fresh.push(runner.read(inputs, window, &mut reference, context)?);
            if context.interrupted.load(Ordering::Relaxed) {
                return Ok(progress.windows_done);
            }
            progress.passes_done += 1;
            if fresh.len() == progress.passes / progress.windows {
                progress.windows_done += 1;
                progress.scored_tokens += window.scored();
            }
            progress.seconds = begun.elapsed().as_secs_f64();
            (context.emit)(Event::Window(progress));
        }
        for (runner, fresh) in runners.iter_mut().zip(fresh) {
            runner.scores.extend(fresh);
        }
    }
    Ok(progress.windows_done)
}

impl Runner {
    /// Feeds a window and scores it against `reference`, that variant's logits `[scored, vocabulary]` of the same window; the reference
    /// itself fills them in. A variant that has failed scores nothing.
    fn read(
        &mut self,
        inputs: &PerplexityInputs,
        window: &Window,
        reference: &mut Vec<f32>,
        context: &mut JobContext,
    ) -> Result<Vec<TokenScore>, JobError> {
        let Some(engine) = &mut self.engine else { return Ok(Vec::new()) };
        let begun = Instant::now();
        let mut scorer = WindowScorer {
            vocabulary: inputs.model.config.vocabulary,
            tokens: &inputs.tokens[window.from..window.fed.end],
            is_reference: self.is_reference,
            reference,
            scores: Vec::with_capacity(window.scored()),
            broken: None,
            seconds: 0.0,
            interrupted: context.interrupted,
        };
        let fed = &inputs.tokens[window.fed.clone()];
        let result = engine.predict(fed, window.from - window.fed.start, &mut |rows| scorer.take(rows));
        self.seconds += begun.elapsed().as_secs_f64() - scorer.seconds;
        let short = scorer.scores.len() < window.scored() && !context.interrupted.load(Ordering::Relaxed);
        let fault = match (result, scorer.broken) {
            (Err(error), _) | (Ok(()), Some(error)) => Some(error),
            (Ok(()), None) if short => Some(EngineError::failed(
                format!("the engine gave {} of {} rows of logits", scorer.scores.len(), window.scored()),
                "this is a fault of the engine; choose another with `--engine`",
            )),
            (Ok(()), None) => None,
        };
        let scores = scorer.scores;
        match fault {
            None => Ok(scores),
            Some(error) => self.fail(error.into(), context).map(|()| Vec::new()),
        }
    }

    /// Ends this variant; the reference's end is everybody's.
    fn fail(&mut self, error: JobError, context: &mut JobContext) -> Result<(), JobError> {
        if self.is_reference {
            return Err(error);
        }
        (context.emit)(Event::Failed { variant: self.variant.clone(), message: error.to_string() });
        self.engine = None;
        self.scores = Vec::new();
        self.failure = Some(error);
        Ok(())
    }
}

/// Scores an engine's rows of logits as they come.
struct WindowScorer<'a> {
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

impl WindowScorer<'_> {
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
        let best = distribution.best();
        let (kl, reference_of_best) = match truth {
            Some(truth) => {
                let truth = Distribution::new(truth)?;
                (Some(truth.divergence(&distribution)?), Some(truth.log_probability(best)?))
            }
            None => (None, None),
        };
        Some(TokenScore {
            log_probability: distribution.log_probability(*self.tokens.get(row)?)?,
            best,
            best_log_probability: distribution.log_probability(best)?,
            kl,
            reference_of_best,
        })
    }
}
