//! A verdict in as few questions as it takes: questions in random order, every variant's answers to some before any answers to the next,
//! and an end as soon as the sequential test shows something.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{ClusterKey, Clusters, EvalPlan};
use crate::fault::Fault;
use crate::random::split_mix;
use crate::record::{StoredCompletion, StoredSample, VariantName};
use crate::report::words::{points, thousands};
use crate::score::{SEQUENTIAL_ERROR, Sequential, Shown};

/// What ends a run before all of its questions: that every variant is shown to be worse than the reference, or no worse by more than a
/// margin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Until {
    /// In percentage points, above 0.
    pub margin_points: f64,
}

impl Until {
    /// Reads `no worse than 2`, in percentage points.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let margin = match words[..] {
            ["no", "worse", "than", margin] | ["no", "worse", "than", margin, "point" | "points"] => {
                margin.parse().ok()
            }
            _ => None,
        };
        let margin = margin.filter(|margin| *margin > 0.0 && *margin < 100.0);
        margin.map(|margin_points| Self { margin_points }).ok_or_else(|| {
            Fault::new(
                format!("--until {text:?} says nothing that a run could end at"),
                "write `--until \"no worse than 2\"`: percentage points, above 0 and below 100",
            )
        })
    }
}

/// What a run that ended at `--until` has shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UntilRecord {
    /// The margin, in percentage points.
    pub margin_points: f64,
    /// What a verdict may be wrong with.
    pub error: f64,
    /// The rule that says what is right.
    pub rule: String,
    /// The seed that the questions' order was drawn with.
    pub seed: u64,
    /// Questions there are.
    pub questions: usize,
    /// What the others are compared with.
    pub reference: VariantName,
    /// One a variant beside the reference.
    pub variants: Vec<UntilVariant>,
}

/// What was shown of one variant. Differences are fractions of 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UntilVariant {
    /// Which.
    pub variant: VariantName,
    /// What.
    pub shown: Shown,
    /// Questions, from the first of the order on, that both answered: so many it took.
    pub questions: usize,
    /// Answers to them; with repeats, more than questions.
    pub answers: usize,
    /// Right in the reference alone.
    pub lost: usize,
    /// Right here alone.
    pub gained: usize,
    /// Right in either: where there is none, accuracy shows nothing.
    pub right: usize,
    /// (gained − lost) / answers; `None` of no answer.
    pub difference: Option<f64>,
    /// Lower bound of the difference, wrong with probability `error` at most whenever one looks.
    pub low: f64,
    /// Upper bound, likewise.
    pub high: f64,
    /// What was won by betting against "it is not worse": 1 / `error` shows worse.
    pub evidence_worse: f64,
    /// What was won by betting against "it is worse by the margin or more".
    pub evidence_no_worse: f64,
}

/// Right or wrong by (sample, repeat).
type Verdicts = HashMap<(usize, usize), bool>;

/// The questions of a run in the order that they are asked in, and how they are compared.
#[derive(Debug)]
pub(super) struct Course<'a> {
    until: Until,
    rule: &'a str,
    seed: u64,
    repeats: usize,
    /// Rows; those of one cluster are one unit.
    pub(super) units: Vec<Vec<usize>>,
}

impl<'a> Course<'a> {
    /// The order is drawn by the plan's seed and depends on the rows alone.
    pub(super) fn new(until: Until, plan: &EvalPlan, rule: &'a str, samples: &[StoredSample]) -> Self {
        /// So that no request's seed is the same.
        const ORDER: u64 = 0x6f72_6465_7200_0000;
        let clusters = Clusters::new(samples);
        let mut units: BTreeMap<ClusterKey, Vec<usize>> = BTreeMap::new();
        for one in samples {
            units.entry(clusters.of(one.sample)).or_default().push(one.sample);
        }
        let mut units: Vec<Vec<usize>> = units.into_values().collect();
        let seed = plan.generation.seed;
        units.sort_by_cached_key(|unit| {
            let row = unit.first().copied().unwrap_or_default();
            (split_mix(split_mix(seed ^ ORDER) ^ row as u64), row)
        });
        Self { until, rule, seed, repeats: plan.generation.repeats, units }
    }

