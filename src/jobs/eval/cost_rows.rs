//! What right answers cost, as rows of a table: accuracy first, then tokens, seconds, joules and money.

use serde::Serialize;

use super::{Cost, DtypeRecord, EvalRecord, RuleRecord};
use crate::record::StoredCompletion;
use crate::report::words::{digits, nothing, percent, thousands};
use crate::score::Ratio;

/// A measure of one variant beside the reference's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CostRow {
    /// `awq`
    pub dtype: String,
    /// First row of its variant.
    pub first: bool,
    /// `seconds a right answer`
    pub what: String,
    /// In the measure's unit.
    pub value: String,
    /// `1.04`: its ratio to the reference's.
    pub ratio: String,
    /// `[1.01, 1.07]`
    pub interval: String,
}

/// Of the headline rule, a row a measure: accuracy first, then what it costs. Money where the run has a price.
pub(super) fn cost_rows(record: &EvalRecord) -> Vec<CostRow> {
    record.dtypes.iter().flat_map(|dtype| cost_rows_of(dtype, record)).collect()
}

/// The seconds and the joules of a variant that one of its completions has its share of.
pub(crate) fn share_of(dtype: &DtypeRecord, completion: &StoredCompletion) -> (Option<f64>, Option<f64>) {
    let tokens = dtype.output_tokens.filter(|tokens| *tokens > 0);
    let share = match (tokens, completion.output_tokens()) {
        (Some(all), Some(own)) => own as f64 / all as f64,
        _ => 1.0 / dtype.n.max(1) as f64,
    };
    (dtype.generate_seconds.map(|seconds| seconds * share), dtype.joules.map(|joules| joules * share))
}

/// The rows of one variant of a record.
pub(crate) fn cost_rows_of(dtype: &DtypeRecord, record: &EvalRecord) -> Vec<CostRow> {
    let Some(RuleRecord { accuracy: Some(accuracy), cost, .. }) = dtype.rule(record.headline()) else {
        return Vec::new();
    };
    let inverse = |ratio: Ratio| Ratio { value: 1.0 / ratio.value, low: 1.0 / ratio.high, high: 1.0 / ratio.low };
    let of = |value: fn(&Cost) -> Option<f64>| cost.as_ref().and_then(value);
    let lengths = dtype.lengths;
    let seconds_ratio = cost.and_then(|cost| cost.seconds_ratio);
    let price = record.price_per_hour.map(|price| {
        let thousand = of(|cost| cost.seconds_per_right).map(|seconds| 1000.0 * seconds * price / 3600.0);
        ("money for 1,000 right answers", thousand, seconds_ratio)
    });
    let measures = [
        (
            "tokens an answer",
            lengths.map(|lengths| lengths.mean_output_tokens),
            lengths.and_then(|lengths| lengths.ratio),
        ),
        ("tokens a right answer", of(|cost| cost.tokens_per_right), cost.and_then(|cost| cost.tokens_ratio)),
        ("seconds a right answer", of(|cost| cost.seconds_per_right), seconds_ratio),
        ("right answers a second", of(|cost| cost.right_per_second), seconds_ratio.map(inverse)),
        ("joules a right answer", of(|cost| cost.joules_per_right), cost.and_then(|cost| cost.joules_ratio)),
    ];
    let row = |(what, value, ratio): (&str, Option<f64>, Option<Ratio>)| CostRow {
        dtype: dtype.dtype.to_string(),
        first: false,
        what: what.to_owned(),
        value: value.map_or_else(nothing, significant),
        ratio: ratio.map_or_else(nothing, |ratio| format!("{:.2}", ratio.value)),
        interval: ratio.map_or_else(nothing, |ratio| format!("[{:.2}, {:.2}]", ratio.low, ratio.high)),
    };
    let right = CostRow {
        dtype: dtype.dtype.to_string(),
        first: true,
        what: format!("right, % of {}", thousands(accuracy.n as u64)),
        value: percent(accuracy.value),
        ratio: String::new(),
        interval: format!("{}-{}", percent(accuracy.low), percent(accuracy.high)),
    };
    std::iter::once(right).chain(measures.into_iter().chain(price).map(row)).collect()
}

/// Three digits that count, however small: `0.00512`, `0.500`, `21,784`.
fn significant(value: f64) -> String {
    if value >= 1.0 || value <= 0.0 {
        return digits(value);
    }
    let places = (2.0 - value.log10().floor()).clamp(3.0, 9.0) as usize;
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::eval::reading::tests::stored;

    #[test]
    fn small_costs_keep_three_digits() {
        let words = [0.0, 0.005_123, 0.5, 0.012_34, 3.0, 21_784.0].map(significant);
        assert_eq!(words, ["0.000", "0.00512", "0.500", "0.0123", "3.00", "21,784"]);
    }

    #[test]
    fn a_line_of_the_csv_has_its_answer_s_share() {
        let run = stored();
        let mut one = run.completions[0].1[0].clone();
        one.token_ids = Some(vec![1; 30]);
        let mut dtype = run.record.dtypes[0].clone();
        (dtype.n, dtype.output_tokens, dtype.generate_seconds, dtype.joules) = (6, Some(80), Some(8.0), Some(40.0));
        assert_eq!(share_of(&dtype, &one), (Some(3.0), Some(15.0)));
        (dtype.output_tokens, dtype.joules) = (None, None);
        assert_eq!(share_of(&dtype, &one), (Some(8.0 / 6.0), None));
    }

    #[test]
    fn accuracy_and_every_measure_stand_in_one_table() {
        let mut record = stored().record;
        let ratio = |value: f64| Some(Ratio { value, low: value / 2.0, high: value * 2.0 });
        for (place, dtype) in record.dtypes.iter_mut().enumerate() {
            for rule in &mut dtype.rules {
                rule.cost = Some(Cost {
                    tokens_per_right: Some(30.0),
                    seconds_per_right: Some(0.5),
                    right_per_second: Some(2.0),
                    joules_per_right: None,
                    tokens_ratio: ratio(1.25).filter(|_| place > 0),
                    seconds_ratio: ratio(0.8).filter(|_| place > 0),
                    joules_ratio: None,
                });
            }
        }
        record.price_per_hour = Some(3.6);
        let rows = cost_rows(&record);
        let of = |what: &str| {
            let found: Vec<_> = rows.iter().filter(|row| row.what.starts_with(what)).collect();
            let [first, second] = found[..] else { panic!("{what}: {rows:?}") };
            assert_eq!(first.first, what == "right, %");
            (second.value.clone(), second.ratio.clone(), second.interval.clone())
        };
        let texts =
            |value: &str, ratio: &str, interval: &str| (value.to_owned(), ratio.to_owned(), interval.to_owned());
        assert_eq!(of("seconds a right"), texts("0.500", "0.80", "[0.40, 1.60]"));
        assert_eq!(of("right answers a second"), texts("2.00", "1.25", "[0.62, 2.50]"));
        assert_eq!(of("tokens a right"), texts("30.0", "1.25", "[0.62, 2.50]"));
        assert_eq!(of("joules"), texts("n/a", "n/a", "n/a"));
        assert_eq!(
            of("money for 1,000"),
            texts("0.500", "0.80", "[0.40, 1.60]"),
            "0.5 s at 0.001 a second, a thousand times"
        );
        of("right, %");
        of("tokens an answer");
        record.price_per_hour = None;
        assert!(!cost_rows(&record).iter().any(|row| row.what.starts_with("money")));
    }
}
