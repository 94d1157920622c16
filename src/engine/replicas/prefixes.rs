//! Which beginnings of prompts a replica has seen, so that requests that begin alike meet in one prefix cache.
//!
//! A guess: the replica's cache may have dropped what is noted here. A wrong one costs time and changes no token.

use std::collections::HashSet;

/// Blocks of a replica that are remembered at least; twice as many at most.
const BLOCKS: usize = 1 << 16;

/// A beginning of a prompt in whole blocks: a hash a block, of its tokens and all before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix(Box<[u64]>);

impl Prefix {
    /// Of a prompt, in blocks of so many tokens. Its last token is always computed, so that a block that holds it is none.
    pub(super) fn of(tokens: &[u32], block_tokens: usize) -> Self {
        let known = tokens.split_last().map_or(&[][..], |(_, known)| known);
        let mut hash = 0;
        let mut next = |block: &[u32]| {
            for token in block {
                // Multiplication by an odd number loses nothing, the shift mixes high bits into low ones.
                hash = (hash ^ u64::from(*token)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                hash ^= hash >> 29;
            }
            hash
        };
        Self(known.chunks_exact(block_tokens.max(1)).map(&mut next).collect())
    }
}

/// The beginnings that a replica has seen, the latest of them.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    recent: HashSet<u64>,
    /// Those before.
    older: HashSet<u64>,
}

impl Prefixes {
    /// How many of the prompt's first blocks have been seen.
    pub(super) fn seen(&self, prefix: &Prefix) -> usize {
        prefix.0.iter().take_while(|hash| self.recent.contains(hash) || self.older.contains(hash)).count()
    }

    /// The replica is about to compute it.
    pub(super) fn note(&mut self, prefix: &Prefix) {
        if self.recent.len() + prefix.0.len() > BLOCKS {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.extend(&prefix.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_known_as_far_as_another_went() {
        let tokens: Vec<u32> = (0..100).collect();
        let mut prefixes = Prefixes::default();
        prefixes.note(&Prefix::of(&tokens, 16));
        let seen = |tokens: &[u32]| prefixes.seen(&Prefix::of(tokens, 16));
        assert_eq!(seen(&tokens), 6);
        assert_eq!(seen(&tokens[..97]), 6);
        assert_eq!(seen(&tokens[..96]), 5, "the last token is in the sixth block");
        assert_eq!(seen(&[]), 0);
        let mut other = tokens.clone();
        other[40] += 1;
        assert_eq!(seen(&other), 2);
        assert_eq!(seen(&tokens[16..]), 0, "the same block after another beginning is another");
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut prefixes = Prefixes::default();
        let of = |number: u32| Prefix::of(&[number, 0], 1);
        for number in 0..4 * BLOCKS as u32 {
            prefixes.note(&of(number));
        }
        assert!(prefixes.recent.len() + prefixes.older.len() <= 2 * BLOCKS);
        assert_eq!(prefixes.seen(&of(0)), 0);
        assert!((4 * BLOCKS as u32 - BLOCKS as u32..4 * BLOCKS as u32).all(|number| prefixes.seen(&of(number)) == 1));
    }
}
