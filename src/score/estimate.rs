//! Means of a series with their standard errors, and quantiles.

use serde::{Deserialize, Serialize};

/// A mean and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Its standard error over blocks of neighbours; `None` where there are fewer than two blocks.
    pub standard_error: Option<f64>,
    /// What its standard error would be if neighbours were independent: the plain s/√n. `None` for one value.
    pub plain_standard_error: Option<f64>,
}

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

impl Estimate {
    /// The mean of a series whose neighbours may be correlated, cut into blocks of these lengths one after the other.
    ///
    /// The standard error takes each block as one observation, as a survey takes clusters: with block sums Sᵦ, lengths
    /// nᵦ, B blocks, n = Σ nᵦ and the mean m, it is √(B/(B−1) · Σ (Sᵦ − m·nᵦ)²) / n (Cochran, Sampling Techniques,
    /// 1977, the ratio estimator's linearised variance). Blocks of equal length make it the standard error of the
    /// block means. `None` for an empty series and for lengths that do not add up to it.
    pub fn of_blocks(values: &[f64], blocks: &[usize]) -> Option<Self> {
        let n = values.len();
        if n == 0 || blocks.iter().sum::<usize>() != n {
            return None;
        }
        let count = n as f64;
        let value = values.iter().sum::<f64>() / count;
        let mut rest = values;
        let residues = blocks.iter().map(|length| {
            let (block, others) = rest.split_at(*length);
            rest = others;
            block.iter().sum::<f64>() - value * *length as f64
        });
        let between: f64 = residues.map(|residue| residue * residue).sum();
        let within: f64 = values.iter().map(|one| (one - value) * (one - value)).sum();
        let spread = |squares: f64, observations: usize| {
            (observations > 1).then(|| {
                let observations = observations as f64;
                (squares * observations / (observations - 1.0)).sqrt() / count
            })
        };
        Some(Self { value, standard_error: spread(between, blocks.len()), plain_standard_error: spread(within, n) })
    }

    /// The same in another unit: `factor` of the new go on one of the old.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        let scale = |error: Option<f64>| error.map(|error| error * factor.abs());
        Self {
            value: self.value * factor,
            standard_error: scale(self.standard_error),
            plain_standard_error: scale(self.plain_standard_error),
        }
    }

    /// The square root of the mean, as the root of a mean of squares; its errors by the delta method, `None` at 0.
    #[must_use]
    pub fn root(self) -> Self {
        let value = self.value.sqrt();
        let scale = |error: Option<f64>| error.filter(|_| value > 0.0).map(|error| error / (2.0 * value));
        Self {
            value,
            standard_error: scale(self.standard_error),
            plain_standard_error: scale(self.plain_standard_error),
        }
    }

    /// The exponential of the mean.
    pub fn exponential(self) -> Exponential {
        let value = libm::exp(self.value);
        Exponential {
            value,
            standard_error: self.standard_error.map(|error| value * error),
            low: self.standard_error.map(|error| libm::exp(self.value - Z * error)),
            high: self.standard_error.map(|error| libm::exp(self.value + Z * error)),
        }
    }
}

/// e to the power of a mean: a perplexity, or the ratio of two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Exponential {
    /// exp(mean).
    pub value: f64,
    /// By the delta method: value · the mean's standard error.
    pub standard_error: Option<f64>,
    /// Lower bound of the 95 % interval, exp(mean − 1.96 · standard error).
    pub low: Option<f64>,
    /// Upper bound.
    pub high: Option<f64>,
}

/// Pearson's correlation of two series; `None` where they differ in length, or one of them does not vary.
pub fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() || a.is_empty() {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sum = |of: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| of(a - mean_a, b - mean_b)).sum::<f64>();
    let (squares_a, squares_b) = (sum(|a, _| a * a), sum(|_, b| b * b));
    (squares_a > 0.0 && squares_b > 0.0).then(|| sum(|a, b| a * b) / (squares_a.sqrt() * squares_b.sqrt()))
}

