//! A paired comparison that may be looked at after every question, and ended as soon as it shows something.
//!
//! Testing by betting (Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, Journal of the Royal Statistical
//! Society B 86, 2024, 1–27; first in 2020 as arXiv:2010.09686): a gambler stakes a fixed part of a capital of 1 on every question, at
//! odds that are fair or worse if the mean difference is at most `m`. The capital is then a non-negative supermartingale, which ever
//! reaches 1/α with probability α at most (Ville's inequality), however often and for whatever reason one looks or stops. The stake that
//! grows fastest depends on how many answers change, which is not known beforehand, so the capital is divided evenly among several
//! (their "diversified Kelly"). It depends on counts alone, not on the order of the questions.

use std::collections::BTreeMap;

/// Parts of the largest stake that can be lost, among which the capital is divided.
const STAKES: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99];

/// What a claim may be wrong with at most. No two claims about one difference can be wrong at once, so this holds for all of them together.
pub const SEQUENTIAL_ERROR: f64 = 0.05;

/// What a sequential comparison has shown so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// The mean difference lies below 0.
    Worse,
    /// It lies above −margin.
    NoWorse,
    /// Neither, so far.
    Nothing,
}

/// The differences of answers to the same questions, one unit a cluster of answers that belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequential {
    /// (gained − lost, answers) of a unit, and how many units are so.
    units: BTreeMap<(i64, usize), usize>,
    /// Answers of the largest unit that there can be.
    largest: usize,
}

impl Sequential {
    /// Before the first unit; none of them will have more than `largest` answers, which must not depend on what is answered.
    pub fn new(largest: usize) -> Self {
        Self { units: BTreeMap::new(), largest: largest.max(1) }
    }

    /// A unit of so many answers, of which `gained` became right and `lost` wrong. One of no answers, or of more than the largest, counts
    /// as none.
    pub fn add(&mut self, lost: usize, gained: usize, answers: usize) {
        if (1..=self.largest).contains(&answers) && lost + gained <= answers {
            let difference = i64::try_from(gained).unwrap_or(0) - i64::try_from(lost).unwrap_or(0);
            *self.units.entry((difference, answers)).or_default() += 1;
        }
    }

    /// The capital won against "the mean difference is `m` or less", for `m` above −1.
    pub fn evidence_above(&self, m: f64) -> f64 {
        self.capital(|difference, answers| (difference - m * answers) / (1.0 + m))
    }

    /// The capital won against "the mean difference is `m` or more", for `m` below 1.
    pub fn evidence_below(&self, m: f64) -> f64 {
        self.capital(|difference, answers| (m * answers - difference) / (1.0 - m))
    }

    /// What is shown, of a margin as a fraction of 1.
    pub fn shown(&self, margin: f64) -> Shown {
        let needed = 1.0 / SEQUENTIAL_ERROR;
        if self.evidence_below(0.0) >= needed {
            Shown::Worse
        } else if self.evidence_above(-margin) >= needed {
            Shown::NoWorse
        } else {
            Shown::Nothing
        }
    }

    /// Bounds of the mean difference, as fractions of 1: each is wrong with probability [`SEQUENTIAL_ERROR`] at most, whenever one looks.
    pub fn bounds(&self) -> (f64, f64) {
        let needed = 1.0 / SEQUENTIAL_ERROR;
        (
            last_refuted(-1.0, 1.0, |m| self.evidence_above(m) >= needed),
            last_refuted(1.0, -1.0, |m| self.evidence_below(m) >= needed),
        )
    }

    /// The mean over [`STAKES`] of Π(1 + stake · payoff / largest); a unit's payoff is −largest at the least.
    fn capital(&self, payoff: impl Fn(f64, f64) -> f64) -> f64 {
        let of = |stake: f64| {
            let logarithm = |((difference, answers), units): (&(i64, usize), &usize)| {
                let payoff = payoff(*difference as f64, *answers as f64) / self.largest as f64;
                *units as f64 * libm::log1p(stake * payoff)
            };
            libm::exp(self.units.iter().map(logarithm).sum())
        };
        STAKES.iter().map(|stake| of(*stake)).sum::<f64>() / STAKES.len() as f64
    }
}

