//! The ratio of two means on the same questions, with its interval.

use serde::{Deserialize, Serialize};

/// A ratio of paired means with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// mean of the other / mean of the reference.
    pub value: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// mean(other) / mean(reference) of pairs (reference, other), with the delta method's interval, paired: with residuals
/// `e = other − ratio · reference`, the standard error is `sd(e) / (√n · mean(reference))`. `None` for fewer than two pairs and for a
/// reference whose mean is 0.
pub fn paired_ratio(pairs: &[(f64, f64)]) -> Option<Ratio> {
    const Z: f64 = 1.959_963_984_540_054;
    let n = pairs.len() as f64;
    let reference: f64 = pairs.iter().map(|pair| pair.0).sum();
    let other: f64 = pairs.iter().map(|pair| pair.1).sum();
    if pairs.len() < 2 || reference <= 0.0 {
        return None;
    }
    let value = other / reference;
    // The residuals sum to 0 by construction.
    let squares: f64 = pairs.iter().map(|(reference, other)| (other - value * reference).powi(2)).sum();
    let half = Z * (squares / (n - 1.0) / n).sqrt() / (reference / n);
    Some(Ratio { value, low: value - half, high: value + half })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_hand() {
        // Means 20 and 22; residuals of 1.1: 10 − 11, 24 − 22, 32 − 33: 1, 4, 1; sd = √(6/2), error √(3/3)/20.
        let ratio = paired_ratio(&[(10.0, 10.0), (20.0, 24.0), (30.0, 32.0)]).unwrap();
        assert!((ratio.value - 1.1).abs() < 1e-12, "{ratio:?}");
        assert!((ratio.high - ratio.value - 1.959_963_984_540_054 * 0.05).abs() < 1e-12, "{ratio:?}");
        assert_eq!(paired_ratio(&[(10.0, 10.0)]), None);
        assert_eq!(paired_ratio(&[(0.0, 1.0), (0.0, 2.0)]), None);
    }

    proptest! {
        #[test]
        fn answers_that_are_all_longer_by_one_factor_give_it_exactly(
            lengths in proptest::collection::vec(1.0..500.0_f64, 2..50), factor in 0.5..2.0_f64,
        ) {
            let pairs: Vec<(f64, f64)> = lengths.iter().map(|length| (*length, length * factor)).collect();
            let ratio = paired_ratio(&pairs).unwrap();
            prop_assert!((ratio.value - factor).abs() < 1e-9);
            prop_assert!(ratio.high - ratio.low < 1e-6, "no residual, no uncertainty: {ratio:?}");
        }
    }
}
