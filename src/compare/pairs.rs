//! Paired comparison of every two rows on the same questions: lost, gained, and a significance test.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;

use super::digest::Column;
use super::source::Source;
use crate::jobs::eval::Clusters;
use crate::record::{StoredCompletion, in_both, merged};
use crate::score::clustered_paired;
use crate::score::statistics::Paired;

/// Two rows under one rule, on the completions that both have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// The rule.
    pub rule: String,
    /// Index of the reference row: the earlier one.
    pub reference: usize,
    /// Index of the other row.
    pub other: usize,
    /// Completions that both have.
    pub n: usize,
    /// The smallest difference, as a fraction of 1, that so many questions can show where so many answers change.
    pub smallest_difference: f64,
    /// Counts, difference, interval and test.
    #[serde(flatten)]
    pub paired: Paired,
}

/// As many rows on the same questions are compared two by two; of more, each with its reference alone: pairs grow with the square.
const MOST_ROWS: usize = 32;

/// Under every rule, of every two rows that answered the same questions by the same protocol, and of each row with its reference.
pub(in crate::compare) fn pairs(
    sources: &[Source],
    columns: &[&Column],
    references: &[Option<usize>],
    rules: &[String],
) -> Vec<Pair> {
    let mut groups: HashMap<_, Vec<usize>> = HashMap::new();
    for (row, source) in sources.iter().enumerate() {
        groups.entry(source.questions()).or_default().push(row);
    }
    let mut places = Vec::new();
    for rows in groups.values() {
        for (place, other) in rows.iter().enumerate() {
            if rows.len() <= MOST_ROWS {
                places.extend(rows[..place].iter().map(|reference| (*reference, *other)));
            } else if let Some(reference) = references[*other].filter(|reference| rows.binary_search(reference).is_ok())
            {
                places.push((reference.min(*other), reference.max(*other)));
            }
        }
    }
    places.sort_unstable_by_key(|(reference, other)| (*other, *reference));
    let wanted: Vec<_> =
        rules.iter().flat_map(|rule| places.iter().map(move |(reference, other)| (rule, *reference, *other))).collect();
    let pair = |(rule, reference, other): (&String, usize, usize)| {
        let clusters = Clusters::new(&sources[reference].stored.samples);
        let (was, is) = (columns[reference].verdicts(rule), columns[other].verdicts(rule));
        let verdicts = merged(&was, &is, |one| one.0, |one| one.0);
        let verdicts = verdicts.map(|((key, was), (_, is))| (clusters.of(key.0), *was, *is));
        let paired = clustered_paired(&verdicts.collect::<Vec<_>>())?;
        let (n, smallest_difference) = (paired.n(), paired.smallest_difference());
        Some(Pair { rule: rule.clone(), reference, other, n, smallest_difference, paired })
    };
    wanted.into_par_iter().filter_map(pair).collect()
}

/// Two series of completions on the samples that both have; `None` where there is none, or the rule is not theirs.
pub(in crate::compare) fn paired_by_sample(
    reference: &[StoredCompletion],
    other: &[StoredCompletion],
    rule: &str,
    clusters: &Clusters,
) -> Option<Paired> {
    let verdicts = in_both(reference, other)
        .into_iter()
        .filter_map(|(was, is)| Some((clusters.of(is.sample), was.is_right(rule)?, is.is_right(rule)?)));
    clustered_paired(&verdicts.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::jobs::eval::StoredRun;

    #[test]
    fn a_repeat_is_paired_with_the_same_repeat() {
        let run = StoredRun::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/e113425/run")).unwrap();
        let one = |repeat: usize, correct: bool| {
            let mut one = StoredCompletion { repeat, ..run.completions[0].1[0].clone() };
            one.scores[0].correct = correct;
            one
        };
        let rule = run.completions[0].1[0].scores[0].rule.clone();
        let both = [one(0, true), one(1, false)];
        let paired = paired_by_sample(&both, &both, &rule, &Clusters::default()).unwrap();
        assert_eq!((paired.both_right, paired.lost, paired.gained, paired.both_wrong), (1, 0, 0, 1));
    }
}
