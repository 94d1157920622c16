//! What right answers cost: tokens, seconds and joules, each beside the reference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ClusterKey, Clusters};
use crate::record::StoredCompletion;
use crate::score::{Ratio, paired_cost_ratio};

/// What one variant's right answers cost under one rule. `None` of what was not measured, and where nothing is right.
///
/// Seconds and joules are the whole variant's; for the intervals each answer has its share by its output tokens (where these are unknown,
/// every answer the same). The intervals tell how far other questions would move the ratio, not how far another run's clock would.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Output tokens / right answers.
    pub tokens_per_right: Option<f64>,
    /// Seconds of generating / right answers.
    pub seconds_per_right: Option<f64>,
    /// Right answers / seconds of generating.
    pub right_per_second: Option<f64>,
    /// Joules / right answers.
    pub joules_per_right: Option<f64>,
    /// Tokens a right answer against the reference's, on the completions that both have; `None` for the reference itself.
    pub tokens_ratio: Option<Ratio>,
    /// Seconds a right answer, likewise; that of right answers a second is its inverse, and that of money the same.
    pub seconds_ratio: Option<Ratio>,
    /// Joules a right answer, likewise.
    pub joules_ratio: Option<Ratio>,
}

/// What is counted of a variant.
#[derive(Clone, Copy)]
pub(super) struct Spent<'a> {
    pub(super) completions: &'a [StoredCompletion],
    pub(super) seconds: Option<f64>,
    pub(super) joules: Option<f64>,
}

/// Answers to the same question: of the reference, of a variant.
type Pair<'a> = (&'a StoredCompletion, &'a StoredCompletion);

/// Under a rule; `reference` comes with what it and this variant have answered, and answers that belong together are one unit of the
/// intervals.
pub(super) fn cost(rule: &str, own: Spent, reference: Option<(Spent, &[Pair])>, clusters: &Clusters) -> Option<Cost> {
    let right = own.completions.iter().filter(|one| one.is_right(rule) == Some(true)).count();
    if right == 0 {
        return None;
    }
    let right = right as f64;
    let tokens = own.tokens();
    let ratio = |total: Option<f64>, their_total: Option<f64>| {
        let (theirs, pairs) = reference?;
        paired_cost_ratio(&units(rule, (theirs, their_total?), (own, total?), pairs, clusters))
    };
    let theirs = reference.map(|(theirs, _)| theirs);
    Some(Cost {
        tokens_per_right: tokens.map(|tokens| tokens / right),
        seconds_per_right: own.seconds.map(|seconds| seconds / right),
        right_per_second: own.seconds.filter(|seconds| *seconds > 0.0).map(|seconds| right / seconds),
        joules_per_right: own.joules.map(|joules| joules / right),
        tokens_ratio: ratio(tokens, theirs.and_then(Spent::tokens)),
        seconds_ratio: ratio(own.seconds, theirs.and_then(|one| one.seconds)),
        joules_ratio: ratio(own.joules, theirs.and_then(|one| one.joules)),
    })
}

impl<'a> Spent<'a> {
    /// Output tokens of all; unknown where one of them is.
    fn tokens(self) -> Option<f64> {
        self.completions.iter().map(|one| one.output_tokens().map(|tokens| tokens as f64)).sum()
    }

