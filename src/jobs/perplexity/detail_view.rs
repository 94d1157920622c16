//! What a perplexity's further tables see: how the change is spread, and where answers would first go otherwise.

use serde::Serialize;

use super::numbers::{error, percentage, quoted, quoted_end, signed, significant};
use super::{AnswerToken, Departure, Departures, Divergence, DtypePerplexity, ProbabilityChange, Spread};
use crate::report::words::{nothing, thousands};
use crate::score::quantile;

/// Characters of context that a token is shown with.
pub(in crate::jobs) const CONTEXT_CHARACTERS: usize = 36;

/// How one variant's divergence from the reference is spread.
#[derive(Debug, Clone, Serialize)]
pub struct SpreadRow {
    /// `f16`
    pub dtype: String,
    /// ln(perplexity / the reference's).
    pub log_ratio: String,
    /// Its standard error.
    pub log_ratio_error: String,
    /// Perplexity less the reference's.
    pub difference: String,
    /// Its standard error.
    pub difference_error: String,
    /// Pearson's correlation of the log-probabilities.
    pub correlation: String,
    /// Mean change of the text's token's probability, percentage points.
    pub change_mean: String,
    /// Its standard error.
    pub change_mean_error: String,
    /// The root of its mean square.
    pub change_rms: String,
    /// Its standard error.
    pub change_rms_error: String,
    /// Its quantiles, percentage points: minimum, 0.1, 1, 5, 10, 25 %, median, 75, 90, 95, 99, 99.9 %, maximum.
    pub change_quantiles: [String; 13],
    /// The lower quantiles of the KL divergence, nats: minimum, 0.1, 1, 5, 10 %.
    pub kl_quantiles: [String; 5],
}

/// Where one variant would leave the reference's own answers.
#[derive(Debug, Clone, Serialize)]
pub struct DepartureRow {
    /// `f16`
    pub dtype: String,
    /// Answers that were read.
    pub answers: String,
    /// Those that it would leave.
    pub leaves: String,
    /// Their share, percent.
    pub share: String,
    /// Its standard error, percentage points.
    pub share_error: String,
    /// Tokens before the departure, median.
    pub median_token: String,
    /// Those with so small a margin that rounding may decide.
    pub near_ties: String,
    /// The others.
    pub real: String,
    /// The largest margin, nats.
    pub largest: String,
    /// The real departures with the largest margins, as many as were asked for.
    pub worst: Vec<DepartureText>,
}

/// A departure to read.
#[derive(Debug, Clone, Serialize)]
pub struct DepartureText {
    /// `sample 3, token 12`
    pub place: String,
    /// Nats.
    pub margin: String,
    /// The end of the text before it, quoted.
    pub context: String,
    /// The answer's token, quoted.
    pub token: String,
    /// This variant's, quoted.
    pub this: String,
}

/// `None` for the reference, and of a record of before these were computed.
pub(super) fn spread_row(dtype: &DtypePerplexity) -> Option<SpreadRow> {
    let Divergence { kl, log_probability_change, perplexity_difference, correlation, probability_change, .. } =
        dtype.against.as_ref()?;
    let change = probability_change.as_ref()?;
    Some(SpreadRow {
        dtype: dtype.dtype.to_string(),
        log_ratio: signed(-log_probability_change.value),
        log_ratio_error: error(log_probability_change),
        difference: perplexity_difference.map_or_else(nothing, |difference| signed(difference.value)),
        difference_error: perplexity_difference.as_ref().map_or_else(nothing, error),
        correlation: correlation.map_or_else(nothing, |correlation| format!("{:.4} %", correlation * 100.0)),
        change_mean: signed(change.mean.value * 100.0),
        change_mean_error: error(&change.mean.scaled(100.0)),
        change_rms: percentage(change.root_mean_square.value),
        change_rms_error: error(&change.root_mean_square.scaled(100.0)),
        change_quantiles: change_quantiles(change).map(|value| signed(value * 100.0)),
        kl_quantiles: kl_quantiles(kl).map(|value| value.map_or_else(nothing, significant)),
    })
}

fn change_quantiles(change: &ProbabilityChange) -> [f64; 13] {
    let ProbabilityChange {
        mean: _,
        root_mean_square: _,
        minimum,
        p0_1,
        p1,
        p5,
        p10,
        p25,
        median,
        p75,
        p90,
        p95,
        p99,
        p99_9,
        maximum,
    } = *change;
    [minimum, p0_1, p1, p5, p10, p25, median, p75, p90, p95, p99, p99_9, maximum]
}

fn kl_quantiles(kl: &Spread) -> [Option<f64>; 5] {
    [kl.minimum, kl.p0_1, kl.p1, kl.p5, kl.p10]
}

/// With this many of the largest real departures. `None` where no answers were read.
pub(super) fn departure_row(dtype: &DtypePerplexity, worst: usize) -> Option<DepartureRow> {
    let Departures { answers, share, near_tie_nats: _, list } = dtype.against.as_ref()?.departures.as_ref()?;
    let mut places: Vec<f64> = list.iter().map(|departure| departure.at.tokens_before as f64).collect();
    places.sort_unstable_by(f64::total_cmp);
    let mut real: Vec<&Departure> = list.iter().filter(|departure| !departure.is_near_tie).collect();
    real.sort_by(|a, b| b.margin.total_cmp(&a.margin));
    let largest = list.iter().map(|departure| departure.margin).max_by(f64::total_cmp);
    let count = |count: usize| thousands(count as u64);
    Some(DepartureRow {
        dtype: dtype.dtype.to_string(),
        answers: count(*answers),
        leaves: count(list.len()),
        share: format!("{:.1}", share.value * 100.0),
        share_error: share.standard_error.map_or_else(nothing, |error| format!("{:.1}", error * 100.0)),
        median_token: quantile(&places, 0.5).map_or_else(nothing, |place| format!("{place:.0}")),
        near_ties: count(list.len() - real.len()),
        real: count(real.len()),
        largest: largest.map_or_else(nothing, significant),
        worst: real.into_iter().take(worst).map(departure_text).collect(),
    })
}

