//! Intervals and paired tests on counts of right answers.

use super::noninferiority::paired_score_interval;
use serde::{Deserialize, Serialize};

/// How answers count that belong together: several to one question, or to the questions of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Clustering {
    /// Questions, or clusters of them.
    pub clusters: usize,
    /// The variance over clusters / that of as many answers that stand for themselves; from 1, where nothing resembles, to the mean
    /// size of an answer's cluster, where all answers of a cluster are the same. n / this is how many answers n are worth.
    pub design_effect: f64,
}

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
    /// Where trials belong together: what the interval makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clustering: Option<Clustering>,
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
    /// Tango's 95 % score interval of the difference.
    pub difference_low: f64,
    /// Upper bound.
    pub difference_high: f64,
    /// Exact two-sided `McNemar` p-value; of answers that belong together that of the statistic divided by the design effect.
    pub mcnemar_p: f64,
    /// Where answers belong together: what interval and p-value make of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clustering: Option<Clustering>,
}

impl Paired {
    /// From the counts; `None` where there is no question.
    pub fn of_counts(both_right: usize, lost: usize, gained: usize, both_wrong: usize) -> Option<Self> {
        let n = both_right + lost + gained + both_wrong;
        let (difference_low, difference_high) = paired_score_interval(lost, gained, n)?;
        Some(Self {
            both_right,
            lost,
            gained,
            both_wrong,
            difference: (gained as f64 - lost as f64) / n as f64,
            difference_low,
            difference_high,
            mcnemar_p: mcnemar(lost, gained),
            clustering: None,
        })
    }

    /// Questions.
    pub const fn n(&self) -> usize {
        self.both_right + self.lost + self.gained + self.both_wrong
    }

    /// The smallest difference, as a fraction of 1, that so many questions can show where so many answers change.
    pub fn smallest_difference(&self) -> f64 {
        let worth = self.n() as f64 / self.clustering.map_or(1.0, |clustering| clustering.design_effect);
        smallest_of(worth, (self.lost + self.gained) as f64 / self.n() as f64)
    }

    /// Worse, and not by chance at 5 %: the whole interval lies below 0.
    pub fn is_damage(&self) -> bool {
        self.difference_high < 0.0
    }

