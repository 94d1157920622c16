//! Repetitions of one measurement, summed up.

use serde::{Deserialize, Serialize};

use super::quantile;

/// What repetitions of a measurement show.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Repetitions.
    pub n: usize,
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The least.
    pub minimum: f64,
    /// The largest.
    pub maximum: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The sample standard deviation, √(Σ(x − mean)² / (n − 1)); `None` of one value.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of any values; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        let mean = sorted.iter().sum::<f64>() / n as f64;
        let squares: f64 = sorted.iter().map(|value| (value - mean) * (value - mean)).sum();
        Some(Self {
            n,
            median: quantile(&sorted, 0.5)?,
            minimum: *sorted.first()?,
            maximum: *sorted.last()?,
            mean,
            deviation: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()),
        })
    }

    /// Of a single figure, such as another program's.
    pub const fn single(value: f64) -> Self {
        Self { n: 1, median: value, minimum: value, maximum: value, mean: value, deviation: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_have_a_median_both_ends_a_mean_and_a_sample_deviation() {
        let spread = Spread::of([4.0, 1.0, 7.0, 2.0]).unwrap();
        assert_eq!((spread.n, spread.median, spread.minimum, spread.maximum), (4, 3.0, 1.0, 7.0));
        // Σ(x − 3.5)² = 6.25 + 2.25 + 0.25 + 12.25 = 21, over three.
        assert_eq!((spread.mean, spread.deviation), (3.5, Some(7.0_f64.sqrt())));
        assert_eq!(Spread::of([5.0]), Some(Spread::single(5.0)));
        assert_eq!(Spread::of([]), None);
    }
}
