//! The ratio of two means on the same questions, with its interval.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

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

/// [`paired_ratio`] of amounts (of the reference, of the other) with their keys: those of one key are one pair.
pub fn clustered_ratio<K: Ord>(amounts: impl IntoIterator<Item = (K, [f64; 2])>) -> Option<Ratio> {
    let mut sums: BTreeMap<K, (f64, f64)> = BTreeMap::new();
    for (key, [reference, other]) in amounts {
        let (all_of_reference, all_of_other) = sums.entry(key).or_default();
        *all_of_reference += reference;
        *all_of_other += other;
    }
    paired_ratio(&sums.into_values().collect::<Vec<_>>())
}

/// What a success costs in one series, over what it costs in another, of the same units: each is (cost and successes of the reference,
/// cost and successes of the other). (Σ other cost / Σ other successes) / (Σ reference cost / Σ reference successes), with the delta
/// method's interval on the logarithm, paired: of a unit `e = c₂/C₂ − s₂/S₂ − c₁/C₁ + s₁/S₁` with the means C and S, the standard error is
/// `sd(e) / √n`. `None` for fewer than two units and where any of the four sums is 0.
pub fn paired_cost_ratio(units: &[[f64; 4]]) -> Option<Ratio> {
    let n = units.len() as f64;
    let sums = units.iter().fold([0.0; 4], |sums, unit| std::array::from_fn(|at| sums[at] + unit[at]));
    if units.len() < 2 || sums.iter().any(|sum| *sum <= 0.0) {
        return None;
    }
    let means = sums.map(|sum| sum / n);
    let [reference_cost, reference_successes, cost, successes] = sums;
    let value = (cost / successes) / (reference_cost / reference_successes);
    // The deviations sum to 0 by construction.
    let deviation = |unit: &[f64; 4]| {
        let [c1, s1, c2, s2]: [f64; 4] = std::array::from_fn(|at| unit[at] / means[at]);
        c2 - s2 - c1 + s1
    };
    let squares: f64 = units.iter().map(|unit| deviation(unit).powi(2)).sum();
    let half = Z * (squares / (n - 1.0) / n).sqrt();
    Some(Ratio { value, low: value * libm::exp(-half), high: value * libm::exp(half) })
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

    #[test]
    fn amounts_of_one_key_are_one_pair() {
        let amounts = [("b", [4.0, 5.0]), ("a", [10.0, 10.0]), ("c", [30.0, 32.0]), ("b", [16.0, 19.0])];
        assert_eq!(clustered_ratio(amounts), paired_ratio(&[(10.0, 10.0), (20.0, 24.0), (30.0, 32.0)]));
        assert_eq!(clustered_ratio([(1, [3.0, 1.0]), (1, [2.0, 2.0])]), None, "one pair");
    }

    #[test]
    fn the_cost_of_a_success_by_hand() {
        // 6 for 2 against 8 for 4: 3 / 2. Deviations 4/2 − 2·2/2 …: of means 2, 2/3, 8/3, 4/3.
        let units = [[1.0, 1.0, 2.0, 2.0], [2.0, 0.0, 2.0, 1.0], [3.0, 1.0, 4.0, 1.0]];
        let ratio = paired_cost_ratio(&units.map(|[a, b, c, d]| [c, d, a, b])).unwrap();
        assert!((ratio.value - 1.5).abs() < 1e-12, "{ratio:?}");
        let e = [0.5 - 1.5 - 0.75 + 1.5, 1.0 - 0.0 - 0.75 + 0.75, 1.5 - 1.5 - 1.5 + 0.75_f64];
        let half = Z * (e.iter().map(|e| e * e).sum::<f64>() / 6.0).sqrt();
        assert!(
            (ratio.high - 1.5 * half.exp()).abs() < 1e-12 && (ratio.low - 1.5 / half.exp()).abs() < 1e-12,
            "{ratio:?}"
        );
        assert_eq!(paired_cost_ratio(&units[..1]), None);
        assert_eq!(paired_cost_ratio(&[[1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0]]), None, "nothing succeeds");
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