/// The quantile of a sorted series, interpolated linearly between neighbours at position q · (n − 1); `None` for an
/// empty series and for a q outside 0 to 1.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&q) {
        return None;
    }
    let position = q * sorted.len().checked_sub(1)? as f64;
    let below = sorted.get(position as usize)?;
    let above = sorted.get(position as usize + 1).unwrap_or(below);
    Some(below + (above - below) * position.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(actual: Option<f64>, expected: f64) {
        let actual = actual.unwrap();
        assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
    }

    #[test]
    fn equal_blocks_give_the_standard_error_of_their_means() {
        // Blocks (1, 3), (5, 7), (0, 2): means 2, 6, 1, whose mean is 3 and whose variance is (1 + 9 + 4)/2 = 7.
        let estimate = Estimate::of_blocks(&[1.0, 3.0, 5.0, 7.0, 0.0, 2.0], &[2, 2, 2]).unwrap();
        close(Some(estimate.value), 3.0);
        close(estimate.standard_error, (7.0_f64 / 3.0).sqrt());
        // Squares about 3: 4 + 0 + 4 + 16 + 9 + 1 = 34; s² = 34/5.
        close(estimate.plain_standard_error, (34.0_f64 / 5.0 / 6.0).sqrt());
    }

    #[test]
    fn unequal_blocks_weigh_by_their_length() {
        // Mean (1 + 2 + 3 + 6)/4 = 3; residues of (1, 2, 3) and (6): 6 − 9 = −3 and 6 − 3 = 3; √(2 · 18)/4 = 1.5.
        let estimate = Estimate::of_blocks(&[1.0, 2.0, 3.0, 6.0], &[3, 1]).unwrap();
        close(Some(estimate.value), 3.0);
        close(estimate.standard_error, 1.5);
    }

    #[test]
    fn one_block_has_no_standard_error_and_nothing_has_no_mean() {
        let estimate = Estimate::of_blocks(&[1.0, 2.0], &[2]).unwrap();
        assert_eq!(estimate.standard_error, None);
        close(estimate.plain_standard_error, 0.5);
        assert_eq!(Estimate::of_blocks(&[], &[]), None);
        assert_eq!(Estimate::of_blocks(&[1.0], &[2]), None);
    }

    #[test]
    fn blocks_of_one_are_the_plain_standard_error() {
        let estimate = Estimate::of_blocks(&[1.0, 4.0, 2.0], &[1, 1, 1]).unwrap();
        close(estimate.standard_error, estimate.plain_standard_error.unwrap());
    }

    #[test]
    fn perplexity_is_the_exponential() {
        let estimate = Estimate { value: 2.0, standard_error: Some(0.1), plain_standard_error: None };
        let perplexity = estimate.exponential();
        close(Some(perplexity.value), 2.0_f64.exp());
        close(perplexity.standard_error, 0.1 * 2.0_f64.exp());
        close(perplexity.low, (2.0 - 0.1 * Z).exp());
        close(perplexity.high, (2.0 + 0.1 * Z).exp());
        close(estimate.scaled(-2.0).standard_error, 0.2);
    }

    #[test]
    fn the_root_of_a_mean_of_squares_has_half_its_relative_error() {
        let estimate = Estimate { value: 0.25, standard_error: Some(0.1), plain_standard_error: Some(0.05) }.root();
        close(Some(estimate.value), 0.5);
        close(estimate.standard_error, 0.1);
        close(estimate.plain_standard_error, 0.05);
        let nothing = Estimate { value: 0.0, standard_error: Some(0.0), plain_standard_error: None }.root();
        assert_eq!((nothing.value, nothing.standard_error), (0.0, None));
    }

    #[test]
    fn a_correlation_by_hand() {
        // About their means (−1, 0, 1) and (−2, 1, 1): 3 / √(2 · 6).
        close(correlation(&[1.0, 2.0, 3.0], &[0.0, 3.0, 3.0]), 3.0 / 12.0_f64.sqrt());
        close(correlation(&[1.0, 2.0], &[5.0, -1.0]), -1.0);
        assert_eq!(correlation(&[1.0, 2.0], &[5.0, 5.0]), None);
        assert_eq!(correlation(&[1.0], &[5.0, 4.0]), None);
        assert_eq!(correlation(&[], &[]), None);
    }

    #[test]
    fn quantiles_interpolate() {
        let sorted = [0.0, 10.0, 20.0, 40.0];
        close(quantile(&sorted, 0.5), 15.0);
        close(quantile(&sorted, 0.9), 34.0);
        close(quantile(&sorted, 1.0), 40.0);
        close(quantile(&sorted, 0.0), 0.0);
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&sorted, 1.5), None);
    }
}
