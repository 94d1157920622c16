//! Prompts of random token ids: a function of the seed, of what they are for, and of their number.

use std::sync::Arc;

use crate::engine::Prompt;
use crate::random::{GOLDEN, split_mix};

/// Ids below this are commonly special tokens.
const FIRST_ID: usize = 5;

/// What a prompt is for. No two prompts of a benchmark are alike, so that no cache can serve one for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::jobs) enum Purpose {
    WarmUp = 1,
    Load,
    Single,
    Concurrent,
    Workload,
    SharedPrefix,
    Sweep,
}

/// Makes prompts.
#[derive(Debug, Clone, Copy)]
pub(in crate::jobs) struct Prompts {
    pub(in crate::jobs) seed: u64,
    pub(in crate::jobs) vocabulary: usize,
}

impl Prompts {
    /// What the record says of them.
    pub(super) fn in_words(self) -> String {
        format!("random token ids from {FIRST_ID} to {}, no text", self.vocabulary.saturating_sub(1))
    }

    /// Whether the vocabulary has any id to choose.
    pub(super) const fn can_be_made(self) -> bool {
        self.vocabulary > FIRST_ID
    }

    /// `prefix` and then this many random ids.
    pub(in crate::jobs) fn prompt(self, purpose: Purpose, number: usize, prefix: &[u32], tokens: usize) -> Arc<Prompt> {
        let token_ids = prefix.iter().copied().chain(self.ids(purpose, number, tokens)).collect();
        Arc::new(Prompt { text: String::new(), token_ids })
    }

    /// What all prompts of a part begin with.
    pub(in crate::jobs) fn shared_prefix(self, tokens: usize) -> Vec<u32> {
        self.ids(Purpose::SharedPrefix, 0, tokens).collect()
    }

    fn ids(self, purpose: Purpose, number: usize, tokens: usize) -> impl Iterator<Item = u32> {
        let key = split_mix(split_mix(split_mix(self.seed) ^ purpose as u64) ^ number as u64);
        let choices = self.vocabulary.saturating_sub(FIRST_ID).max(1) as u64;
        let word = move |index: usize| split_mix(key.wrapping_add((index as u64).wrapping_mul(GOLDEN)));
        (0..tokens).map(move |index| FIRST_ID as u32 + (word(index) % choices) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_reproducible_within_the_vocabulary_and_all_different() {
        let prompts = Prompts { seed: 7, vocabulary: 32_000 };
        let one = prompts.prompt(Purpose::Single, 0, &[], 1000);
        assert_eq!(one, prompts.prompt(Purpose::Single, 0, &[], 1000));
        assert!(one.token_ids.iter().all(|id| (5..32_000).contains(id)));
        assert_eq!(one.token_ids[..10], prompts.prompt(Purpose::Single, 0, &[], 10).token_ids);
        for other in [
            prompts.prompt(Purpose::Single, 1, &[], 1000),
            prompts.prompt(Purpose::Load, 0, &[], 1000),
            Prompts { seed: 8, ..prompts }.prompt(Purpose::Single, 0, &[], 1000),
        ] {
            let same = one.token_ids.iter().zip(&other.token_ids).filter(|(a, b)| a == b).count();
            assert!(same < 5, "{same} of 1000 ids are the same");
        }
        let prefix = prompts.shared_prefix(3);
        assert_eq!(prompts.prompt(Purpose::Workload, 4, &prefix, 2).token_ids[..3], prefix[..]);
        assert_eq!(prompts.prompt(Purpose::Workload, 4, &prefix, 2).token_ids.len(), 5);
    }
}
