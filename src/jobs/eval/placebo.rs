//! What each variant changes beyond what a placebo changes, on the same questions.

use serde::{Deserialize, Serialize};

use super::{ClusterKey, Clusters, EvalPlan};
use crate::record::{StoredCompletion, StoredSample, VariantName, in_both, merged};
use crate::score::{clustered_paired, clustered_ratio, token_agreement};

/// A variant beside a placebo, under a rule; both are held against the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaceboRecord {
    /// The variant.
    pub variant: VariantName,
    /// The placebo.
    pub placebo: VariantName,
    /// The rule that says what is right.
    pub rule: String,
    /// Answers that all three have.
    pub n: usize,
    /// Share of answers that became right or wrong. The interval is Tango's of the paired difference.
    pub flips: Excess,
    /// Share of places of the longer answer at which tokens differ, averaged over answers; `None` where tokens are not known. The interval
    /// is the delta method's.
    pub tokens: Option<Excess>,
    /// Output tokens over the reference's, less 1; `None` where they are not known. The interval is the delta method's.
    pub lengths: Option<Excess>,
}

/// A measure of a variant less that of a placebo, as fractions of 1; the interval takes answers that belong together as one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Excess {
    /// The variant's.
    pub variant: f64,
    /// The placebo's.
    pub placebo: f64,
    /// The difference.
    pub excess: f64,
    /// Lower bound of its 95 % interval.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// Answers to one question: of the reference, of a variant, of a placebo.
type Triple<'a> = [&'a StoredCompletion; 3];

/// Of every rule, variant and placebo, in that order; none where the run has no placebo.
pub(super) fn placebos(
    plan: &EvalPlan,
    completions: &[(VariantName, Vec<StoredCompletion>)],
    rules: &[String],
    samples: &[StoredSample],
) -> Vec<PlaceboRecord> {
    let Some(reference) = plan.reference().filter(|_| !plan.placebos.is_empty()) else { return Vec::new() };
    let of = |name: &VariantName| completions.iter().find(|(own, _)| own == name).map_or(&[][..], |(_, all)| all);
    let clusters = Clusters::new(samples);
    let is_placebo = |name: &VariantName| plan.placebos.iter().any(|placebo| placebo.name == *name);
    let variants = || plan.dtypes.iter().filter(|name| **name != reference && !is_placebo(name));
    let pairs = || variants().flat_map(|variant| plan.placebos.iter().map(move |placebo| (variant, &placebo.name)));
    // What does not depend on the rule.
    let shared: Vec<_> = pairs()
        .map(|(variant, placebo)| {
            let triples = triples(of(&reference), of(variant), of(placebo));
            let (tokens, lengths) = (tokens(&triples, &clusters), lengths(&triples, &clusters));
            (variant, placebo, triples, tokens, lengths)
        })
        .collect();
    let of_rule = |rule: &String| -> Vec<PlaceboRecord> {
        let records = shared.iter().filter_map(|(variant, placebo, triples, tokens, lengths)| {
            Some(PlaceboRecord {
                variant: (*variant).clone(),
                placebo: (*placebo).clone(),
                rule: rule.clone(),
                n: triples.len(),
                flips: flips(triples, rule, &clusters)?,
                tokens: *tokens,
                lengths: *lengths,
            })
        });
        records.collect()
    };
    rules.iter().flat_map(of_rule).collect()
}

fn triples<'a>(
    reference: &'a [StoredCompletion],
    variant: &'a [StoredCompletion],
    placebo: &'a [StoredCompletion],
) -> Vec<Triple<'a>> {
    let (of_variant, of_placebo) = (in_both(reference, variant), in_both(reference, placebo));
    let key = |pair: &(&StoredCompletion, &StoredCompletion)| (pair.1.sample, pair.1.repeat);
    merged(&of_variant, &of_placebo, key, key)
        .map(|((reference, variant), (_, placebo))| [*reference, *variant, *placebo])
        .collect()
}