    /// What the completions of a variant show beside the reference's, looked at unit by unit from the first on until it is shown or one of
    /// them has not answered; and how many units both have answered whole.
    pub(super) fn compare(
        &self,
        variant: &VariantName,
        reference: &[StoredCompletion],
        own: &[StoredCompletion],
    ) -> (UntilVariant, usize) {
        let (reference, own) = (self.verdicts(reference), self.verdicts(own));
        let margin = self.until.margin_points / 100.0;
        let largest = self.units.iter().map(Vec::len).max().unwrap_or(1) * self.repeats;
        let mut test = Sequential::new(largest);
        let (mut questions, mut answers, mut lost, mut gained, mut right, mut done) = (0, 0, 0, 0, 0, 0);
        let mut shown = Shown::Nothing;
        for unit in &self.units {
            let keys = unit.iter().flat_map(|sample| (0..self.repeats).map(move |repeat| (*sample, repeat)));
            let pairs: Option<Vec<(bool, bool)>> =
                keys.map(|key| Some((*reference.get(&key)?, *own.get(&key)?))).collect();
            // Answers behind a gap are those that ended first, which are no random ones.
            let Some(pairs) = pairs else { break };
            done += 1;
            // What has been shown is shown: the rest of its block is not needed for it.
            if shown != Shown::Nothing {
                continue;
            }
            let count = |wanted: (bool, bool)| pairs.iter().filter(|pair| **pair == wanted).count();
            let (fell, rose) = (count((true, false)), count((false, true)));
            test.add(fell, rose, pairs.len());
            (lost, gained, right) = (lost + fell, gained + rose, right + pairs.len() - count((false, false)));
            (questions, answers) = (questions + unit.len(), answers + pairs.len());
            shown = if right == 0 { Shown::Nothing } else { test.shown(margin) };
        }
        let (low, high) = test.bounds();
        let found = UntilVariant {
            variant: variant.clone(),
            shown,
            questions,
            answers,
            lost,
            gained,
            right,
            difference: (answers > 0).then(|| (gained as f64 - lost as f64) / answers as f64),
            low,
            high,
            evidence_worse: test.evidence_below(0.0),
            evidence_no_worse: test.evidence_above(-margin),
        };
        (found, done)
    }

    fn verdicts(&self, completions: &[StoredCompletion]) -> Verdicts {
        completions.iter().filter_map(|one| Some(((one.sample, one.repeat), one.is_right(self.rule)?))).collect()
    }

    /// What the journals of a run show in the end.
    pub(super) fn record(
        &self,
        reference: &VariantName,
        journals: &[(VariantName, Vec<StoredCompletion>)],
    ) -> UntilRecord {
        let of_reference = journals.iter().find(|(variant, _)| variant == reference).map_or(&[][..], |(_, all)| all);
        let others = journals.iter().filter(|(variant, _)| variant != reference);
        UntilRecord {
            margin_points: self.until.margin_points,
            error: SEQUENTIAL_ERROR,
            rule: self.rule.to_owned(),
            seed: self.seed,
            questions: self.units.iter().map(Vec::len).sum(),
            reference: reference.clone(),
            variants: others.map(|(variant, own)| self.compare(variant, of_reference, own).0).collect(),
        }
    }
}

impl UntilRecord {
    /// Whether every variant is shown to be no worse.
    pub fn is_kept(&self) -> bool {
        self.variants.iter().all(|one| one.shown == Shown::NoWorse)
    }

    /// What was shown of a variant, in a sentence with its figures.
    pub fn sentence(&self, variant: &VariantName) -> Option<String> {
        let one = self.variants.iter().find(|one| one.variant == *variant)?;
        let (margin, reference) = (self.margin_points, &self.reference);
        let of = if one.questions == self.questions {
            format!("all {} questions", thousands(self.questions as u64))
        } else {
            format!("{} of {} questions", thousands(one.questions as u64), thousands(self.questions as u64))
        };
        let difference =
            one.difference.map_or_else(|| "no difference".to_owned(), |value| format!("{} points", points(value)));
        let (low, high) = (points(one.low), points(one.high));
        if one.right == 0 {
            return Some(format!(
                "neither {variant} nor {reference} is right on any of {}: accuracy shows nothing",
                of.trim_start_matches("all ")
            ));
        }
        Some(match one.shown {
            Shown::Worse => {
                format!("{variant} is worse than {reference}, shown by {of} ({difference}, {high} at the most)")
            }
            Shown::NoWorse => format!(
                "{variant} is no worse than {reference} by more than {margin} points, shown by {of} ({difference}, {low} at the \
                 least)"
            ),
            Shown::Nothing => format!(
                "{variant} is neither shown to be worse than {reference} nor to be within {margin} points of it by {of} ({difference}, \
                 between {low} and {high})"
            ),
        })
    }

