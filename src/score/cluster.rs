//! Intervals where answers belong together: several to one question, or questions to one cluster of a task. Such answers resemble one
//! another, so n of them say less than n answers that stand for themselves. How much less is the design effect, and the score intervals
//! are taken of counts divided by it (Rao and Scott, A simple method for the analysis of clustered binary data, Biometrics 48, 1992,
//! 577–585).

use std::collections::BTreeMap;

use super::noninferiority::score_interval;
use super::statistics::{Clustering, Paired, Proportion, paired, wilson, wilson_interval};

/// Of answers with the cluster that each belongs to: the share of right ones, with Wilson's 95 % interval of counts divided by the design
/// effect. The clustering is `None` where every answer is a cluster of its own, and the interval then the plain one. `None` for no
/// answer.
pub fn clustered_wilson<K: Ord>(answers: &[(K, bool)]) -> Option<Proportion> {
    let right = answers.iter().filter(|(_, right)| *right).count();
    let plain = wilson(right, answers.len())?;
    let variance = plain.value * (1.0 - plain.value);
    let clustering = clustering(answers.iter().map(|(key, right)| (key, f64::from(u8::from(*right)))), variance);
    let Some(Clustering { design_effect, .. }) = clustering else { return Some(plain) };
    let (low, high) = wilson_interval(right as f64 / design_effect, answers.len() as f64 / design_effect);
    Some(Proportion { low, high, clustering, ..plain })
}

/// Of pairs (cluster, reference right, other right): the paired comparison, with Tango's 95 % interval of counts divided by the design
/// effect of the difference, and with a p-value of `McNemar`'s statistic divided by it (by its normal approximation, for counts are no
/// longer whole). The clustering is `None` where every pair is a cluster of its own, and all is then as `paired` has it. `None` for no
/// pair.
pub fn clustered_paired<K: Ord>(pairs: &[(K, bool, bool)]) -> Option<Paired> {
    let (reference, other): (Vec<bool>, Vec<bool>) = pairs.iter().map(|(_, was, is)| (*was, *is)).unzip();
    let plain = paired(&reference, &other)?;
    let (lost, gained, n) = (plain.lost as f64, plain.gained as f64, pairs.len() as f64);
    let variance = (lost + gained) / n - plain.difference * plain.difference;
    let change = |was: bool, is: bool| f64::from(i8::from(is) - i8::from(was));
    let clustering = clustering(pairs.iter().map(|(key, was, is)| (key, change(*was, *is))), variance);
    let Some(Clustering { design_effect, .. }) = clustering else { return Some(plain) };
    let interval = score_interval(lost / design_effect, gained / design_effect, n / design_effect);
    let (difference_low, difference_high) = interval.unwrap_or((-1.0, 1.0));
    let statistic = if lost == gained { 0.0 } else { (gained - lost) / ((lost + gained) * design_effect).sqrt() };
    let mcnemar_p = libm::erfc(statistic.abs() / std::f64::consts::SQRT_2);
    Some(Paired { difference_low, difference_high, mcnemar_p, clustering, ..plain })
}

