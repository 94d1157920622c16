//! The two engines, the answers in groups that are read together, and how much of the work is done.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::choice::Answer;
use super::{BlameInputs, BlameJob};
use crate::engine::model::ModelSource;
use crate::engine::{Engine, EngineError, Text};
use crate::jobs::{Event, JobContext, JobError, ReadingProgress, Target, Variant};

/// What the search works with.
pub(super) struct Work<'a, 'b> {
    pub(super) inputs: &'a BlameInputs,
    pub(super) truth: Box<dyn Engine>,
    pub(super) variant: Box<dyn Engine>,
    context: &'a mut JobContext<'b>,
    clock: Clock,
}

/// Layers that answers have to go through, and have gone through.
struct Clock {
    done: usize,
    total: usize,
    begun: Instant,
}

impl<'a, 'b> Work<'a, 'b> {
    /// Opens both engines.
    pub(super) fn open(
        job: &BlameJob,
        inputs: &'a BlameInputs,
        context: &'a mut JobContext<'b>,
    ) -> Result<Self, JobError> {
        let batch = inputs.together.div_ceil(inputs.truth.config.context_tokens.max(1));
        let target = Target { batch: Some(batch), devices: job.target.devices.first(), ..job.target.clone() };
        let mut open = |variant: &Variant| -> Result<Box<dyn Engine>, JobError> {
            (context.emit)(Event::Loading { variant: variant.name.clone(), repetition: 1, repetitions: 1 });
            let engine = (context.open_engine)(variant, &target)?;
            let info = engine.info().clone();
            (context.emit)(Event::Loaded { variant: variant.name.clone(), engine: info, first_token: None });
            Ok(engine)
        };
        let (truth, variant) = (open(&inputs.reference)?, open(&inputs.variant)?);
        let clock = Clock { done: 0, total: 0, begun: Instant::now() };
        let mut work = Self { inputs, truth, variant, context, clock };
        work.clock.total = work.all();
        Ok(work)
    }

    /// Layers that answers go through in the whole search but for what is put back together, whose extent nobody knows.
    fn all(&mut self) -> usize {
        let layers = self.inputs.truth.config.layers;
        let parts = self.inputs.linears.len() + 1;
        let of_map: usize = (0..layers).map(|layer| self.layers_from(layer)).sum::<usize>() * parts;
        self.groups().len() * (2 * layers + of_map)
    }

    /// Layers that answers go through when the weights of `layer` have changed.
    pub(super) fn layers_from(&mut self, layer: usize) -> usize {
        let layers = self.inputs.truth.config.layers;
        if self.variant.layers().is_some() { layers - layer } else { layers }
    }

    /// Answers that are read together.
    pub(super) fn groups(&self) -> Vec<Range<usize>> {
        let lengths: Vec<usize> = self.inputs.answers.iter().map(|answer| answer.text().tokens.len()).collect();
        groups(&lengths, self.inputs.together)
    }

    /// Whether the user has broken off.
    pub(super) fn is_interrupted(&self) -> bool {
        self.context.interrupted.load(Ordering::Relaxed)
    }

    /// Says that answers went through so many more layers; `what` was done.
    pub(super) fn went(&mut self, layers: usize, what: String) {
        let clock = &mut self.clock;
        clock.done += layers;
        clock.total = clock.total.max(clock.done);
        let seconds = clock.begun.elapsed().as_secs_f64();
        (self.context.emit)(Event::Reading(ReadingProgress { what, done: clock.done, total: clock.total, seconds }));
    }

    /// Says that there are so many more layers to go through.
    pub(super) fn expect(&mut self, layers: usize) {
        self.clock.total = self.clock.done + layers;
    }

    /// Puts weights of a layer in the place of the variant's own.
    pub(super) fn put(&mut self, source: &ModelSource, layer: usize) -> Result<(), EngineError> {
        self.variant.reload_layer(source, layer)
    }

    /// Seconds since the engines were open.
    pub(super) fn seconds(&self) -> f64 {
        self.clock.begun.elapsed().as_secs_f64()
    }

    /// The work is over, or was broken off.
    pub(super) fn ended(&mut self) {
        (self.context.emit)(Event::Ended(self.inputs.variant.name.clone()));
    }
}

/// Each answer up to its place.
pub(super) fn texts(answers: &[Answer]) -> Vec<Text<'_>> {
    answers.iter().map(Answer::text).collect()
}

/// Runs of neighbours that hold `most` in all, or of one.
fn groups(lengths: &[usize], most: usize) -> Vec<Range<usize>> {
    let (mut groups, mut begin, mut held) = (Vec::new(), 0, 0);
    for (index, length) in lengths.iter().enumerate() {
        if index > begin && held + length > most {
            groups.push(begin..index);
            (begin, held) = (index, 0);
        }
        held += length;
    }
    if begin < lengths.len() {
        groups.push(begin..lengths.len());
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_read_together_while_they_fit_and_a_long_one_alone() {
        assert_eq!(groups(&[3, 4, 5, 20, 1, 1], 10), [0..2, 2..3, 3..4, 4..6]);
        assert_eq!(groups(&[5, 5], 10), std::iter::once(0..2).collect::<Vec<_>>());
        assert!(groups(&[], 10).is_empty());
    }
}