fn departure_text(departure: &Departure) -> DepartureText {
    DepartureText {
        place: place(&departure.at),
        margin: significant(departure.margin),
        context: quoted_end(&departure.context, CONTEXT_CHARACTERS),
        token: quoted(&departure.token),
        this: quoted(&departure.this),
    }
}

/// `sample 3, token 12`, `sample 3, repeat 1, token 12`.
pub(super) fn place(at: &AnswerToken) -> String {
    let AnswerToken { sample, repeat, tokens_before } = at;
    let repeat = if *repeat == 0 { String::new() } else { format!(", repeat {repeat}") };
    format!("sample {sample}{repeat}, token {tokens_before}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Precision;
    use crate::score::Estimate;

    fn estimate(value: f64) -> Estimate {
        Estimate { value, standard_error: Some(value.abs() / 10.0), plain_standard_error: None }
    }

    fn departure(sample: usize, repeat: usize, margin: f64) -> Departure {
        Departure {
            at: AnswerToken { sample, repeat, tokens_before: sample * 10 },
            margin,
            is_near_tie: margin < 0.1,
            context: "so far".to_owned(),
            token: "a".to_owned(),
            this: "b".to_owned(),
        }
    }

    fn f16() -> DtypePerplexity {
        let kl = Spread {
            mean: estimate(6.0),
            minimum: Some(1.0),
            p0_1: Some(2.0),
            p1: Some(3.0),
            p5: Some(4.0),
            p10: Some(5.0),
            median: 6.0,
            p90: 7.0,
            p95: 8.0,
            p99: 9.0,
            p99_9: 10.0,
            maximum: 11.0,
        };
        let change = ProbabilityChange {
            mean: estimate(-0.5),
            root_mean_square: estimate(0.2),
            minimum: -0.07,
            p0_1: -0.06,
            p1: -0.05,
            p5: -0.04,
            p10: -0.03,
            p25: -0.02,
            median: 0.0,
            p75: 0.02,
            p90: 0.03,
            p95: 0.04,
            p99: 0.05,
            p99_9: 0.06,
            maximum: 0.07,
        };
        let departures = Departures {
            answers: 1200,
            share: estimate(0.25),
            near_tie_nats: 0.1,
            list: vec![departure(1, 0, 0.05), departure(2, 0, 0.5), departure(7, 3, 2.0)],
        };
        DtypePerplexity {
            dtype: Precision::F16.into(),
            failure: None,
            engine: None,
            seconds: None,
            nats_per_token: None,
            perplexity: None,
            bits_per_byte: None,
            against: Some(Divergence {
                kl,
                same_best: estimate(1.0),
                log_probability_change: estimate(-0.3),
                perplexity_ratio: estimate(0.3).exponential(),
                perplexity_difference: Some(estimate(4.0)),
                correlation: Some(0.965_512),
                probability_change: Some(change),
                departures: Some(departures),
                worst: Vec::new(),
            }),
        }
    }

    #[test]
    fn quantiles_stand_in_their_order_in_percentage_points() {
        let row = spread_row(&f16()).unwrap();
        assert_eq!(row.kl_quantiles, ["1.00", "2.00", "3.00", "4.00", "5.00"]);
        let expected = ["-7.00", "-6.00", "-5.00", "-4.00", "-3.00", "-2.00", "0"];
        assert_eq!(row.change_quantiles[..7], expected);
        assert_eq!(row.change_quantiles[7..], ["+2.00", "+3.00", "+4.00", "+5.00", "+6.00", "+7.00"]);
        assert_eq!((row.change_mean, row.change_mean_error), ("-50.0".to_owned(), "5.00".to_owned()));
        assert_eq!((row.change_rms, row.change_rms_error), ("20.0".to_owned(), "2.00".to_owned()));
        assert_eq!((row.log_ratio, row.difference), ("+0.300".to_owned(), "+4.00".to_owned()));
        assert_eq!(row.correlation, "96.5512 %");
    }

    #[test]
    fn departures_are_counted_by_kind_and_the_largest_real_ones_shown() {
        let row = departure_row(&f16(), 1).unwrap();
        let counts = [&row.answers, &row.leaves, &row.near_ties, &row.real].map(String::as_str);
        assert_eq!(counts, ["1,200", "3", "1", "2"]);
        assert_eq!((row.share.as_str(), row.share_error.as_str(), row.median_token.as_str()), ("25.0", "2.5", "20"));
        assert_eq!(row.largest, "2.00");
        let [worst] = &row.worst[..] else { panic!("one was asked for") };
        assert_eq!(worst.place, "sample 7, repeat 3, token 70");
        assert_eq!((worst.token.as_str(), worst.this.as_str()), ("\"a\"", "\"b\""));
    }
}