/// Of values with their clusters, `variance` being that of one value; `None` where every cluster holds one.
fn clustering<'a, K: Ord + 'a>(values: impl Iterator<Item = (&'a K, f64)>, variance: f64) -> Option<Clustering> {
    let mut sums: BTreeMap<&K, (f64, f64)> = BTreeMap::new();
    for (key, value) in values {
        let (sum, size) = sums.entry(key).or_default();
        *sum += value;
        *size += 1.0;
    }
    let n: f64 = sums.values().map(|(_, size)| size).sum();
    let clusters = sums.len() as f64;
    if clusters >= n {
        return None;
    }
    // Of equal clusters their size; of others the design effect that answers have which are the same within a cluster.
    let most = sums.values().map(|(_, size)| size * size).sum::<f64>() / n;
    let mean = sums.values().map(|(sum, _)| sum).sum::<f64>() / n;
    let squares: f64 = sums.values().map(|(sum, size)| (sum - size * mean).powi(2)).sum();
    let over_clusters = clusters / (clusters - 1.0) * squares / (n * n);
    // Nothing can be estimated from one cluster, nor where all values are the same: then each cluster counts as one answer.
    let is_estimable = clusters > 1.0 && variance > 0.0;
    let design_effect = if is_estimable { (over_clusters / (variance / n)).clamp(1.0, most) } else { most };
    Some(Clustering { clusters: sums.len(), design_effect })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::split_mix;

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-9, "{actual} is not {expected}");
    }

    fn answers(clusters: &[&[u8]]) -> Vec<(usize, bool)> {
        let of = |(key, cluster): (usize, &&[u8])| cluster.iter().map(|right| (key, *right == 1)).collect::<Vec<_>>();
        clusters.iter().enumerate().flat_map(of).collect()
    }

    fn pairs(clusters: &[&[(u8, u8)]]) -> Vec<(usize, bool, bool)> {
        let of = |(key, cluster): (usize, &&[(u8, u8)])| {
            cluster.iter().map(|(was, is)| (key, *was == 1, *is == 1)).collect::<Vec<_>>()
        };
        clusters.iter().enumerate().flat_map(of).collect()
    }

    #[test]
    fn shares_match_an_independent_computation() {
        // By tests/data/make_clusters.py: cluster-robust least squares of statsmodels, and the roots of the score equation.
        for (clusters, design_effect, low, high) in SHARES {
            let answers = answers(clusters);
            let proportion = clustered_wilson(&answers).unwrap();
            let clustering = proportion.clustering.unwrap();
            assert_eq!((clustering.clusters, proportion.n), (clusters.len(), answers.len()));
            close(clustering.design_effect, *design_effect);
            close(proportion.low, *low);
            close(proportion.high, *high);
        }
    }

    #[test]
    fn differences_match_an_independent_computation() {
        // By the same program, with the likelihood maximised numerically for Tango's bounds.
        for (clusters, design_effect, low, high, p) in DIFFERENCES {
            let paired = clustered_paired(&pairs(clusters)).unwrap();
            close(paired.clustering.unwrap().design_effect, *design_effect);
            close(paired.difference_low, *low);
            close(paired.difference_high, *high);
            close(paired.mcnemar_p, *p);
        }
    }

    #[test]
    fn answers_that_stand_for_themselves_have_the_plain_intervals() {
        let single = [(3, true), (1, false), (7, true)];
        assert_eq!(clustered_wilson(&single), wilson(2, 3));
        let single = [(3, true, false), (1, false, false), (7, true, true)];
        assert_eq!(clustered_paired(&single), paired(&[true, false, true], &[false, false, true]));
        assert_eq!(clustered_wilson::<u8>(&[]), None);
        assert_eq!(clustered_paired::<u8>(&[]), None);
    }

    #[test]
    fn answers_that_are_the_same_count_once() {
        // Four questions, each answered five times alike: as sure as four answers, and no surer.
        let repeated: Vec<(usize, bool)> = (0..20).map(|index| (index / 5, index / 5 != 0)).collect();
        let proportion = clustered_wilson(&repeated).unwrap();
        let four = wilson(3, 4).unwrap();
        assert_eq!(proportion.clustering, Some(Clustering { clusters: 4, design_effect: 5.0 }));
        assert_eq!((proportion.successes, proportion.n), (15, 20), "the counts stay what was counted");
        close(proportion.low, four.low);
        close(proportion.high, four.high);
        let one_question = [(0, true), (0, false), (0, true)];
        assert_eq!(
            clustered_wilson(&one_question).unwrap().clustering,
            Some(Clustering { clusters: 1, design_effect: 3.0 })
        );
    }

    #[test]
    fn without_a_change_repeats_narrow_no_interval() {
        let unchanged: Vec<(usize, bool, bool)> = (0..400).map(|index| (index / 4, true, true)).collect();
        let paired = clustered_paired(&unchanged).unwrap();
        let (low, high) = score_interval(0.0, 0.0, 100.0).unwrap();
        assert_eq!((paired.difference_low, paired.difference_high, paired.mcnemar_p), (low, high, 1.0));
        assert_eq!(
            paired.smallest_difference(),
            super::super::statistics::smallest_difference(100, 0.0),
            "a hundred questions"
        );
        let all_lost: Vec<(usize, bool, bool)> = (0..8).map(|index| (index / 4, true, false)).collect();
        let paired = clustered_paired(&all_lost).unwrap();
        assert_eq!((paired.lost, paired.clustering.unwrap().design_effect), (8, 4.0));
        close(paired.difference_low, -1.0);
    }

    /// Uniform numbers in [0, 1).
    struct Random(u64);

    impl Random {
        fn happens(&mut self, probability: f64) -> bool {
            self.0 = self.0.wrapping_add(crate::random::GOLDEN);
            ((split_mix(self.0) >> 11) as f64 / (1_u64 << 53) as f64) < probability
        }
    }

    const RUNS: usize = 2000;
    const REPEATS: usize = 4;

    #[test]
    fn the_interval_of_a_share_covers_the_truth_where_the_plain_one_does_not() {
        // Half of all questions are easy, half hard; each run draws 80 of them and answers each four times.
        let (easy, hard) = (0.9, 0.2);
        let truth = f64::midpoint(easy, hard);
        let mut random = Random(1);
        let (mut covered, mut by_plain) = (0, 0);
        for _ in 0..RUNS {
            let mut answers = Vec::new();
            for question in 0..80 {
                let probability = if random.happens(0.5) { easy } else { hard };
                answers.extend((0..REPEATS).map(|_| (question, random.happens(probability))));
            }
            let proportion = clustered_wilson(&answers).unwrap();
            let plain = wilson(proportion.successes, proportion.n).unwrap();
            covered += usize::from((proportion.low..=proportion.high).contains(&truth));
            by_plain += usize::from((plain.low..=plain.high).contains(&truth));
        }
        assert!(covered * 100 >= RUNS * 94 && covered * 100 <= RUNS * 98, "{covered} of {RUNS}");
        assert!(by_plain * 100 < RUNS * 85, "{by_plain} of {RUNS}: nothing to cluster here");
    }

    #[test]
    fn the_interval_of_a_difference_covers_the_truth_where_the_plain_one_does_not() {
        // Of all questions 6 % are lost nearly always, 3 % gained nearly always.
        let truth = -0.06 * 0.9 + 0.03 * 0.9;
        let mut random = Random(2);
        let (mut covered, mut by_plain) = (0, 0);
        for _ in 0..RUNS {
            let mut pairs = Vec::new();
            for question in 0..240 {
                let lost = random.happens(0.06);
                let gained = !lost && random.happens(0.03 / 0.94);
                for _ in 0..REPEATS {
                    let changes = random.happens(0.9);
                    pairs.push((question, lost, (lost && !changes) || (gained && changes)));
                }
            }
            let clustered = clustered_paired(&pairs).unwrap();
            let plain = score_interval(clustered.lost as f64, clustered.gained as f64, pairs.len() as f64).unwrap();
            covered += usize::from((clustered.difference_low..=clustered.difference_high).contains(&truth));
            by_plain += usize::from((plain.0..=plain.1).contains(&truth));
        }
        assert!(covered * 100 >= RUNS * 94 && covered * 100 <= RUNS * 98, "{covered} of {RUNS}");
        assert!(by_plain * 100 < RUNS * 75, "{by_plain} of {RUNS}: nothing to cluster here");
    }

    proptest! {
        #[test]
        fn clustering_widens_and_holds_what_was_seen(
            answers in proptest::collection::vec((0_usize..12, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let shares: Vec<(usize, bool)> = answers.iter().map(|(key, right, _)| (*key, *right)).collect();
            let proportion = clustered_wilson(&shares).unwrap();
            let plain = wilson(proportion.successes, proportion.n).unwrap();
            prop_assert!(proportion.low <= plain.low + 1e-12 && proportion.high >= plain.high - 1e-12);
            prop_assert!(proportion.low <= proportion.value && proportion.value <= proportion.high);
            if let Some(clustering) = proportion.clustering {
                let largest = (0..12).map(|key| shares.iter().filter(|one| one.0 == key).count()).max().unwrap();
                prop_assert!((1.0..=largest as f64 + 1e-9).contains(&clustering.design_effect));
            }
            let paired = clustered_paired(&answers).unwrap();
            let plain = score_interval(paired.lost as f64, paired.gained as f64, answers.len() as f64).unwrap();
            prop_assert!(paired.difference_low <= plain.0 + 1e-12 && paired.difference_high >= plain.1 - 1e-12);
            prop_assert!((paired.difference_low..=paired.difference_high).contains(&paired.difference));
            prop_assert!((0.0..=1.0).contains(&paired.mcnemar_p));
        }

        #[test]
        fn neither_order_nor_names_count(
            answers in proptest::collection::vec((0_usize..6, any::<bool>(), any::<bool>()), 1..30),
            start in 0_usize..30,
        ) {
            let mut other: Vec<_> = answers.iter().map(|(key, was, is)| (100 - key, *was, *is)).collect();
            let at = start % other.len();
            other.rotate_left(at);
            let (a, b) = (clustered_paired(&answers).unwrap(), clustered_paired(&other).unwrap());
            prop_assert!((a.difference_low - b.difference_low).abs() < 1e-9);
            let clusters = |paired: Paired| paired.clustering.map(|one| one.clusters);
            prop_assert_eq!(clusters(a), clusters(b));
            let mirrored: Vec<_> = answers.iter().map(|(key, was, is)| (*key, *is, *was)).collect();
            let mirrored = clustered_paired(&mirrored).unwrap();
            prop_assert!((a.difference_low + mirrored.difference_high).abs() < 1e-9);
            prop_assert!((a.mcnemar_p - mirrored.mcnemar_p).abs() < 1e-12);
        }
    }

    type Shares = (&'static [&'static [u8]], f64, f64, f64);
    const SHARES: &[Shares] = &[
        (
            &[&[1, 1, 1, 0], &[0, 0, 0, 0], &[1, 1, 0, 1], &[1, 0, 0, 0], &[1, 1, 1, 1], &[0, 0, 1, 0]],
            2.4,
            0.236_593_090_512_564,
            0.763_406_909_487_436,
        ),
        (&[&[1, 0], &[0, 1], &[1, 0], &[0, 1], &[1, 1]], 1.0, 0.312_673_769_733_658, 0.831_819_670_293_764),
        (&[&[1, 1, 1], &[1, 1, 1], &[0, 0, 0], &[1, 1, 1]], 3.0, 0.300_641_842_582_402, 0.954_412_739_190_299),
        (
            &[&[1], &[0, 0, 0], &[1, 1], &[0], &[1, 1, 1, 0], &[1]],
            2.011_428_571_428_57,
            0.240_421_348_099_709,
            0.860_963_466_947_536,
        ),
        (&[&[1, 1], &[1, 1], &[1, 1]], 2.0, 0.438_502_968_244_955, 1.0),
    ];

    type Differences = (&'static [&'static [(u8, u8)]], f64, f64, f64, f64);
    const DIFFERENCES: &[Differences] = &[
        (
            &[
                &[(1, 0), (1, 0), (1, 1)],
                &[(1, 1), (1, 1), (1, 1)],
                &[(0, 1), (0, 0), (0, 0)],
                &[(1, 0), (1, 0), (1, 0)],
                &[(0, 0), (0, 0), (1, 1)],
            ],
            2.736_486_486_486_49,
            -0.685_617_147_999_678,
            0.306_907_063_604_224,
            0.323_564_026_109_746,
        ),
        (
            &[&[(1, 0), (1, 1)], &[(1, 1), (0, 1)], &[(0, 0), (0, 0)], &[(1, 0), (0, 1)]],
            1.0,
            -0.463_491_010_181_303,
            0.463_491_010_181_303,
            1.0,
        ),
        (&[&[(1, 1), (1, 1)], &[(0, 0), (0, 0)]], 2.0, -0.657_619_772_493_347, 0.657_619_772_493_347, 1.0),
        (
            &[&[(1, 0)], &[(1, 0), (1, 0), (1, 1), (0, 0)], &[(1, 1)], &[(0, 1), (1, 1)], &[(0, 0)]],
            1.414_930_555_555_56,
            -0.644_596_195_849_892,
            0.320_525_308_601_232,
            0.400_525_360_177_263,
        ),
    ];
}
