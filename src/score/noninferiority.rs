//! How far a difference of paired proportions may lie from what was seen: the interval that non-inferiority is read
//! from.

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % score interval of (gained − lost) / n, as fractions of 1: every difference that the paired score test does
/// not reject (Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample
/// design, Statistics in Medicine 17, 1998, 891–908). A margin below its lower end is kept with 97.5 % confidence, one-sided.
///
/// Unlike resampling, it does not shrink to a point where no answer changed: n questions without a change still leave
/// ± z² / (n + z²). `None` for no question, or more changes than questions.
pub fn paired_score_interval(lost: usize, gained: usize, n: usize) -> Option<(f64, f64)> {
    score_interval(lost as f64, gained as f64, n as f64)
}

/// The same of counts that need not be whole: those of answers that belong together, divided by what they are worth less.
pub(super) fn score_interval(lost: f64, gained: f64, n: f64) -> Option<(f64, f64)> {
    // A part of n is divided as n is; rounding may leave it above n by the last bit.
    let within = lost + gained <= n * (1.0 + f64::EPSILON);
    if !within || n <= 0.0 {
        return None;
    }
    let difference = (gained - lost) / n;
    let statistic = |assumed: f64| score(lost, gained, n, assumed);
    let low = boundary(difference, -1.0, |assumed| statistic(assumed) < Z);
    let high = boundary(difference, 1.0, |assumed| statistic(assumed) > -Z);
    Some((low, high))
}

/// The last point on the way from `inside` to `outside` that is accepted, to the last bits.
fn boundary(mut inside: f64, mut outside: f64, accepted: impl Fn(f64) -> bool) -> f64 {
    // 2 / 2^60 is below the spacing of binary64 near any percentage that is shown.
    for _ in 0..60 {
        let middle = f64::midpoint(inside, outside);
        if accepted(middle) { inside = middle } else { outside = middle }
    }
    inside
}

/// Tango's statistic under the assumption that the true difference is `assumed`: standard normal if it is. The nuisance
/// parameter, the probability of a loss, is its maximum-likelihood estimate under that assumption.
fn score(lost: f64, gained: f64, n: f64, assumed: f64) -> f64 {
    let a = 2.0 * n;
    let b = (2.0 * n - gained + lost) * assumed - gained - lost;
    let c = -lost * assumed * (1.0 - assumed);
    let loss = ((b * b - 4.0 * a * c).max(0.0).sqrt() - b) / (2.0 * a);
    let variance = n * (2.0 * loss + assumed * (1.0 - assumed));
    let distance = gained - lost - n * assumed;
    if variance > 0.0 { distance / variance.sqrt() } else { distance * f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_change_the_interval_is_z_squared_over_n_plus_z_squared() {
        for n in [1, 10, 240, 1319] {
            let (low, high) = paired_score_interval(0, 0, n).unwrap();
            let expected = Z * Z / (n as f64 + Z * Z);
            assert!((low + expected).abs() < 1e-12 && (high - expected).abs() < 1e-12, "{n}: {low} {high}");
        }
    }

    #[test]
    fn intervals_match_an_independent_computation() {
        // By tests/data/make_tango.py: the likelihood maximised numerically over the nuisance parameter with mpmath at
        // 40 digits, no formula shared with the code above.
        for (lost, gained, n, low, high) in TANGO {
            let interval = paired_score_interval(lost, gained, n).unwrap();
            assert!(
                (interval.0 - low).abs() < 1e-9 && (interval.1 - high).abs() < 1e-9,
                "{lost} {gained} {n}: {interval:?}"
            );
        }
    }

    #[test]
    fn mirrored_counts_mirror_the_interval_and_it_holds_what_was_seen() {
        for (lost, gained, n) in [(0, 5, 20), (3, 9, 50), (167, 0, 240), (20, 0, 20), (60, 30, 1319)] {
            let (low, high) = paired_score_interval(lost, gained, n).unwrap();
            let (mirrored_low, mirrored_high) = paired_score_interval(gained, lost, n).unwrap();
            assert!((low + mirrored_high).abs() < 1e-12 && (high + mirrored_low).abs() < 1e-12);
            let seen = (gained as f64 - lost as f64) / n as f64;
            assert!((-1.0..=seen).contains(&low) && (seen..=1.0).contains(&high), "{low} {seen} {high}");
        }
        assert_eq!(paired_score_interval(0, 0, 0), None);
        assert_eq!(paired_score_interval(3, 3, 5), None);
        // Divided by a design effect of 1.03, three and four questions are more than seven by the last bit.
        let parts = [3.0, 4.0, 7.0].map(|count| count / 1.03);
        assert!(parts[0] + parts[1] > parts[2]);
        assert!(score_interval(parts[0], parts[1], parts[2]).is_some());
    }

    const TANGO: [(usize, usize, usize, f64, f64); 7] = [
        (0, 1, 10, -0.205_286_079_849_178, 0.404_150_026_795_238),
        (1, 0, 240, -0.023_220_072_583_629_8, 0.011_652_894_607_982),
        (0, 2, 240, -0.007_551_869_274_405_14, 0.029_869_737_988_891_9),
        (11, 5, 240, -0.062_332_692_076_722_4, 0.008_565_913_820_769_48),
        (167, 0, 240, -0.750_574_000_837_692, -0.634_922_380_518_531),
        (60, 30, 1319, -0.037_396_248_916_439, -0.008_835_279_245_584_13),
        (8, 4, 12, -0.723_759_817_817_574, 0.218_755_822_254_401),
    ];
}
