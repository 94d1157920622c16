//! Intervals and paired tests on counts of right answers.

use serde::{Deserialize, Serialize};

/// A proportion with its 95 % interval, as fractions of 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// Successes.
    pub successes: usize,
    /// Trials.
    pub n: usize,
    /// successes / n.
    pub value: f64,
    /// Lower bound of Wilson's interval.
    pub low: f64,
    /// Upper bound of Wilson's interval.
    pub high: f64,
}

/// Two series of right/wrong on the same questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Right in both.
    pub both_right: usize,
    /// Right in the reference, wrong in the other.
    pub lost: usize,
    /// Wrong in the reference, right in the other.
    pub gained: usize,
    /// Wrong in both.
    pub both_wrong: usize,
    /// other − reference, as a fraction of 1.
    pub difference: f64,
    /// Paired bootstrap 95 % interval of the difference (seeded).
    pub difference_low: f64,
    /// Upper bound.
    pub difference_high: f64,
    /// Exact two-sided `McNemar` p-value.
    pub mcnemar_p: f64,
}

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;
const ALPHA: f64 = 0.05;
const RESAMPLES: usize = 10_000;
const BOOTSTRAP_SEED: u64 = 1234;

/// Wilson's 95 % score interval (Wilson 1927, without continuity correction); `None` for n = 0 (there is no accuracy,
/// and 0 would be a lie) and for more successes than trials.
pub fn wilson(successes: usize, n: usize) -> Option<Proportion> {
    if n == 0 || successes > n {
        return None;
    }
    let trials = n as f64;
    let value = successes as f64 / trials;
    let scale = 1.0 + Z * Z / trials;
    let centre = (value + Z * Z / (2.0 * trials)) / scale;
    let half = Z / scale * (value * (1.0 - value) / trials + Z * Z / (4.0 * trials * trials)).sqrt();
    // At the ends the formula gives exactly 0 or 1; rounding must not step over them or stop short of them.
    let low = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == n { 1.0 } else { (centre + half).min(1.0) };
    Some(Proportion { successes, n, value, low, high })
}

/// Compares two series on the same questions; `None` when there is no question or the series differ in length.
pub fn paired(reference: &[bool], other: &[bool]) -> Option<Paired> {
    if reference.is_empty() || reference.len() != other.len() {
        return None;
    }
    let count = |was: bool, is: bool| reference.iter().zip(other).filter(|pair| *pair == (&was, &is)).count();
    let (lost, gained) = (count(true, false), count(false, true));
    let n = reference.len();
    let (difference_low, difference_high) = bootstrap(lost, gained, n);
    Some(Paired {
        both_right: count(true, true),
        lost,
        gained,
        both_wrong: count(false, false),
        difference: (gained as f64 - lost as f64) / n as f64,
        difference_low,
        difference_high,
        mcnemar_p: mcnemar(lost, gained),
    })
}

/// The smallest difference between two accuracies on the same `n` questions, as a fraction of 1, that exact
/// `McNemar` would call significant at 5 % if `flips` answers changed (lost plus gained; `Paired` has both). Fewer than six flips
/// are never significant, all in one direction though they be, so six is the least that is reckoned with. `None`
/// where `n` questions cannot show any difference.
pub fn smallest_detectable_difference(n: usize, flips: usize) -> Option<f64> {
    const FEWEST_FLIPS: usize = 6;
    let flips = flips.max(FEWEST_FLIPS);
    if flips > n {
        return None;
    }
    // p grows with the smaller side, so the largest significant one can be searched for by halving.
    let (mut significant, mut not) = (0, flips / 2 + 1);
    while not - significant > 1 {
        let middle = usize::midpoint(significant, not);
        if mcnemar(middle, flips - middle) <= ALPHA { significant = middle } else { not = middle }
    }
    Some((flips - 2 * significant) as f64 / n as f64)
}

/// Exact two-sided `McNemar` test: under the null hypothesis the smaller of the two counts of flips is binomial with
/// probability one half, so p = min(1, 2 · Σ_{i ≤ min} C(flips, i) / 2^flips).
fn mcnemar(lost: usize, gained: usize) -> f64 {
    let flips = lost + gained;
    let smaller = lost.min(gained);
    if lost == gained {
        return 1.0;
    }
    let log_factorial = |k: usize| libm::lgamma(k as f64 + 1.0);
    let log_largest = log_factorial(flips)
        - log_factorial(smaller)
        - log_factorial(flips - smaller)
        - flips as f64 * std::f64::consts::LN_2;
    // Terms relative to the largest, which is the last: C(n, i − 1) = C(n, i) · i / (n − i + 1).
    let mut term = 1.0;
    let mut sum = 1.0;
    for i in (1..=smaller).rev() {
        term *= i as f64 / (flips - i + 1) as f64;
        sum += term;
        if term < f64::EPSILON * f64::EPSILON {
            break;
        }
    }
    (2.0 * sum * log_largest.exp()).min(1.0)
}

/// Percentile bootstrap of the difference over questions: `RESAMPLES` resamples of n questions, each of which is lost,
/// gained or unchanged. Only these counts matter, so drawing them is drawing the questions. Quantiles are interpolated
/// linearly. The generator is seeded and integer-only: the interval is the same on every machine.
fn bootstrap(lost: usize, gained: usize, n: usize) -> (f64, f64) {
    if lost + gained == 0 {
        return (0.0, 0.0);
    }
    let mut random = SplitMix64(BOOTSTRAP_SEED);
    let mut differences: Vec<i64> = (0..RESAMPLES)
        .map(|_| {
            let draw = |_| {
                let question = random.below(n);
                i64::from((lost..lost + gained).contains(&question)) - i64::from(question < lost)
            };
            (0..n).map(draw).sum()
        })
        .collect();
    differences.sort_unstable();
    let quantile = |q: f64| {
        let position = q * (RESAMPLES - 1) as f64;
        let below = differences[position as usize] as f64;
        let above = differences[(position as usize + 1).min(RESAMPLES - 1)] as f64;
        (below + (above - below) * position.fract()) / n as f64
    };
    (quantile(ALPHA / 2.0), quantile(1.0 - ALPHA / 2.0))
}

