//! Lockstep: some windows go through every variant's engine before the next ones begin, and are scored some rows at a time, so that of the
//! distributions only few rows' are ever held. They are scored on a GPU where all logits are there.

use std::panic::resume_unwind;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use rayon::prelude::*;

use super::{PerplexityInputs, PerplexityJob, Window};
use crate::engine::{Engine, EngineError, Logits, Precision, READ_ROWS, Text, TokenScore};
use crate::jobs::{Event, JobContext, JobError, Target, Variant, WindowProgress};
use crate::record::VariantName;
use crate::score::Distribution;

/// Tokens for whose texts every engine has room.
const READ_TOKENS: usize = 8192;

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

/// A runner a variant, and the windows that the first of them has read already.
pub(super) struct Runners {
    pub(super) all: Vec<Runner>,
    ahead: usize,
}

/// Opens an engine a variant. Without the reference, if the run has one, there is nothing to hold the others against, so that
/// its failure is the run's; each other variant's failure is its own. Where the reference reads many windows at a time, on a GPU, it reads
/// the first ones while the others are loaded.
pub(super) fn open_runners(
    job: &PerplexityJob,
    inputs: &PerplexityInputs,
    context: &mut JobContext,
) -> Result<Runners, JobError> {
    // What an engine may read at a time on a GPU decides how much of its memory it takes: several of them stand side by side.
    let batch = READ_TOKENS.div_ceil(inputs.model.config.context_tokens.max(1));
    let target = Target { batch: Some(batch), ..job.target.clone() };
    let mut variants = inputs.variants.iter();
    let first = variants.next().map(|variant| Runner::open(variant, &target, inputs, context)).transpose()?;
    let Some(mut first) = first else { return Ok(Runners { all: Vec::new(), ahead: 0 }) };
    let many = first.engine.as_ref().map_or(0, |engine| engine.reading_tokens());
    let ahead = if first.is_reference && many > 0 { together(&inputs.windows, many) } else { 0 };
    let (reader, tokens, windows) = (&mut first, &inputs.tokens[..], &inputs.windows[..ahead]);
    let (others, read) = thread::scope(|scope| {
        let reading = (ahead > 0).then(move || scope.spawn(move || reader.read(tokens, windows)));
        let open = |variant| Runner::open(variant, &target, inputs, context);
        let others = variants.map(open).collect::<Result<Vec<_>, JobError>>();
        let read = reading.map(|reading| reading.join().unwrap_or_else(|panic| resume_unwind(panic)));
        (others, read.unwrap_or(Ok(())))
    });
    first.or_fail(read, context)?;
    Ok(Runners { all: std::iter::once(first).chain(others?).collect(), ahead })
}

/// Reads the windows. Returns how many went through every variant: all of them unless interrupted.
pub(super) fn measure(
    Runners { all: runners, ahead }: &mut Runners,
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
    let at_once = runners.iter().filter_map(|runner| Some(runner.engine.as_ref()?.reading_tokens())).min().unwrap_or(0);
    let mut left = inputs.windows.as_slice();
    while !left.is_empty() {
        let (windows, later) = left.split_at(together(left, at_once));
        for (number, runner) in runners.iter_mut().enumerate() {
            if number > 0 {
                progress.passes_done += windows.len();
                progress.seconds = begun.elapsed().as_secs_f64();
                (context.emit)(Event::Window(progress));
            }
            if context.interrupted.load(Ordering::Relaxed) {
                return Ok(progress.windows_done);
            }
            // Fewer windows at a time than it read ahead, for another engine has less room, are read again.
            let is_read = number == 0 && progress.windows_done == 0 && windows.len() == *ahead;
            if !is_read {
                let read = runner.read(&inputs.tokens, windows);
                runner.or_fail(read, context)?;
            }
        }
        let Some(fresh) = score(runners, inputs, windows, context)? else { return Ok(progress.windows_done) };
        for (runner, fresh) in runners.iter_mut().zip(fresh) {
            runner.scores.extend(fresh);
        }
        progress.passes_done += windows.len();
        progress.windows_done += windows.len();
        progress.scored_tokens += windows.iter().map(Window::scored).sum::<usize>();
        progress.seconds = begun.elapsed().as_secs_f64();
        (context.emit)(Event::Window(progress));
        left = later;
    }
    Ok(progress.windows_done)
}

/// How many windows are read at a time: so many that they hold `tokens`, or one.
fn together(windows: &[Window], tokens: usize) -> usize {
    let fed = |count: usize| windows[..count].iter().map(|window| window.fed.len()).sum::<usize>();
    (1..=windows.len()).take_while(|count| fed(*count) <= tokens).last().unwrap_or(1)
}

