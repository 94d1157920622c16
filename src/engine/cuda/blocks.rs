//! The key and value cache's blocks: which are free, which are whose.

use super::BLOCK_TOKENS;
use crate::engine::EngineError;

/// Blocks that hold `tokens` positions.
pub(crate) const fn blocks_of(tokens: usize) -> usize {
    tokens.div_ceil(BLOCK_TOKENS)
}

/// All blocks of a cache. A block is free or belongs to exactly one holder.
#[derive(Debug)]
pub(crate) struct BlockPool {
    total: usize,
    free: Vec<u32>,
}

impl BlockPool {
    /// `total` blocks, all free.
    pub(crate) fn new(total: usize) -> Self {
        Self { total, free: (0..total as u32).rev().collect() }
    }

    /// All blocks, free or not.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Refuses what does not fit even alone; `what` may come to so many tokens.
    pub(crate) fn check(&self, what: &str, tokens: usize) -> Result<(), EngineError> {
        if blocks_of(tokens) <= self.total {
            return Ok(());
        }
        let room = self.total * BLOCK_TOKENS;
        Err(EngineError::invalid(
            format!("{what} may come to {tokens} tokens; beside this model, the GPU has room for the cache of {room}"),
            "ask for fewer tokens (`--max-tokens`, `--window`), shorten the prompts, end other programs on the card, or run \
             with `--engine cpu`",
        ))
    }

    /// Blocks that belong to somebody.
    pub(crate) fn taken(&self) -> usize {
        self.total - self.free.len()
    }

    /// Blocks that can be taken now.
    #[cfg(test)]
    fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes `count` blocks, or none at all.
    pub(crate) fn take(&mut self, count: usize) -> Option<Vec<u32>> {
        let left = self.free.len().checked_sub(count)?;
        Some(self.free.split_off(left))
    }

    /// Gives blocks back.
    pub(crate) fn give_back(&mut self, blocks: Vec<u32>) {
        self.free.extend(blocks);
        debug_assert!(self.free.len() <= self.total, "a block was given back twice");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_never_fit_is_refused_with_what_could() {
        let pool = BlockPool::new(3);
        assert!([0, 1, 191, 192].iter().all(|tokens| pool.check("request 7", *tokens).is_ok()));
        let text = pool.check("request 7", 193).unwrap_err().to_string();
        assert!(
            text.starts_with("request 7 may come to 193 tokens; ") && text.contains("the cache of 192\n"),
            "{text}"
        );
        assert!(text.contains("hint: ") && text.contains("--max-tokens"), "{text}");
    }

    #[test]
    fn blocks_are_counted_up() {
        assert_eq!([0, 1, 64, 65].map(blocks_of), [0, 1, 1, 2]);
    }

    proptest! {
        /// Requests wait in line and hold their blocks for a while, as in the engine.
        #[test]
        fn no_block_is_lost_or_held_twice_and_everyone_gets_a_turn(
            total in 1_usize..40, wants in proptest::collection::vec((1_usize..12, 1_usize..6), 1..60)
        ) {
            let mut pool = BlockPool::new(total);
            let mut waiting: VecDeque<(usize, usize)> = wants.iter().map(|(count, steps)| ((*count).min(total), *steps)).collect();
            let mut holding: Vec<(Vec<u32>, usize)> = Vec::new();
            let mut served = 0;
            let mut rounds = 0;
            while !waiting.is_empty() || !holding.is_empty() {
                while let Some((count, steps)) = waiting.front().copied() {
                    let Some(blocks) = pool.take(count) else { break };
                    prop_assert_eq!(blocks.len(), count);
                    waiting.pop_front();
                    holding.push((blocks, steps));
                }
                let held: Vec<u32> = holding.iter().flat_map(|(blocks, _)| blocks).copied().collect();
                prop_assert_eq!(held.iter().collect::<HashSet<_>>().len(), held.len());
                prop_assert!(held.iter().all(|block| (*block as usize) < total));
                prop_assert_eq!(held.len() + pool.free(), total);
                for (_, steps) in &mut holding {
                    *steps -= 1;
                }
                let (ended, rest): (Vec<_>, Vec<_>) = holding.into_iter().partition(|(_, steps)| *steps == 0);
                holding = rest;
                for (blocks, _) in ended {
                    pool.give_back(blocks);
                    served += 1;
                }
                rounds += 1;
                prop_assert!(rounds <= wants.len() * 6, "someone starves");
            }
            prop_assert_eq!(served, wants.len());
            prop_assert_eq!(pool.free(), total);
        }

        #[test]
        fn all_or_nothing(total in 0_usize..20, count in 0_usize..30) {
            let mut pool = BlockPool::new(total);
            let taken = pool.take(count);
            prop_assert_eq!(taken.is_some(), count <= total);
            prop_assert_eq!(pool.free(), if count <= total { total - count } else { total });
        }
    }
}
