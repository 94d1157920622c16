//! What comparing needs of a run besides its record: which answers are right, where they leave their reference, what is implausible. A
//! thousand runs are compared by these, while one run's texts at a time are in memory.

use super::departures::Departures;
use crate::engine::Precision;
use crate::jobs::eval::{Answers, Finding, StoredRun, findings};
use crate::record::{StoredCompletion, VariantName, in_both, merged};

/// Of one run. It holds for the headline that the run's record had.
#[derive(Debug, Clone)]
pub struct Digest {
    pub(in crate::compare) findings: Vec<Finding>,
    /// One a variant.
    pub(in crate::compare) columns: Vec<Column>,
}

/// Sample and repeat.
type Key = (usize, usize);

/// By rule, whether each answer is right; `None` where the rule did not score it.
type Verdicts = (String, Vec<Option<bool>>);

/// One variant's answers.
#[derive(Debug, Clone)]
pub(in crate::compare) struct Column {
    /// Of each, ascending.
    keys: Vec<Key>,
    verdicts: Vec<Verdicts>,
    /// Against its own run's reference, where that is another variant.
    pub(in crate::compare) departures: Option<Departures>,
    /// The tokens of those whose tokens are known, ascending likewise, where another run's row may be held against this one, or this one against such.
    tokens: Vec<(Key, Box<[u32]>)>,
}

impl Digest {
    /// Of a run that holds its completions.
    pub fn new(run: &StoredRun) -> Self {
        let answers = Answers { record: &run.record, completions: &run.completions, samples: &run.samples };
        let reference = run.record.plan.reference();
        let reference = run.completions.iter().find(|(variant, _)| Some(variant) == reference.as_ref());
        let column = |(variant, completions): &(VariantName, Vec<StoredCompletion>)| {
            let of_own = reference.filter(|(own, _)| own != variant);
            let is_alone = reference.is_none() || *variant == Precision::F32;
            Column::new(completions, of_own.map(|(_, reference)| &reference[..]), is_alone)
        };
        Self { findings: findings(&answers), columns: run.completions.iter().map(column).collect() }
    }
}

impl Column {
    fn new(completions: &[StoredCompletion], reference: Option<&[StoredCompletion]>, keeps_tokens: bool) -> Self {
        let mut sorted: Vec<&StoredCompletion> = completions.iter().collect();
        sorted.sort_by_key(|one| (one.sample, one.repeat));
        let mut rules: Vec<&str> = Vec::new();
        for score in sorted.iter().flat_map(|one| &one.scores) {
            if !rules.contains(&score.rule.as_str()) {
                rules.push(&score.rule);
            }
        }
        let verdicts = |rule: &str| sorted.iter().map(|one| one.is_right(rule)).collect();
        let tokens = |one: &&StoredCompletion| Some(((one.sample, one.repeat), one.token_ids.as_deref()?.into()));
        let departures = |reference: &'_ [StoredCompletion]| {
            let pairs = in_both(reference, completions);
            Departures::of(
                pairs.iter().filter_map(|(was, is)| Some((was.token_ids.as_deref()?, is.token_ids.as_deref()?))),
            )
        };
        Self {
            keys: sorted.iter().map(|one| (one.sample, one.repeat)).collect(),
            verdicts: rules.into_iter().map(|rule| (rule.to_owned(), verdicts(rule))).collect(),
            departures: reference.map(departures),
            tokens: sorted.iter().filter(|_| keeps_tokens).filter_map(tokens).collect(),
        }
    }

    /// Each answer that a rule scored, by sample and repeat: whether it is right.
    pub(in crate::compare) fn verdicts(&self, rule: &str) -> Vec<(Key, bool)> {
        let of_rule = self.verdicts.iter().find(|(own, _)| own == rule);
        let verdicts = of_rule.map_or(&[][..], |(_, verdicts)| verdicts);
        self.keys.iter().zip(verdicts).filter_map(|(key, right)| Some((*key, (*right)?))).collect()
    }

    /// Against a row of another run.
    pub(in crate::compare) fn departures_from(&self, reference: &Self) -> Departures {
        let pairs = merged(&reference.tokens, &self.tokens, |one| one.0, |one| one.0);
        Departures::of(pairs.map(|((_, was), (_, is))| (&was[..], &is[..])))
    }
}
