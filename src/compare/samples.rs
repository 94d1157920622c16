//! Lookups for formats that show every sample: questions by row, and the first difference from the reference.

use std::collections::HashMap;

use super::comparison::Comparison;
use super::divergence::by_sample;
use super::source::Source;
use crate::jobs::eval::StoredRun;
use crate::record::{StoredCompletion, StoredSample};
use crate::score::first_divergence;

/// A run's questions by row of the dataset.
pub(in crate::compare) struct Questions<'a>(HashMap<usize, &'a StoredSample>);

impl<'a> Questions<'a> {
    pub(in crate::compare) fn new(run: &'a StoredRun) -> Self {
        Self(run.samples.iter().map(|sample| (sample.sample, sample)).collect())
    }

    pub(in crate::compare) fn of(&self, sample: usize) -> Option<&'a StoredSample> {
        self.0.get(&sample).copied()
    }
}

/// The reference's tokens of one row, by (sample, repeat); empty where the row has no reference.
pub(in crate::compare) struct ReferenceTokens<'a>(HashMap<(usize, usize), &'a [u32]>);

impl ReferenceTokens<'_> {
    /// Tokens before the first that differs from the reference's; `None` where none does, or there is no reference.
    pub(in crate::compare) fn of(&self, completion: &StoredCompletion) -> Option<usize> {
        let tokens = self.0.get(&(completion.sample, completion.repeat))?;
        first_divergence(tokens, completion.token_ids.as_deref()?)
    }
}

/// The reference that a row's answers are compared with.
pub(in crate::compare) fn divergence_of<'a>(
    comparison: &Comparison,
    sources: &[Source<'a>],
    row: usize,
) -> ReferenceTokens<'a> {
    let reference = comparison.rows.get(row).and_then(|row| sources.get(row.reference?));
    let completions = reference.map_or(&[][..], |reference| reference.completions());
    ReferenceTokens(by_sample(completions))
}
