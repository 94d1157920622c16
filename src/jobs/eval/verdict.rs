//! What a run shows, in sentences that its intervals bear out.

use super::{DtypeRecord, EvalRecord};
use crate::report::words::{percent, points, thousands};
use crate::score::Conclusion;
use crate::score::statistics::Paired;

/// Percentage points that count as no worse unless the user says otherwise.
pub const DEFAULT_MARGIN_POINTS: f64 = 2.0;

/// A variant that is held against another.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// What its sentence calls it.
    pub label: &'a str,
    /// What its rules made of it.
    pub record: &'a DtypeRecord,
}

impl<'a> Judged<'a> {
    /// By the variant's own name.
    pub fn of(record: &'a DtypeRecord) -> Self {
        Self { label: record.dtype.as_str(), record }
    }
}

/// Why nothing can be concluded from a rule: it finds a value in under half of the answers. Names the rule that reads most of them.
pub fn unreadable(record: &DtypeRecord, rule: &str) -> Option<String> {
    let own = record.rule(rule)?;
    if record.n == 0 || own.extracted * 2 >= record.n {
        return None;
    }
    let best = record.rules.iter().max_by_key(|other| other.extracted).filter(|best| best.extracted > own.extracted);
    let n = thousands(record.n as u64);
    let way_out = best.map_or_else(
        || "no rule of the protocol reads more: look at answers with `evalsuite show RUN --wrong`".to_owned(),
        |best| format!("{} does from {}: give `--rule {}`", best.rule, thousands(best.extracted as u64), best.rule),
    );
    Some(format!(
        "{}: the rule {rule} finds a value in {} of {n} answers, under half, so it decides nothing; {way_out}",
        record.dtype,
        thousands(own.extracted as u64)
    ))
}

/// The lowest accuracy of the headline rule over all variants, as a fraction of 1; `--min-accuracy` reads this. `Err` says why there is none:
/// a variant without an answer, or one that the rule does not read.
pub fn lowest_accuracy(record: &EvalRecord) -> Result<f64, String> {
    let rule = record.headline();
    let of = |dtype: &DtypeRecord| {
        if let Some(why) = unreadable(dtype, rule) {
            return Err(why);
        }
        let accuracy = dtype.rule(rule).and_then(|rule| rule.accuracy);
        accuracy.map(|accuracy| accuracy.value).ok_or_else(|| format!("{} has no accuracy", dtype.dtype))
    };
    record.dtypes.iter().map(of).try_fold(1.0, |lowest: f64, value| Ok(lowest.min(value?)))
}

/// One sentence on a variant: against its reference where it has one, else its accuracy alone.
pub fn verdict(own: Judged, reference: Option<(Judged, Paired)>, rule: &str, margin_points: f64) -> String {
    let label = own.label;
    if own.record.failure.is_some() {
        return format!("{label} did not finish");
    }
    let readers = [Some(own), reference.map(|(reference, _)| reference)];
    if let Some(why) = readers.into_iter().flatten().find_map(|one| unreadable(one.record, rule)) {
        return format!("no verdict: {why}");
    }
    match reference {
        Some((reference, paired)) => compared(label, reference.label, &paired, margin_points),
        None => alone(own, rule),
    }
}

fn compared(label: &str, reference: &str, paired: &Paired, margin_points: f64) -> String {
    let (low, high) = (points(paired.difference_low), points(paired.difference_high));
    let figures = format!("{} points, 95 % interval [{low}, {high}]", points(paired.difference));
    let n = questions(paired);
    let smallest = percent(paired.smallest_difference());
    match Conclusion::of(paired, margin_points) {
        Conclusion::Worse => format!("{label} is worse than {reference} ({figures})"),
        Conclusion::Better => format!("{label} is better than {reference} ({figures})"),
        Conclusion::NoWorse => {
            format!("{label} is no worse than {reference} by more than {margin_points} points ({figures})")
        }
        Conclusion::Open => format!(
            "{label} is neither shown to be worse than {reference} nor to be within {margin_points} points of it ({figures}): {n} can \
             show {smallest} points"
        ),
        Conclusion::NothingRight => {
            format!("neither {label} nor {reference} is right on any of {n}: accuracy shows nothing")
        }
    }
}

/// `1,319 questions`; `960 answers to 240 independent questions` where several belong together.
pub(crate) fn questions(paired: &Paired) -> String {
    let n = thousands(paired.n() as u64);
    match paired.clustering {
        Some(clustering) => format!("{n} answers to {} independent questions", thousands(clustering.clusters as u64)),
        None => format!("{n} questions"),
    }
}

fn alone(own: Judged, rule: &str) -> String {
    let accuracy = own.record.rule(rule).and_then(|rule| rule.accuracy);
    accuracy.map_or_else(
        || format!("{} has no accuracy", own.label),
        |accuracy| {
            format!("{} is right on {} % of {}", own.label, percent(accuracy.value), thousands(accuracy.n as u64))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::eval::reading::tests::stored;
    use crate::jobs::eval::rows::{headline_row, verdicts};

    /// Two variants of 10 answers each; `extracted` by the rules `numeric`, `strict` and `flexible` in both.
    fn record(extracted: [usize; 3]) -> EvalRecord {
        let mut record = stored().record;
        for dtype in &mut record.dtypes {
            let rule = dtype.rules[0].clone();
            let of = |(name, extracted): (&str, usize)| super::super::RuleRecord {
                rule: name.to_owned(),
                extracted,
                ..rule.clone()
            };
            dtype.n = 10;
            dtype.rules = ["numeric", "strict", "flexible"].into_iter().zip(extracted).map(of).collect();
        }
        record.headline = Some("numeric".to_owned());
        record
    }

    #[test]
    fn half_of_the_answers_decide_and_the_rule_that_reads_most_is_named() {
        let why = |extracted| unreadable(&record(extracted).dtypes[0], "numeric");
        assert_eq!(why([5, 9, 10]), None);
        let four = why([4, 9, 5]).unwrap();
        assert!(four.contains("finds a value in 4 of 10 answers, under half"), "{four}");
        assert!(four.ends_with("strict does from 9: give `--rule strict`"), "{four}");
        assert!(why([4, 5, 9]).unwrap().ends_with("flexible does from 9: give `--rule flexible`"));
        assert!(why([4, 4, 3]).unwrap().ends_with("look at answers with `evalsuite show RUN --wrong`"));
    }

    #[test]
    fn the_lowest_accuracy_is_that_of_any_variant() {
        let of = |values: [f64; 2]| {
            let mut record = record([10; 3]);
            for (dtype, value) in record.dtypes.iter_mut().zip(values) {
                dtype.rules[0].accuracy.as_mut().unwrap().value = value;
            }
            lowest_accuracy(&record)
        };
        assert_eq!(of([0.25, 0.75]), Ok(0.25));
        assert_eq!(of([0.75, 0.25]), Ok(0.25));
    }

    #[test]
    fn the_reference_has_no_difference_and_one_without_answers_is_none() {
        let mut record = record([10; 3]);
        let delta = |record: &EvalRecord, place: usize| headline_row(record, &record.dtypes[place]).delta;
        assert_eq!(delta(&record, 0), "", "it is the reference");
        assert_ne!(delta(&record, 1), "");
        record.dtypes[1].rules[0].against = None;
        assert_eq!(delta(&record, 1), "n/a");
        // f32 failed before its first answer: the other stands alone, and f32 says why.
        record.dtypes[0].n = 0;
        record.dtypes[0].failure = Some("no memory".to_owned());
        let said = verdicts(&record);
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[0], "f32 did not finish");
    }
}
