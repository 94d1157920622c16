//! What variants change beyond placebos, as rows of a table and as sentences.

use serde::Serialize;

use super::placebo::{Excess, PlaceboRecord};
use crate::report::words::{percent, points};

/// A measure of a variant beside a placebo's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlaceboRow {
    /// `awq`
    pub variant: String,
    /// `bf16`
    pub placebo: String,
    /// First row of its variant and placebo.
    pub first: bool,
    /// `answers that flip`
    pub what: &'static str,
    /// Of the variant, in percent.
    pub own: String,
    /// Of the placebo, in percent.
    pub of_placebo: String,
    /// The difference, in points.
    pub excess: String,
    /// Its 95 % interval.
    pub interval: String,
    /// The whole interval lies above 0.
    pub is_more: bool,
    /// The same as numbers, fractions of 1.
    pub numbers: Excess,
}

/// The rows of a rule's records, a row a measure.
pub(crate) fn placebo_rows(records: &[PlaceboRecord], rule: &str) -> Vec<PlaceboRow> {
    let of_rule = records.iter().filter(|record| record.rule == rule);
    of_rule.flat_map(rows).collect()
}

fn rows(record: &PlaceboRecord) -> impl Iterator<Item = PlaceboRow> {
    let measures = [
        ("answers that flip", Some(record.flips)),
        ("tokens that change", record.tokens),
        ("length of answers", record.lengths),
    ];
    measures.into_iter().enumerate().filter_map(move |(index, (what, excess))| {
        let numbers = excess?;
        // A share is one of a whole, a length longer or shorter.
        let word = if what == "length of answers" { points } else { percent };
        Some(PlaceboRow {
            variant: record.variant.to_string(),
            placebo: record.placebo.to_string(),
            first: index == 0,
            what,
            own: word(numbers.variant),
            of_placebo: word(numbers.placebo),
            excess: points(numbers.excess),
            interval: format!("[{}, {}]", points(numbers.low), points(numbers.high)),
            is_more: numbers.low > 0.0,
            numbers,
        })
    })
}

/// A sentence a variant and placebo, about the answers that flip by a rule.
pub(crate) fn placebo_sentences(records: &[PlaceboRecord], rule: &str) -> Vec<String> {
    records.iter().filter(|record| record.rule == rule).map(sentence).collect()
}

fn sentence(record: &PlaceboRecord) -> String {
    let PlaceboRecord { variant, placebo, flips, .. } = record;
    let figures = format!(
        "{} % of its answers flip, {} % of the placebo's: {} points beyond it, 95 % interval [{}, {}]",
        percent(flips.variant),
        percent(flips.placebo),
        points(flips.excess),
        points(flips.low),
        points(flips.high)
    );
    if flips.low > 0.0 {
        format!("{variant} changes more answers than the placebo {placebo} ({figures})")
    } else if flips.high < 0.0 {
        format!("{variant} changes fewer answers than the placebo {placebo} ({figures})")
    } else {
        format!("{variant} is not shown to change more answers than the placebo {placebo} ({figures})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::VariantName;

    #[test]
    fn rows_and_sentences_say_which_way() {
        let excess = |low: f64, high: f64| Excess { variant: 0.0712, placebo: 0.004, excess: 0.0672, low, high };
        let record = |low: f64, high: f64| PlaceboRecord {
            variant: VariantName::parse("awq").unwrap(),
            placebo: VariantName::parse("bf16").unwrap(),
            rule: "strict".to_owned(),
            n: 240,
            flips: excess(low, high),
            tokens: None,
            lengths: Some(Excess { variant: 0.02, ..excess(low, high) }),
        };
        let rows = placebo_rows(&[record(0.0391, 0.1081)], "strict");
        let words: Vec<_> =
            rows.iter().map(|row| (row.first, row.what, row.own.as_str(), row.of_placebo.as_str())).collect();
        assert_eq!(words, [(true, "answers that flip", "7.1", "0.4"), (false, "length of answers", "+2.0", "+0.4")]);
        assert_eq!(
            (rows[0].excess.as_str(), rows[0].interval.as_str(), rows[0].is_more),
            ("+6.7", "[+3.9, +10.8]", true)
        );
        assert!(placebo_rows(&[record(0.1, 0.2)], "numeric").is_empty());
        let sentence = |low, high| placebo_sentences(&[record(low, high)], "strict").remove(0);
        assert_eq!(
            sentence(0.0391, 0.1081),
            "awq changes more answers than the placebo bf16 (7.1 % of its answers flip, 0.4 % of the placebo's: +6.7 points beyond it, \
             95 % interval [+3.9, +10.8])"
        );
        assert!(sentence(-0.2, -0.1).starts_with("awq changes fewer answers than the placebo bf16 ("));
        assert!(sentence(-0.1, 0.1).starts_with("awq is not shown to change more answers than the placebo bf16 ("));
        assert!(!placebo_rows(&[record(0.0, 0.1)], "strict")[0].is_more);
    }
}