    /// Reference and other changed places.
    #[must_use]
    pub fn mirrored(self) -> Self {
        Self {
            lost: self.gained,
            gained: self.lost,
            difference: -self.difference,
            difference_low: -self.difference_high,
            difference_high: -self.difference_low,
            ..self
        }
    }
}

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % score interval (Wilson 1927, without continuity correction); `None` for n = 0 (there is no accuracy,
/// and 0 would be a lie) and for more successes than trials.
pub fn wilson(successes: usize, n: usize) -> Option<Proportion> {
    if n == 0 || successes > n {
        return None;
    }
    let (low, high) = wilson_interval(successes as f64, n as f64);
    Some(Proportion { successes, n, value: successes as f64 / n as f64, low, high, clustering: None })
}

/// The same of counts that need not be whole: those of answers that belong together, divided by their design effect. n is above 0.
pub(super) fn wilson_interval(successes: f64, n: f64) -> (f64, f64) {
    let value = successes / n;
    let scale = 1.0 + Z * Z / n;
    let centre = (value + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).max(0.0).sqrt();
    // At the ends the formula gives exactly 0 or 1; rounding must not step over them or stop short of them.
    let low = if successes <= 0.0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes >= n { 1.0 } else { (centre + half).min(1.0) };
    (low, high)
}

/// Compares two series on the same questions; `None` when there is no question or the series differ in length.
pub fn paired(reference: &[bool], other: &[bool]) -> Option<Paired> {
    if reference.is_empty() || reference.len() != other.len() {
        return None;
    }
    let count = |was: bool, is: bool| reference.iter().zip(other).filter(|pair| *pair == (&was, &is)).count();
    Paired::of_counts(count(true, true), count(true, false), count(false, true), count(false, false))
}

/// The smallest difference between two accuracies on the same `n` questions, as a fraction of 1, that a two-sided test at 5 % finds four
/// times in five, where `discordant` of the answers (a share) are right in one and wrong in the other: 2.8·√(discordant / n), for
/// 2.8 = 1.96 + 0.84 and the variance of a question's difference is at most its discordant share. Never below what Tango's interval leaves
/// open where no answer changed. Infinite for no question.
pub fn smallest_difference(n: usize, discordant: f64) -> f64 {
    if n == 0 { f64::INFINITY } else { smallest_of(n as f64, discordant) }
}

/// The same of as many questions as answers are worth that belong together.
fn smallest_of(n: f64, discordant: f64) -> f64 {
    const BOTH_QUANTILES: f64 = 2.8;
    let unchanged = Z * Z / (n + Z * Z);
    (BOTH_QUANTILES * (discordant / n).sqrt()).max(unchanged)
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
        let reference = [true, true, true, true, true, true, false, false, false, false];
        let other = [true, false, false, false, true, true, true, false, false, false];
        let paired = paired(&reference, &other).unwrap();
        assert_eq!((paired.both_right, paired.lost, paired.gained, paired.both_wrong), (3, 3, 1, 3));
        assert_eq!(paired.n(), 10);
        close(paired.difference, -0.2, 1e-15);
        // Of four flips one or fewer goes one way: 2 · (1 + 4) / 16.
        close(paired.mcnemar_p, 0.625, 1e-15);
        let (low, high) = paired_score_interval(3, 1, 10).unwrap();
        assert_eq!((paired.difference_low, paired.difference_high), (low, high));
        assert_eq!(super::paired(&[], &[]), None);
        assert_eq!(super::paired(&[true], &[true, false]), None);
    }

    #[test]
    fn the_smallest_difference_is_the_power_formula_s_and_never_nothing() {
        // By hand: 2.8 · √(0.16 / 400) = 2.8 · 0.02.
        close(smallest_difference(400, 0.16), 0.056, 1e-15);
        close(smallest_difference(1319, 0.05), 2.8 * (0.05_f64 / 1319.0).sqrt(), 1e-15);
        let unchanged = Paired::of_counts(3, 0, 0, 1).unwrap();
        close(unchanged.smallest_difference(), -unchanged.difference_low, 1e-12);
        assert!(unchanged.smallest_difference() > 0.48, "four questions show next to nothing");
        assert_eq!(smallest_difference(0, 0.1), f64::INFINITY);
        close(Paired::of_counts(300, 48, 16, 36).unwrap().smallest_difference(), 0.056, 1e-15);
    }

    #[test]
    fn mirrored_is_the_same_with_reference_and_other_changed() {
        let pair = Paired::of_counts(10, 7, 2, 5).unwrap();
        let mirrored = Paired::of_counts(10, 2, 7, 5).unwrap();
        let is = pair.mirrored();
        assert_eq!((is.lost, is.gained, is.both_right, is.both_wrong), (2, 7, 10, 5));
        close(is.difference, mirrored.difference, 0.0);
        close(is.difference_low, mirrored.difference_low, 1e-12);
        close(is.difference_high, mirrored.difference_high, 1e-12);
        close(is.mcnemar_p, mirrored.mcnemar_p, 0.0);
    }

    /// Coverage of the interval that every table prints: of all runs with a known true difference, 97 % of intervals hold it on the mean over
    /// n 40 to 1,319 and 0 to 5 % of answers changed, and 93 % or more at every point: counts are whole, so coverage jumps, and at one
    /// point in 80 of a finer grid it lies between 93.1 and 94. The counts are enumerated, not drawn: losses and gains are trinomial.
    #[test]
    fn the_interval_of_a_difference_covers_the_true_one() {
        let log_factorial = |k: usize| libm::lgamma(k as f64 + 1.0);
        let mut coverages = Vec::new();
        for n in [40, 120, 240, 660, 1319] {
            for lost in [0.0, 0.002, 0.004, 0.01, 0.02, 0.03] {
                for gained in [0.0, 0.002, 0.01, 0.02] {
                    let same = 1.0 - lost - gained;
                    let truth = gained - lost;
                    let probability = |a: usize, b: usize| {
                        let power = |p: f64, k: usize| if k == 0 { 0.0 } else { k as f64 * p.ln() };
                        let ways = log_factorial(n) - log_factorial(a) - log_factorial(b) - log_factorial(n - a - b);
                        (ways + power(lost, a) + power(gained, b) + power(same, n - a - b)).exp()
                    };
                    let most = |p: f64| ((n as f64 * p) + 9.0 * (n as f64 * p).sqrt() + 6.0).min(n as f64) as usize;
                    let (mut covered, mut total) = (0.0, 0.0);
                    for a in 0..=if lost > 0.0 { most(lost) } else { 0 } {
                        for b in 0..=if gained > 0.0 { most(gained).min(n - a) } else { 0 } {
                            let weight = probability(a, b);
                            // Too rare to matter, and most of the grid.
                            if weight < 1e-9 {
                                continue;
                            }
                            let pair = Paired::of_counts(n - a - b, a, b, 0).unwrap();
                            total += weight;
                            if (pair.difference_low..=pair.difference_high).contains(&truth) {
                                covered += weight;
                            }
                        }
                    }
                    assert!(total > 0.999_9, "{n} {lost} {gained}: {total}");
                    assert!(covered >= 0.93, "n {n}, lost {lost}, gained {gained}: covers {covered:.4}");
                    if (n, lost, gained) == (240, 0.004, 0.0) {
                        assert!(covered > 0.99, "where a drawn interval covers 60 %: {covered:.4}");
                    }
                    coverages.push(covered);
                }
            }
        }
        let mean = coverages.iter().sum::<f64>() / coverages.len() as f64;
        let over = coverages.iter().filter(|covered| **covered >= 0.94).count();
        assert!(
            mean > 0.96 && over * 100 >= coverages.len() * 95,
            "mean {mean:.4}, {over} of {} over 94 %",
            coverages.len()
        );
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
