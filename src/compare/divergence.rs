//! Where greedy answers first leave those of the reference, in tokens.

use std::collections::HashMap;

use serde::Serialize;

use super::source::Source;
use crate::record::StoredCompletion;
use crate::score::first_divergence;

/// One row's answers against its reference's, token by token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Index of the row.
    pub row: usize,
    /// Index of the row that it is held against.
    pub reference: usize,
    /// Answers that both have.
    pub n: usize,
    /// Answers that are the same to the last token.
    pub identical: usize,
    /// Of the others, how many tokens stand before the first that differs; ascending.
    pub first: Vec<usize>,
}

/// Of every row that has a reference. The reference is of the same model, hence of the same tokenizer. Answers whose tokens
/// are not known do not count.
pub(in crate::compare) fn divergences(sources: &[Source], references: &[Option<usize>]) -> Vec<Divergence> {
    let with_reference = references.iter().enumerate().filter_map(|(row, reference)| Some((row, (*reference)?)));
    with_reference.map(|(row, reference)| divergence(sources, row, reference)).collect()
}

fn divergence(sources: &[Source], row: usize, reference: usize) -> Divergence {
    let of_reference = by_sample(sources[reference].completions());
    let mut first = Vec::new();
    let mut n = 0;
    for one in sources[row].completions() {
        let Some(tokens) = of_reference.get(&(one.sample, one.repeat)) else { continue };
        let Some(own) = &one.token_ids else { continue };
        n += 1;
        first.extend(first_divergence(tokens, own));
    }
    first.sort_unstable();
    Divergence { row, reference, n, identical: n - first.len(), first }
}

/// Whether two series have the same answers wherever both have a sample, and have one: the same tokens, or the same texts where either's
/// tokens are unknown.
pub(in crate::compare) fn same_answers(reference: &[StoredCompletion], other: &[StoredCompletion]) -> bool {
    let of_reference: HashMap<(usize, usize), &StoredCompletion> =
        reference.iter().map(|one| ((one.sample, one.repeat), one)).collect();
    let mut common =
        other.iter().filter_map(|one| Some((*of_reference.get(&(one.sample, one.repeat))?, one))).peekable();
    let is_same =
        |(reference, own): (&StoredCompletion, &StoredCompletion)| match (&reference.token_ids, &own.token_ids) {
            (Some(reference), Some(own)) => reference == own,
            _ => reference.text == own.text,
        };
    common.peek().is_some() && common.all(is_same)
}

/// Tokens by (sample, repeat), of answers whose tokens are known.
pub(in crate::compare) fn by_sample(completions: &[StoredCompletion]) -> HashMap<(usize, usize), &[u32]> {
    completions.iter().filter_map(|one| Some(((one.sample, one.repeat), one.token_ids.as_deref()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_counts_the_tokens_before_it() {
        assert_eq!(first_divergence(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(first_divergence(&[1, 2, 3], &[1, 9, 3]), Some(1));
        assert_eq!(first_divergence(&[1, 2], &[1, 2, 3]), Some(2), "a longer answer differs where the shorter ends");
        assert_eq!(first_divergence(&[], &[4]), Some(0));
        assert_eq!(first_divergence(&[], &[]), None);
    }
}