fn flips(triples: &[Triple], rule: &str, clusters: &Clusters) -> Option<Excess> {
    let flips = triples.iter().map(|[reference, variant, placebo]| {
        let was = reference.is_right(rule)?;
        Some((clusters.of(variant.sample), was != placebo.is_right(rule)?, was != variant.is_right(rule)?))
    });
    let paired = clustered_paired(&flips.collect::<Option<Vec<_>>>()?)?;
    let share = |count: usize| count as f64 / paired.n() as f64;
    Some(Excess {
        variant: share(paired.both_right + paired.gained),
        placebo: share(paired.both_right + paired.lost),
        excess: paired.difference,
        low: paired.difference_low,
        high: paired.difference_high,
    })
}

fn tokens(triples: &[Triple], clusters: &Clusters) -> Option<Excess> {
    let changed = triples.iter().map(|[reference, variant, placebo]| {
        let was = reference.token_ids.as_deref()?;
        let of = |one: &StoredCompletion| Some(1.0 - token_agreement(was, one.token_ids.as_deref()?));
        Some((clusters.of(variant.sample), [1.0, of(variant)?, of(placebo)?]))
    });
    excess(&changed.collect::<Option<Vec<_>>>()?, 0.0)
}

fn lengths(triples: &[Triple], clusters: &Clusters) -> Option<Excess> {
    let lengths = triples.iter().map(|triple| {
        let [reference, variant, placebo] = triple.map(|one| one.output_tokens().map(|tokens| tokens as f64));
        Some((clusters.of(triple[1].sample), [reference?, variant?, placebo?]))
    });
    excess(&lengths.collect::<Option<Vec<_>>>()?, 1.0)
}

