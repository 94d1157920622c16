//! Every statistic against scipy, statsmodels, numpy or brute force on random tables, to 1e-9: `make_statistics.py` in
//! `tests/data` made them.

use serde::Deserialize;

use super::statistics::{Paired, wilson};
use super::{
    Estimate, Sequential, Spread, Vote, clustered_paired, clustered_wilson, paired_cost_ratio, paired_ratio,
    paired_score_interval, quantile, repeats,
};

/// Rows of each table, as the program that makes them yields them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::type_complexity, reason = "rows as the program yields them")]
struct Oracles {
    wilson: Vec<(usize, usize, f64, f64)>,
    mcnemar: Vec<(usize, usize, f64)>,
    tango: Vec<(usize, usize, usize, f64, f64)>,
    clustered_shares: Vec<(Vec<usize>, Vec<u8>, f64, f64, f64)>,
    clustered_differences: Vec<(Vec<usize>, Vec<u8>, Vec<u8>, f64, f64, f64, f64)>,
    blocks: Vec<(Vec<f64>, Vec<usize>, f64, f64, f64)>,
    quantiles: Vec<(Vec<f64>, f64, f64, f64, Option<f64>)>,
    ratios: Vec<(Vec<f64>, Vec<f64>, f64, f64, f64)>,
    pass_at: Vec<(usize, usize, usize, f64)>,
    cost_ratios: Vec<(Vec<[f64; 4]>, f64, f64, f64)>,
    sequential: Vec<(Vec<(usize, usize, usize)>, usize, f64, f64, f64, f64, f64)>,
}

fn oracles() -> Oracles {
    serde_json::from_str(include_str!("../../tests/data/statistics.json")).unwrap()
}

fn close(actual: f64, expected: f64, of: impl std::fmt::Debug) {
    let scale = expected.abs().max(1.0);
    assert!((actual - expected).abs() <= 1e-9 * scale, "{actual} is not {expected} of {of:?}");
}

#[test]
fn wilson_is_statsmodels() {
    let rows = oracles().wilson;
    assert_eq!(rows.len(), 60);
    for (successes, n, low, high) in rows {
        let proportion = wilson(successes, n).unwrap();
        close(proportion.low, low, (successes, n));
        close(proportion.high, high, (successes, n));
    }
}

#[test]
fn mcnemar_is_scipy_s_binomial_test() {
    let rows = oracles().mcnemar;
    assert_eq!(rows.len(), 60);
    for (lost, gained, p) in rows {
        let paired = Paired::of_counts(3, lost, gained, 4).unwrap();
        // Relative: small values are what is read.
        assert!((paired.mcnemar_p / p - 1.0).abs() < 1e-9, "{lost} {gained}: {} is not {p}", paired.mcnemar_p);
    }
}

#[test]
fn tango_is_the_score_test_of_a_likelihood_maximised_numerically() {
    let rows = oracles().tango;
    assert_eq!(rows.len(), 40);
    for (lost, gained, n, low, high) in rows {
        let interval = paired_score_interval(lost, gained, n).unwrap();
        close(interval.0, low, (lost, gained, n));
        close(interval.1, high, (lost, gained, n));
    }
}

#[test]
fn clustered_shares_have_statsmodels_design_effect() {
    let rows = oracles().clustered_shares;
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().filter(|row| row.2 > 1.0).count() >= 10, "nothing to cluster");
    for (groups, right, effect, low, high) in rows {
        let answers: Vec<(usize, bool)> = groups.into_iter().zip(right.into_iter().map(|right| right == 1)).collect();
        let proportion = clustered_wilson(&answers).unwrap();
        close(proportion.clustering.map_or(1.0, |clustering| clustering.design_effect), effect, &answers);
        close(proportion.low, low, &answers);
        close(proportion.high, high, &answers);
    }
}