/// Scores windows that every engine has read: a list a runner, empty where it has failed. `None` where the user interrupts.
fn score(
    runners: &mut [Runner],
    inputs: &PerplexityInputs,
    windows: &[Window],
    context: &mut JobContext,
) -> Result<Option<Vec<Vec<TokenScore>>>, JobError> {
    let tokens: Vec<u32> =
        windows.iter().flat_map(|window| &inputs.tokens[window.from..window.fed.end]).copied().collect();
    let vocabulary = inputs.model.config.vocabulary;
    let mut scores: Vec<Vec<TokenScore>> = runners.iter().map(|_| Vec::with_capacity(tokens.len())).collect();
    let reference = runners.iter().position(|runner| runner.is_reference);
    for (part, tokens) in tokens.chunks(READ_ROWS).enumerate() {
        if context.interrupted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let rows = part * READ_ROWS..part * READ_ROWS + tokens.len();
        // The reference's logits are needed by all others.
        let (before, rest) = runners.split_at_mut(reference.unwrap_or(0));
        let (own, after) = rest.split_at_mut(usize::from(reference.is_some()));
        let truth = match own {
            [own] => {
                let is_f32 = own.engine.as_ref().is_some_and(|engine| engine.info().dtype == Some(Precision::F32));
                let logits = own.logits(rows.clone())?;
                let scored = all(score_rows(None, &logits, tokens, vocabulary)?);
                scores[before.len()].extend(scored.map_err(|error| if is_f32 { error.in_f32() } else { error })?);
                Some(logits)
            }
            _ => None,
        };
        let others = before.iter_mut().enumerate().chain((scores.len() - after.len()..).zip(after));
        for (number, runner) in others {
            if runner.engine.is_none() {
                continue;
            }
            let scored = runner
                .logits(rows.clone())
                .and_then(|logits| all(score_rows(truth.as_ref(), &logits, tokens, vocabulary)?));
            match scored {
                Ok(fresh) => scores[number].extend(fresh),
                Err(error) => {
                    runner.fail(error.into(), context)?;
                    scores[number].clear();
                }
            }
        }
    }
    Ok(Some(scores))
}

impl Runner {
    fn open(
        variant: &Variant,
        target: &Target,
        inputs: &PerplexityInputs,
        context: &mut JobContext,
    ) -> Result<Self, JobError> {
        let name = &variant.name;
        (context.emit)(Event::Loading { variant: name.clone(), repetition: 1, repetitions: 1 });
        let mut runner = Self {
            variant: name.clone(),
            is_reference: inputs.variants.reference.as_ref() == Some(name),
            engine: None,
            scores: Vec::new(),
            seconds: 0.0,
            failure: None,
        };
        match (context.open_engine)(variant, target) {
            Ok(engine) => {
                let info = engine.info().clone();
                (context.emit)(Event::Loaded { variant: name.clone(), engine: info, first_token: None });
                runner.engine = Some(engine);
            }
            Err(error) => runner.fail(error.into(), context)?,
        }
        Ok(runner)
    }

    /// Has the engine read windows; a variant that has failed reads nothing.
    fn read(&mut self, tokens: &[u32], windows: &[Window]) -> Result<(), EngineError> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let begun = Instant::now();
        let text = |window: &Window| Text { tokens: &tokens[window.fed.clone()], from: window.from - window.fed.start };
        let texts: Vec<Text> = windows.iter().map(text).collect();
        let result = engine.read(&texts);
        self.seconds += begun.elapsed().as_secs_f64();
        result
    }

    /// Ends this variant where its engine could not read.
    fn or_fail(&mut self, read: Result<(), EngineError>, context: &mut JobContext) -> Result<(), JobError> {
        read.or_else(|error| self.fail(error.into(), context))
    }

    /// Logits of rows of what was read.
    fn logits(&mut self, rows: std::ops::Range<usize>) -> Result<Logits<'_>, EngineError> {
        let Some(engine) = &mut self.engine else {
            return Err(EngineError::failed(
                format!("{} has no engine any more", self.variant),
                "this is a fault of the suite: report it",
            ));
        };
        let begun = Instant::now();
        let logits = engine.read_logits(rows);
        self.seconds += begun.elapsed().as_secs_f64();
        logits
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

/// The scores of rows, `None` where one is no distribution; where the logits lie on one GPU, there.
fn score_rows(
    reference: Option<&Logits>,
    this: &Logits,
    tokens: &[u32],
    vocabulary: usize,
) -> Result<Option<Vec<TokenScore>>, EngineError> {
    match (reference, this) {
        (None, Logits::Device(this)) => this.scores(None, tokens),
        (Some(Logits::Device(reference)), Logits::Device(this)) if this.is_beside(reference) => {
            this.scores(Some(reference), tokens)
        }
        _ => {
            let (reference, this) = (reference.map(Logits::to_host).transpose()?, this.to_host()?);
            Ok(on_host(reference.as_deref(), &this, tokens, vocabulary))
        }
    }
}

fn on_host(reference: Option<&[f32]>, this: &[f32], tokens: &[u32], vocabulary: usize) -> Option<Vec<TokenScore>> {
    if this.len() != tokens.len() * vocabulary {
        return None;
    }
    let score = |(row, token): (usize, &u32)| {
        let of_row = row * vocabulary..(row + 1) * vocabulary;
        let distribution = Distribution::new(&this[of_row.clone()])?;
        let truth = match reference {
            Some(reference) => Some(Distribution::new(reference.get(of_row)?)?),
            None => None,
        };
        let best = distribution.best();
        Some(TokenScore {
            log_probability: distribution.log_probability(*token)?,
            best,
            best_log_probability: distribution.log_probability(best)?,
            kl: match &truth {
                Some(truth) => Some(truth.divergence(&distribution)?),
                None => None,
            },
            reference_of_best: truth.and_then(|truth| truth.log_probability(best)),
        })
    };
    tokens.par_iter().enumerate().map(score).collect()
}

fn all(scores: Option<Vec<TokenScore>>) -> Result<Vec<TokenScore>, EngineError> {
    scores.ok_or_else(|| EngineError::not_finite("a logit that is no finite number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_together_while_they_fit_and_a_long_one_alone() {
        let window = |fed: std::ops::Range<usize>| Window { document: 0, from: fed.start + 1, fed };
        let windows = [window(0..500), window(250..750), window(500..600)];
        assert_eq!([0, 499, 999, 1000, 1099, 1100].map(|tokens| together(&windows, tokens)), [1, 1, 1, 2, 2, 3]);
    }
}