/// Of amounts (measured against, of the variant, of the placebo): each over the first, less `of_nothing`, and their difference, cluster by
/// cluster.
fn excess(amounts: &[(ClusterKey, [f64; 3])], of_nothing: f64) -> Option<Excess> {
    let ratio = clustered_ratio(
        amounts.iter().map(|(key, [against, variant, placebo])| (*key, [*against, variant - placebo])),
    )?;
    let total = |at: usize| amounts.iter().map(|(_, amounts)| amounts[at]).sum::<f64>();
    Some(Excess {
        variant: total(1) / total(0) - of_nothing,
        placebo: total(2) / total(0) - of_nothing,
        excess: ratio.value,
        low: ratio.low,
        high: ratio.high,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::jobs::eval::StoredRun;
    use crate::jobs::{Change, PlaceboPlan};
    use crate::score::statistics::Paired;

    /// The answer to a row: its tokens, and whether it is right.
    type Told<'a> = (&'a [u32], bool);

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
    }

    /// f32, awq and the placebo bf16 on four rows; the first two rows are of one cluster where that is asked for.
    fn record(columns: &[[Told; 4]; 3], is_clustered: bool) -> PlaceboRecord {
        let run = StoredRun::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/e113425/run")).unwrap();
        let rule = run.completions[0].1[0].scores[0].rule.clone();
        let one = |(sample, (tokens, right)): (usize, &Told)| {
            let mut one =
                StoredCompletion { sample, token_ids: Some(tokens.to_vec()), ..run.completions[0].1[0].clone() };
            one.scores[0].correct = *right;
            one
        };
        let names = ["f32", "awq", "bf16"].map(|name| VariantName::parse(name).unwrap());
        let completions: Vec<_> = names
            .iter()
            .zip(columns)
            .map(|(name, column)| (name.clone(), column.iter().enumerate().map(one).collect()))
            .collect();
        let mut plan = run.record.plan.clone();
        plan.dtypes = names.to_vec();
        plan.placebos = vec![PlaceboPlan { name: names[2].clone(), change: Change::Arithmetic }];
        let mut samples: Vec<StoredSample> =
            (0..4).map(|sample| StoredSample { sample, ..run.samples[0].clone() }).collect();
        if is_clustered {
            samples[..2].iter_mut().for_each(|sample| sample.cluster = Some("a".to_owned()));
        }
        let mut records = placebos(&plan, &completions, &[rule], &samples);
        assert_eq!(records.len(), 1, "awq beside bf16, and neither beside itself");
        records.remove(0)
    }

    const COLUMNS: [[Told; 4]; 3] = [
        [(&[1, 2], true), (&[3, 4], true), (&[5], false), (&[6, 7], true)],
        [(&[1, 9, 9, 9], false), (&[8, 8], false), (&[5], true), (&[6, 7], true)],
        [(&[1, 2], true), (&[3, 9], false), (&[5], false), (&[6, 7, 7, 7], true)],
    ];

    #[test]
    fn what_a_variant_changes_beyond_a_placebo_by_hand() {
        let record = record(&COLUMNS, false);
        assert_eq!((record.variant.as_str(), record.placebo.as_str(), record.n), ("awq", "bf16", 4));
        // awq flips rows 0, 1 and 2, bf16 row 1.
        let tango = Paired::of_counts(1, 0, 2, 1).unwrap();
        assert_eq!(
            record.flips,
            Excess {
                variant: 0.75,
                placebo: 0.25,
                excess: 0.5,
                low: tango.difference_low,
                high: tango.difference_high
            }
        );
        // awq changes 3/4, 1, 0 and 0 of the places, bf16 0, 1/2, 0 and 1/2; differences 3/4, 1/2, 0 and -1/2 of the mean 3/16.
        let tokens = record.tokens.unwrap();
        for (is, should) in [(tokens.variant, 1.75 / 4.0), (tokens.placebo, 0.25), (tokens.excess, 0.1875)] {
            close(is, should);
        }
        let squares: f64 = [0.75_f64, 0.5, 0.0, -0.5].iter().map(|one| (one - 0.1875).powi(2)).sum();
        close(tokens.high - tokens.excess, 1.959_963_984_540_054 * (squares / 12.0).sqrt());
        close(tokens.excess - tokens.low, tokens.high - tokens.excess);
        // 9 and 9 tokens in the place of 7; differences 2, 0, 0 and -2.
        let lengths = record.lengths.unwrap();
        for (is, should) in [(lengths.variant, 2.0 / 7.0), (lengths.placebo, 2.0 / 7.0), (lengths.excess, 0.0)] {
            close(is, should);
        }
        close(lengths.high, 1.959_963_984_540_054 * (8.0_f64 / 12.0).sqrt() / 1.75);
    }

    #[test]
    fn questions_of_one_cluster_count_as_one() {
        // Both flips of awq are of the cluster, which says less than two of two questions would.
        let [reference, variant, _] = COLUMNS;
        let both = [variant[0], variant[1], reference[2], reference[3]];
        let low = |is_clustered: bool| record(&[reference, both, reference], is_clustered).flips.low;
        assert!(low(true) < low(false) - 0.01, "{} {}", low(true), low(false));
        let record = record(&COLUMNS, true);
        // Three units of 2, 1 and 1 answers, with differences of 5/4, 0 and -1/2 in all.
        let tokens = record.tokens.unwrap();
        close(tokens.excess, 0.1875);
        let residuals = [1.25 - 2.0 * 0.1875, -0.1875, -0.5 - 0.1875_f64];
        let squares: f64 = residuals.iter().map(|one| one * one).sum();
        close(tokens.high - tokens.excess, 1.959_963_984_540_054 * (squares / 6.0).sqrt() / (4.0 / 3.0));
    }

    #[test]
    fn a_repeat_is_held_against_the_same_repeat() {
        let run = StoredRun::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/e113425/run")).unwrap();
        let one = |(sample, repeat)| StoredCompletion { sample, repeat, ..run.completions[0].1[0].clone() };
        let all = [(0, 0), (0, 1), (1, 0), (1, 1)].map(one);
        let fewer = [(0, 1), (1, 0)].map(one);
        let found = triples(&all, &all, &fewer);
        let keys = |at: usize| found.iter().map(|triple| (triple[at].sample, triple[at].repeat)).collect::<Vec<_>>();
        assert_eq!([0, 1, 2].map(keys), [(); 3].map(|()| vec![(0, 1), (1, 0)]));
    }

    #[test]
    fn a_placebo_that_changes_as_much_leaves_nothing() {
        let [reference, variant, _] = COLUMNS;
        let record = record(&[reference, variant, variant], false);
        let Excess { variant, placebo, excess, low, high } = record.flips;
        assert_eq!((variant, placebo, excess), (0.75, 0.75, 0.0));
        assert!(low < 0.0 && high > 0.0);
        assert_eq!((record.tokens.unwrap().excess, record.lengths.unwrap().excess), (0.0, 0.0));
    }
}