    /// What a reader of the tables must know.
    pub(super) fn note(&self) -> Option<String> {
        let asked = self.variants.iter().map(|one| one.questions).max()?;
        (asked < self.questions).then(|| {
            format!(
                "--until ended the run after {} of {} questions, drawn at random: its verdicts hold whenever one stops (betting, {:.0} % \
                 error), the intervals of the tables for a number of questions that was fixed beforehand; `evalsuite resume RUN` asks \
                 the rest",
                thousands(asked as u64),
                thousands(self.questions as u64),
                self.error * 100.0
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::jobs::eval::StoredRun;

    fn stored() -> StoredRun {
        crate::jobs::eval::reading::tests::stored()
    }

    fn course<'a>(run: &StoredRun, repeats: usize) -> Course<'a> {
        let mut plan = run.record.plan.clone();
        plan.generation.repeats = repeats;
        Course::new(Until { margin_points: 2.0 }, &plan, "numeric", &run.samples)
    }

    #[test]
    fn what_ends_a_run_is_read_and_nothing_else_is() {
        assert_eq!(Until::parse("no worse than 2"), Ok(Until { margin_points: 2.0 }));
        assert_eq!(Until::parse(" No worse  than 0.5 points"), Ok(Until { margin_points: 0.5 }));
        for wrong in [
            "",
            "worse",
            "no worse than",
            "no worse than 0",
            "no worse than -1",
            "no worse than 100",
            "no worse than NaN",
        ] {
            let fault = Until::parse(wrong).unwrap_err();
            assert!(fault.hint.contains("no worse than 2"), "{wrong}");
        }
    }

    #[test]
    fn the_order_is_the_seed_s_and_keeps_clusters_whole() {
        let mut run = stored();
        let plain = course(&run, 1).units;
        let mut rows: Vec<usize> = plain.iter().flatten().copied().collect();
        assert!(plain.iter().all(|unit| unit.len() == 1) && rows.len() == run.samples.len());
        assert!(!rows.is_sorted(), "{rows:?}");
        rows.sort_unstable();
        assert_eq!(rows, run.samples.iter().map(|one| one.sample).collect::<Vec<_>>());
        let orders: std::collections::HashSet<Vec<Vec<usize>>> = (0..20)
            .map(|seed| {
                run.record.plan.generation.seed = seed;
                course(&run, 1).units
            })
            .collect();
        assert!(orders.len() > 15, "{} orders of 20 seeds", orders.len());
        for one in &mut Arc::make_mut(&mut run.samples)[..3] {
            one.cluster = Some("same".to_owned());
        }
        let clustered = course(&run, 1).units;
        assert_eq!(clustered.iter().filter(|unit| unit.len() == 3).count(), 1);
        assert_eq!(clustered.len(), run.samples.len() - 2);
    }

    #[test]
    fn what_either_gets_right_shows_something_and_what_neither_does_shows_nothing() {
        let run = stored();
        let course = course(&run, 1);
        let all = |right: bool| -> Vec<StoredCompletion> {
            let mut all = run.completions[0].1.clone();
            all.iter_mut().flat_map(|one| &mut one.scores).for_each(|score| score.correct = right);
            all
        };
        let variant = &run.completions[1].0;
        let counts = |reference: bool, own: bool| {
            let (found, _) = course.compare(variant, &all(reference), &all(own));
            (found.right, found.lost, found.gained, found.difference)
        };
        assert_eq!(counts(true, false), (6, 6, 0, Some(-1.0)));
        assert_eq!(counts(false, true), (6, 0, 6, Some(1.0)));
        assert_eq!(counts(true, true), (6, 0, 0, Some(0.0)));
        assert_eq!(counts(false, false), (0, 0, 0, Some(0.0)));
    }

    #[test]
    fn only_the_units_before_the_first_gap_count() {
        let run = stored();
        let course = course(&run, 1);
        let (variant, own) = &run.completions[1];
        let reference = &run.completions[0].1;
        let (all, done) = course.compare(variant, reference, own);
        assert_eq!((all.questions, all.answers, done), (6, 6, 6));
        let without = |place: usize| {
            let gap = course.units[place][0];
            let own: Vec<_> = own.iter().filter(|one| one.sample != gap).cloned().collect();
            course.compare(variant, reference, &own).0.questions
        };
        assert_eq!((without(0), without(4), without(5)), (0, 4, 5));
        let reference: Vec<_> = reference.iter().filter(|one| one.sample != course.units[2][0]).cloned().collect();
        assert_eq!(course.compare(variant, &reference, own).0.questions, 2, "nor those that the reference lacks");
    }

    #[test]
    fn lost_and_gained_are_counted_by_the_rule_and_repeats_are_one_unit() {
        let mut run = stored();
        for one in &mut run.completions[1].1 {
            one.scores[0].correct = false;
        }
        let right = run.completions[0].1.iter().filter(|one| one.scores[0].correct).count();
        assert!(right > 0 && right < 6);
        let (variant, own) = &run.completions[1];
        let (shown, _) = course(&run, 1).compare(variant, &run.completions[0].1, own);
        assert_eq!((shown.lost, shown.gained, shown.answers), (right, 0, 6));
        assert_eq!(shown.difference, Some(-(right as f64) / 6.0));
        let twice = |all: &[StoredCompletion]| {
            let again = all.iter().map(|one| StoredCompletion { repeat: 1, ..one.clone() });
            all.iter().cloned().chain(again).collect::<Vec<_>>()
        };
        let (repeated, _) = course(&run, 2).compare(variant, &twice(&run.completions[0].1), &twice(own));
        assert_eq!((repeated.questions, repeated.answers, repeated.lost), (6, 12, 2 * right));
        assert!((repeated.evidence_worse / shown.evidence_worse - 1.0).abs() < 1e-12, "as sure as one answer each");
        let (half, _) = course(&run, 2).compare(variant, &run.completions[0].1, own);
        assert_eq!(half.questions, 0, "a question has ended with its last repeat");
    }

    #[test]
    fn where_nothing_is_right_nothing_is_shown() {
        let mut run = stored();
        let copies: Vec<StoredSample> =
            (0..400).map(|sample| StoredSample { sample, ..run.samples[0].clone() }).collect();
        run.samples = Arc::new(copies);
        let answers = |correct: bool| {
            let of = |sample: usize| {
                let mut one = StoredCompletion { sample, ..run.completions[0].1[0].clone() };
                one.scores[0].correct = correct;
                one
            };
            (0..400).map(of).collect::<Vec<_>>()
        };
        let shown =
            |answers: &[StoredCompletion]| course(&run, 1).compare(&run.completions[1].0, answers, answers).0.shown;
        assert_eq!((shown(&answers(true)), shown(&answers(false))), (Shown::NoWorse, Shown::Nothing));
    }

    #[test]
    fn sentences_say_what_was_shown_and_how_many_questions_it_took() {
        let mut record = course(&stored(), 1).record(&VariantName::parse("f32").unwrap(), &stored().completions);
        let variant = record.variants[0].variant.clone();
        record.questions = 1319;
        record.variants[0] = UntilVariant {
            shown: Shown::NoWorse,
            questions: 212,
            difference: Some(-0.005),
            low: -0.019,
            high: 0.012,
            ..record.variants[0].clone()
        };
        assert_eq!(
            record.sentence(&variant).unwrap(),
            "awq is no worse than f32 by more than 2 points, shown by 212 of 1,319 questions (-0.5 points, -1.9 at the least)"
        );
        assert!(
            record.is_kept()
                && record.note().unwrap().starts_with("--until ended the run after 212 of 1,319 questions")
        );
        record.variants[0].shown = Shown::Worse;
        assert_eq!(
            record.sentence(&variant).unwrap(),
            "awq is worse than f32, shown by 212 of 1,319 questions (-0.5 points, +1.2 at the most)"
        );
        assert!(!record.is_kept());
        record.variants[0] = UntilVariant { shown: Shown::Nothing, questions: 1319, ..record.variants[0].clone() };
        let open = record.sentence(&variant).unwrap();
        assert!(open.contains("by all 1,319 questions (-0.5 points, between -1.9 and +1.2)"), "{open}");
        assert!(!record.is_kept() && record.note().is_none());
        record.variants[0].right = 0;
        let none = record.sentence(&variant).unwrap();
        assert_eq!(none, "neither awq nor f32 is right on any of 1,319 questions: accuracy shows nothing");
    }
}
