//! Where greedy answers first leave those of the reference, in tokens.

use std::collections::HashMap;

use serde::Serialize;

use super::departures::Departures;
use super::digest::Column;
use super::source::Source;
use crate::record::{StoredCompletion, in_both};

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
pub(in crate::compare) fn divergences(
    sources: &[Source],
    columns: &[&Column],
    references: &[Option<usize>],
) -> Vec<Divergence> {
    let with_reference = references.iter().enumerate().filter_map(|(row, reference)| Some((row, (*reference)?)));
    let divergence = |(row, reference): (usize, usize)| {
        let of_own = columns[row].departures.as_ref().filter(|_| sources[reference].run == sources[row].run);
        let Departures { n, first } =
            of_own.cloned().unwrap_or_else(|| columns[row].departures_from(columns[reference]));
        Divergence { row, reference, n, identical: n - first.len(), first }
    };
    with_reference.map(divergence).collect()
}

/// Whether two series have the same answers wherever both have a sample, and have one: the same tokens, or the same texts where either's
/// tokens are unknown.
pub(in crate::compare) fn same_answers(reference: &[StoredCompletion], other: &[StoredCompletion]) -> bool {
    let common = in_both(reference, other);
    let is_same =
        |(reference, own): &(&StoredCompletion, &StoredCompletion)| match (&reference.token_ids, &own.token_ids) {
            (Some(reference), Some(own)) => reference == own,
            _ => reference.text == own.text,
        };
    !common.is_empty() && common.iter().all(is_same)
}

/// Tokens by (sample, repeat), of answers whose tokens are known.
pub(in crate::compare) fn by_sample(completions: &[StoredCompletion]) -> HashMap<(usize, usize), &[u32]> {
    completions.iter().filter_map(|one| Some(((one.sample, one.repeat), one.token_ids.as_deref()?))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::jobs::eval::StoredRun;

    #[test]
    fn answers_are_the_same_by_tokens_else_by_texts_wherever_both_are() {
        let run = StoredRun::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/e113425/run")).unwrap();
        let answer = |sample: usize, text: &str, tokens: Option<u32>| StoredCompletion {
            sample,
            text: text.to_owned(),
            token_ids: tokens.map(|token| vec![token]),
            ..run.completions[0].1[0].clone()
        };
        let own = [answer(0, "a", Some(1)), answer(1, "b", Some(2)), answer(2, "c", None)];
        let is_same = |other: &[StoredCompletion]| same_answers(&own, other);
        assert!(is_same(&own) && is_same(&[answer(1, "b", Some(2)), answer(7, "x", None)]));
        assert!(!is_same(&[answer(1, "b", Some(3))]), "other tokens of the same text");
        assert!(is_same(&[answer(1, "b", None)]) && !is_same(&[answer(1, "B", None)]));
        assert!(!is_same(&[answer(2, "C", None)]));
        assert!(!is_same(&[answer(7, "x", None)]) && !is_same(&[]), "nothing in common is not the same");
    }
}