/// `splitmix64` (Steele, Lea and Flood 2014): a Weyl sequence through a 64-bit finaliser.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`, by the high half of a 128-bit product; the bias of at most n/2^64 is far below any digit shown.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected} ± {tolerance}");
    }

    #[test]
    fn wilson_matches_references() {
        // Computed with Python's decimal module at 50 digits from the closed form and z = 1.959963984540054.
        for (successes, n, low, high) in WILSON {
            let proportion = wilson(successes, n).unwrap();
            close(proportion.low, low, 1e-14);
            close(proportion.high, high, 1e-14);
        }
        assert_eq!(wilson(0, 0), None);
        assert_eq!(wilson(3, 2), None);
    }

    #[test]
    fn mcnemar_matches_exact_fractions() {
        // Computed with Python's fractions module: 2 · sum(comb(n, i) for i ≤ min) / 2**n, capped at 1.
        for (lost, gained, p) in MCNEMAR {
            let actual = mcnemar(lost, gained);
            // lgamma is right to some 1e-15 of its value, and ln(n!) is about n·ln(n).
            let n = (lost + gained).max(2) as f64;
            close(actual / p, 1.0, 1e-13 + 4e-16 * n * n.ln());
            close(mcnemar(gained, lost), actual, 0.0);
        }
    }

    #[test]
    fn mcnemar_of_a_million_flips_is_finite() {
        let p = mcnemar(499_000, 501_000);
        assert!(p > 0.0 && p < 0.05, "{p}");
        close(mcnemar(0, 5_000_000), 0.0, 0.0);
    }

    #[test]
    fn paired_counts_the_flips() {
        let reference = [true, true, true, false, false];
        let other = [true, false, true, true, false];
        let paired = paired(&reference, &other).unwrap();
        assert_eq!((paired.both_right, paired.lost, paired.gained, paired.both_wrong), (2, 1, 1, 1));
        close(paired.difference, 0.0, 0.0);
        close(paired.mcnemar_p, 1.0, 0.0);
        assert_eq!(super::paired(&[], &[]), None);
        assert_eq!(super::paired(&[true], &[true, false]), None);
    }

    #[test]
    fn the_bootstrap_interval_agrees_with_the_normal_one() {
        // Variance of one question's difference: (lost + gained)/n − difference²; the means of 10,000 resamples lie
        // on a grid of 1/n, and a quantile of 10,000 draws has a standard error near 0.027 standard deviations.
        let (lost, gained, n) = (60, 30, 1319);
        let (low, high) = bootstrap(lost, gained, n);
        let difference = (gained as f64 - lost as f64) / n as f64;
        let deviation = ((90.0 / n as f64 - difference * difference) / n as f64).sqrt();
        close(low, difference - Z * deviation, 4.0 * 0.027 * deviation + 1.0 / n as f64);
        close(high, difference + Z * deviation, 4.0 * 0.027 * deviation + 1.0 / n as f64);
        assert_eq!(bootstrap(lost, gained, n), (low, high), "seeded");
        assert_eq!(bootstrap(0, 0, n), (0.0, 0.0));
    }

    #[test]
    fn splitmix64_matches_the_published_sequence() {
        // The first outputs for seed 1234567, as listed with the reference implementation (Vigna, splitmix64.c).
        let mut random = SplitMix64(1_234_567);
        let outputs = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423_u64];
        assert_eq!([random.next(), random.next(), random.next()], outputs);
    }

    #[test]
    fn the_smallest_detectable_difference_is_the_edge_of_significance() {
        close(smallest_detectable_difference(1319, 0).unwrap(), 6.0 / 1319.0, 0.0);
        assert_eq!(smallest_detectable_difference(5, 0), None);
        for flips in 6..200 {
            let edge = (smallest_detectable_difference(200, flips).unwrap() * 200.0).round() as usize;
            let smaller = (flips - edge) / 2;
            assert!(mcnemar(smaller, flips - smaller) <= ALPHA);
            assert!(mcnemar(smaller + 1, flips - smaller - 1) > ALPHA, "{flips}");
        }
    }

    const WILSON: [(usize, usize, f64, f64); 6] = [
        (0, 10, 0.0, 0.277_532_799_862_889_2),
        (10, 10, 0.722_467_200_137_110_7, 1.0),
        (5, 10, 0.236_593_090_512_564, 0.763_406_909_487_436),
        (300, 1319, 0.205_633_651_029_182_19, 0.250_839_386_457_120_56),
        (1, 1319, 0.000_133_844_650_113_007_52, 0.004_281_997_310_193_977),
        (1318, 1319, 0.995_718_002_689_806, 0.999_866_155_349_887),
    ];

    const MCNEMAR: [(usize, usize, f64); 7] = [
        (0, 0, 1.0),
        (0, 5, 0.0625),
        (0, 6, 0.03125),
        (6, 16, 0.052_478_790_283_203_125),
        (101, 121, 0.202_134_320_659_958_73),
        (30, 60, 0.002_060_265_680_963_076),
        (1200, 1400, 9.442_234_765_340_861e-05),
    ];
}
