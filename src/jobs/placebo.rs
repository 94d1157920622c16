//! Placebos: further columns that differ from the reference in what should not matter. What a variant changes means something only beyond
//! what they change.

use serde::{Deserialize, Serialize};

use super::Target;
use crate::engine::Precision;
use crate::random::split_mix;
use crate::record::{GenerationPlan, VariantName};

/// What a placebo changes of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Another arithmetic of 16 bits.
    Arithmetic,
    /// So many requests at a time at most, in another order.
    Batch(usize),
    /// Another seed.
    Seed(u64),
}

/// A column that should not matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceboPlan {
    /// What it is called.
    pub name: VariantName,
    /// What it changes.
    pub change: Change,
}

impl Change {
    /// `bf16`, `batch16`, `seed1`: behind the reference's name.
    pub(super) fn suffix(self, arithmetic: Precision) -> String {
        match self {
            Self::Arithmetic => arithmetic.to_string(),
            Self::Batch(batch) => format!("batch{batch}"),
            Self::Seed(seed) => format!("seed{seed}"),
        }
    }

    /// The target and the generation that it makes of a run's.
    pub(super) fn of(self, target: &Target, generation: &GenerationPlan) -> (Target, GenerationPlan) {
        let (mut target, mut generation) = (target.clone(), generation.clone());
        match self {
            Self::Arithmetic => {}
            Self::Batch(batch) => target.batch = Some(batch),
            Self::Seed(seed) => generation.seed = seed,
        }
        (target, generation)
    }

    /// Requests in the order that they go in, told by row and repeat.
    pub(super) fn sort<T>(self, requests: &mut [T], key: impl Fn(&T) -> (usize, usize)) {
        if let Self::Batch(batch) = self {
            requests.sort_by_cached_key(|one| {
                let (sample, repeat) = key(one);
                split_mix(split_mix(batch as u64 ^ split_mix(sample as u64)) ^ repeat as u64)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_batch_takes_all_requests_in_another_order_and_others_leave_it() {
        let all: Vec<(usize, usize)> = (0..40).flat_map(|sample| [(sample, 0), (sample, 1)]).collect();
        let mut sorted = all.clone();
        Change::Batch(8).sort(&mut sorted, |one| *one);
        assert_ne!(sorted, all);
        let mut other = all.clone();
        Change::Batch(16).sort(&mut other, |one| *one);
        assert_ne!(sorted, other);
        // What is missing goes in as it would have among all.
        let mut rest: Vec<_> = all[50..].to_vec();
        Change::Batch(8).sort(&mut rest, |one| *one);
        let among_all: Vec<_> = sorted.iter().filter(|one| rest.contains(one)).copied().collect();
        assert_eq!(rest, among_all);
        sorted.sort_unstable();
        assert_eq!(sorted, all);
        for change in [Change::Arithmetic, Change::Seed(3)] {
            let mut same = all.clone();
            change.sort(&mut same, |one| *one);
            assert_eq!(same, all);
        }
    }
}