#[test]
fn clustered_differences_have_statsmodels_design_effect() {
    let rows = oracles().clustered_differences;
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().filter(|row| row.3 > 1.0).count() >= 10, "nothing to cluster");
    for (groups, was, now, effect, low, high, p) in rows {
        let answers = groups.into_iter().zip(was).zip(now);
        let pairs: Vec<(usize, bool, bool)> = answers.map(|((group, was), now)| (group, was == 1, now == 1)).collect();
        let paired = clustered_paired(&pairs).unwrap();
        close(paired.clustering.map_or(1.0, |clustering| clustering.design_effect), effect, &pairs);
        close(paired.difference_low, low, &pairs);
        close(paired.difference_high, high, &pairs);
        close(paired.mcnemar_p, p, &pairs);
    }
}

#[test]
fn means_of_blocks_have_statsmodels_cluster_robust_errors() {
    let rows = oracles().blocks;
    assert_eq!(rows.len(), 30);
    for (values, lengths, mean, error, plain) in rows {
        let estimate = Estimate::of_blocks(&values, &lengths).unwrap();
        close(estimate.value, mean, &lengths);
        close(estimate.standard_error.unwrap(), error, &lengths);
        close(estimate.plain_standard_error.unwrap(), plain, &lengths);
    }
}

#[test]
fn quantiles_means_and_deviations_are_numpy_s() {
    let rows = oracles().quantiles;
    assert_eq!(rows.len(), 20);
    for (sorted, q, expected, mean, deviation) in rows {
        close(quantile(&sorted, q).unwrap(), expected, q);
        let spread = Spread::of(sorted.iter().copied()).unwrap();
        close(spread.mean, mean, &sorted);
        assert_eq!(spread.deviation.is_some(), deviation.is_some());
        close(spread.deviation.unwrap_or_default(), deviation.unwrap_or_default(), &sorted);
    }
}

#[test]
fn ratios_have_the_delta_method_s_interval_by_a_numerical_gradient() {
    let rows = oracles().ratios;
    assert_eq!(rows.len(), 30);
    for (reference, other, value, low, high) in rows {
        let ratio = paired_ratio(&reference.into_iter().zip(other).collect::<Vec<_>>()).unwrap();
        close(ratio.value, value, "ratio");
        close(ratio.low, low, "low");
        close(ratio.high, high, "high");
    }
}

#[test]
fn ratios_of_costs_have_the_delta_method_s_interval_by_a_numerical_gradient() {
    let rows = oracles().cost_ratios;
    assert_eq!(rows.len(), 30);
    for (units, value, low, high) in rows {
        let ratio = paired_cost_ratio(&units).unwrap();
        close(ratio.value, value, "ratio");
        close(ratio.low, low, "low");
        close(ratio.high, high, "high");
    }
}

#[test]
fn pass_at_k_is_hypergeometric() {
    let rows = oracles().pass_at;
    assert_eq!(rows.len(), 40);
    for (n, right, k, value) in rows {
        let votes = (0..n).map(|index| Vote { value: None, correct: index < right }).collect();
        let pass_at = repeats(&[votes], n).unwrap().pass_at;
        close(pass_at.iter().find(|pass| pass.k == k).unwrap().value, value, (n, right, k));
    }
}

#[test]
fn the_sequential_test_is_the_product_of_every_question_s_winnings() {
    let rows = oracles().sequential;
    assert_eq!(rows.len(), 24);
    for (units, largest, m, above, below, low, high) in rows {
        let mut test = Sequential::new(largest);
        for (lost, gained, answers) in &units {
            test.add(*lost, *gained, *answers);
        }
        assert!((test.evidence_above(m) / above - 1.0).abs() < 1e-9, "{m}: {} is not {above}", test.evidence_above(m));
        assert!((test.evidence_below(m) / below - 1.0).abs() < 1e-9, "{m}: {} is not {below}", test.evidence_below(m));
        let bounds = test.bounds();
        close(bounds.0, low, "low");
        close(bounds.1, high, "high");
    }
}