    /// Of an answer, its share of `total` and 1 where it is right.
    fn share(self, rule: &'a str, total: f64) -> impl Fn(&StoredCompletion) -> [f64; 2] + 'a {
        let tokens = self.tokens().filter(|tokens| *tokens > 0.0);
        move |one| {
            let share = match (tokens, one.output_tokens()) {
                (Some(all), Some(own)) => total * own as f64 / all,
                _ => total / self.completions.len() as f64,
            };
            [share, f64::from(u8::from(one.is_right(rule) == Some(true)))]
        }
    }
}

fn units(
    rule: &str,
    (theirs, their_total): (Spent, f64),
    (own, own_total): (Spent, f64),
    pairs: &[Pair],
    clusters: &Clusters,
) -> Vec<[f64; 4]> {
    let (theirs, own) = (theirs.share(rule, their_total), own.share(rule, own_total));
    let mut units: BTreeMap<ClusterKey, [f64; 4]> = BTreeMap::new();
    for (was, is) in pairs {
        let unit = units.entry(clusters.of(is.sample)).or_default();
        let all = theirs(was).into_iter().chain(own(is));
        unit.iter_mut().zip(all).for_each(|(sum, one)| *sum += one);
    }
    units.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::eval::StoredRun;
    use crate::record::in_both;

    fn stored() -> StoredRun {
        crate::jobs::eval::reading::tests::stored()
    }

    fn close(actual: Option<f64>, expected: f64) {
        let actual = actual.unwrap();
        assert!((actual / expected - 1.0).abs() < 1e-12, "{actual} is not {expected}");
    }

    /// The second variant's answers, all as long as told, the first so many right.
    fn answers(run: &StoredRun, right: usize, tokens: &[usize]) -> Vec<StoredCompletion> {
        let mut all = run.completions[0].1.clone();
        for ((place, one), tokens) in all.iter_mut().enumerate().zip(tokens) {
            one.token_ids = Some(vec![1; *tokens]);
            one.scores[0].correct = place < right;
        }
        all
    }

    #[test]
    fn right_answers_share_what_all_answers_cost() {
        let run = stored();
        let (reference, own) = (answers(&run, 4, &[10; 6]), answers(&run, 2, &[5; 6]));
        let spent = |completions, seconds, joules| Spent { completions, seconds: Some(seconds), joules };
        let clusters = Clusters::new(&[]);
        let beside = (spent(&reference, 8.0, Some(400.0)), &in_both(&reference, &own)[..]);
        let found = cost("numeric", spent(&own, 3.0, Some(90.0)), Some(beside), &clusters).unwrap();
        close(found.tokens_per_right, 15.0);
        close(found.seconds_per_right, 1.5);
        close(found.right_per_second, 2.0 / 3.0);
        close(found.joules_per_right, 45.0);
        close(found.tokens_ratio.map(|ratio| ratio.value), 1.0);
        close(found.seconds_ratio.map(|ratio| ratio.value), 1.5 / 2.0);
        close(found.joules_ratio.map(|ratio| ratio.value), 45.0 / 100.0);
        let alone = cost("numeric", spent(&own, 3.0, None), None, &clusters).unwrap();
        assert_eq!((alone.joules_per_right, alone.seconds_ratio, alone.joules_ratio), (None, None, None));
        let nothing_right = answers(&run, 0, &[5; 6]);
        assert_eq!(cost("numeric", spent(&nothing_right, 3.0, None), None, &clusters), None);
    }

    #[test]
    fn a_longer_answer_has_a_larger_share_and_questions_of_a_cluster_are_one_unit() {
        let run = stored();
        let own = answers(&run, 3, &[30, 10, 10, 10, 10, 10]);
        let spent = Spent { completions: &own, seconds: Some(8.0), joules: None };
        let share = spent.share("numeric", 8.0);
        assert_eq!((share(&own[0]), share(&own[5])), ([3.0, 1.0], [1.0, 0.0]));
        let mut untold = own.clone();
        untold[2].token_ids = None;
        let share = Spent { completions: &untold, ..spent }.share("numeric", 12.0);
        assert_eq!((share(&untold[0])[0], share(&untold[5])[0]), (2.0, 2.0));
        let mut samples = run.samples.to_vec();
        samples[0].cluster = Some("a".to_owned());
        samples[1].cluster = Some("a".to_owned());
        let pairs = in_both(&own, &own);
        let units = units("numeric", (spent, 8.0), (spent, 8.0), &pairs, &Clusters::new(&samples));
        assert_eq!(units.len(), 5);
        assert!(units.contains(&[4.0, 2.0, 4.0, 2.0]), "{units:?}");
    }
}