/// The last point on the way from `refuted` to `open`, neither of which is asked, to the last bits; `refuted` itself where none is.
fn last_refuted(mut refuted: f64, mut open: f64, is_refuted: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..60 {
        let middle = f64::midpoint(refuted, open);
        if is_refuted(middle) { refuted = middle } else { open = middle }
    }
    refuted
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::random::split_mix;

    fn of(lost: usize, gained: usize, same: usize) -> Sequential {
        let mut test = Sequential::new(1);
        for (count, fell, rose) in [(lost, 1, 0), (gained, 0, 1), (same, 0, 0)] {
            for _ in 0..count {
                test.add(fell, rose, 1);
            }
        }
        test
    }

    #[test]
    fn a_capital_by_hand() {
        // Against "no better than -2 points": an unchanged answer wins 0.02/0.98 of each stake, a lost one loses all of it.
        let won = STAKES.iter().map(|stake| (1.0 + stake * 0.02 / 0.98).powi(2) * (1.0 - stake)).sum::<f64>() / 10.0;
        assert!((of(1, 0, 2).evidence_above(-0.02) - won).abs() < 1e-12);
        // Against "0 or better": a lost answer doubles a whole stake, a gained one loses it, an unchanged one is nothing.
        let won = STAKES.iter().map(|stake| (1.0 + stake).powi(2) * (1.0 - stake)).sum::<f64>() / 10.0;
        assert!((of(2, 1, 30).evidence_below(0.0) - won).abs() < 1e-12);
        assert_eq!(Sequential::new(1).evidence_above(-0.02), 1.0, "before the first question");
        assert_eq!(Sequential::new(1).bounds(), (-1.0, 1.0));
    }

    #[test]
    fn units_that_cannot_be_count_as_none() {
        let mut test = Sequential::new(2);
        for (lost, gained, answers) in [(0, 3, 3), (0, 0, 3), (2, 1, 2), (0, 0, 0)] {
            test.add(lost, gained, answers);
        }
        assert_eq!(test, Sequential::new(2));
    }

    #[test]
    fn a_small_loss_that_is_shown_is_worse_whatever_the_margin() {
        // One question of a hundred is lost, and none gained.
        let test = of(100, 0, 9_900);
        assert_eq!(test.shown(0.05), Shown::Worse);
    }

    #[test]
    fn without_a_change_212_questions_show_no_worse_than_2() {
        assert_eq!(of(0, 0, 211).shown(0.02), Shown::Nothing);
        assert_eq!(of(0, 0, 212).shown(0.02), Shown::NoWorse);
        assert_eq!(of(20, 0, 60).shown(0.02), Shown::Worse);
        assert_eq!(of(0, 0, 10_000).shown(0.0), Shown::Nothing, "that nothing is lost at all is never shown by ties");
    }

    #[test]
    fn bounds_say_what_is_shown() {
        for test in [of(0, 0, 300), of(3, 1, 500), of(20, 2, 100), of(0, 9, 90)] {
            let (low, high) = test.bounds();
            assert!(low < high && (-1.0..=1.0).contains(&low) && (-1.0..=1.0).contains(&high), "{low} {high}");
            // The margin that is just shown is that of the lower bound, unless worse is shown before.
            let is_worse = high < 0.0;
            let (kept, narrower) = (test.shown(-low + 1e-9), test.shown(-low - 1e-9));
            assert_eq!(
                (kept, narrower),
                if is_worse { (Shown::Worse, Shown::Worse) } else { (Shown::NoWorse, Shown::Nothing) }
            );
        }
    }

    proptest! {
        #[test]
        fn answers_that_are_the_same_within_a_unit_count_as_one(units in proptest::collection::vec(-1_i8..=1, 0..40)) {
            let (mut single, mut fivefold) = (Sequential::new(1), Sequential::new(5));
            for unit in units {
                let (lost, gained) = (usize::from(unit < 0), usize::from(unit > 0));
                single.add(lost, gained, 1);
                fivefold.add(5 * lost, 5 * gained, 5);
            }
            for m in [-0.3, -0.02, 0.0, 0.1] {
                prop_assert!((single.evidence_above(m) / fivefold.evidence_above(m) - 1.0).abs() < 1e-9);
                prop_assert!((single.evidence_below(m) / fivefold.evidence_below(m) - 1.0).abs() < 1e-9);
            }
        }

        #[test]
        fn evidence_falls_as_more_is_claimed_and_mirrors(lost in 0_usize..20, gained in 0_usize..20, same in 0_usize..200) {
            let (test, mirrored) = (of(lost, gained, same), of(gained, lost, same));
            let mut before = f64::INFINITY;
            for m in [-0.9, -0.2, -0.02, 0.0, 0.05, 0.7] {
                let evidence = test.evidence_above(m);
                prop_assert!(evidence <= before * (1.0 + 1e-12));
                prop_assert!((mirrored.evidence_below(-m) / evidence - 1.0).abs() < 1e-9);
                before = evidence;
            }
            let (low, high) = test.bounds();
            let seen = (gained as f64 - lost as f64) / (lost + gained + same).max(1) as f64;
            prop_assert!(low <= seen && seen <= high);
        }
    }

    /// Uniform numbers in [0, 1).
    fn uniform(state: &mut u64) -> f64 {
        *state = state.wrapping_add(crate::random::GOLDEN);
        (split_mix(*state) >> 11) as f64 / (1_u64 << 53) as f64
    }

    const RUNS: usize = 2000;
    const QUESTIONS: usize = 1319;
    const MARGIN: f64 = 0.02;

    /// Pairs of runs, each looked at after every question until something is shown: how many showed it, and the questions asked on the mean.
    fn simulate(lost: f64, gained: f64, wanted: Shown) -> (usize, f64) {
        let (mut state, mut shown, mut asked) = (18, 0, 0);
        // By lost and gained: whether worse is shown, and the unchanged answers from which no worse is. Neither depends on anything else.
        let mut known: HashMap<(usize, usize), (bool, usize)> = HashMap::new();
        for _ in 0..RUNS {
            let (mut changes, mut same) = ((0, 0), 0);
            for question in 1..=QUESTIONS {
                let at = uniform(&mut state);
                changes.0 += usize::from(at < lost);
                changes.1 += usize::from((lost..lost + gained).contains(&at));
                same += usize::from(at >= lost + gained);
                let (worse, enough) = *known.entry(changes).or_insert_with(|| {
                    let (mut low, mut high) = (0, QUESTIONS + 1);
                    while low < high {
                        let middle = usize::midpoint(low, high);
                        let is_shown = counted(changes, middle).evidence_above(-MARGIN) >= 1.0 / SEQUENTIAL_ERROR;
                        (low, high) = if is_shown { (low, middle) } else { (middle + 1, high) };
                    }
                    (counted(changes, 0).shown(MARGIN) == Shown::Worse, low)
                });
                let found = match (worse, same >= enough) {
                    (true, _) => Shown::Worse,
                    (false, true) => Shown::NoWorse,
                    (false, false) => Shown::Nothing,
                };
                if found != Shown::Nothing || question == QUESTIONS {
                    assert_eq!(found, counted(changes, same).shown(MARGIN));
                    shown += usize::from(found == wanted);
                    asked += question;
                    break;
                }
            }
        }
        (shown, asked as f64 / RUNS as f64)
    }

    fn counted((lost, gained): (usize, usize), same: usize) -> Sequential {
        let units = [((-1, 1), lost), ((1, 1), gained), ((0, 1), same)];
        Sequential { units: units.into_iter().collect(), largest: 1 }
    }

    #[test]
    fn of_2000_pairs_at_the_boundary_5_percent_at_most_are_called_no_worse() {
        // Exactly the margin is lost, and more or fewer answers change besides.
        for (lost, gained) in [(0.02, 0.0), (0.03, 0.01), (0.06, 0.04)] {
            let (wrong, _) = simulate(lost, gained, Shown::NoWorse);
            assert!(wrong * 100 <= RUNS * 5, "{wrong} of {RUNS} of {lost} lost, {gained} gained");
        }
        // A test that never says so would pass too: far from the boundary it does.
        let (right, asked) = simulate(0.005, 0.005, Shown::NoWorse);
        assert!(right * 100 >= RUNS * 95 && asked < 400.0, "{right} of {RUNS}, {asked} questions");
    }

    #[test]
    fn of_2000_pairs_without_a_difference_5_percent_at_most_are_called_worse() {
        for change in [0.005, 0.02, 0.05] {
            let (wrong, _) = simulate(change, change, Shown::Worse);
            assert!(wrong * 100 <= RUNS * 5, "{wrong} of {RUNS} of {change}");
        }
        let (right, asked) = simulate(0.12, 0.03, Shown::Worse);
        assert!(right * 100 >= RUNS * 99 && asked < 150.0, "{right} of {RUNS}, {asked} questions");
    }
}
