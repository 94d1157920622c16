//! The block pool: by hand, and in any order of events.

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

const BLOCK: usize = 4;

impl BlockPool {
    fn unused_in_order(&self) -> Vec<u32> {
        let mut order = Vec::new();
        let mut next = self.oldest;
        while next != NONE {
            order.push(next);
            next = self.block(next).newer;
        }
        order
    }

    /// Everything that must hold at any time; `holders` says what every sequence holds.
    fn check(&self, holders: &HashMap<u64, Table>) {
        let mut references: HashMap<u32, u32> = HashMap::new();
        for block in holders.values().flat_map(|table| &table.blocks) {
            *references.entry(*block).or_default() += 1;
        }
        let unused = self.unused_in_order();
        let free: HashSet<u32> = self.free.iter().copied().collect();
        assert_eq!(free.len(), self.free.len(), "a block is free twice");
        assert_eq!((unused.len(), references.len()), (self.cached, self.held));
        assert!(self.cached <= self.max_cached);
        assert_eq!(self.free.len() + self.cached + self.held, self.blocks.len(), "a block is lost");
        assert!(self.blocks.len() <= self.total);
        let mut registered = 0;
        for (number, block) in (0..).zip(&self.blocks) {
            let held = references.get(&number).copied().unwrap_or(0);
            assert_eq!(block.references, held, "block {number}");
            assert!(
                !free.contains(&number) || (held == 0 && block.prefix.is_none()),
                "block {number} is free and in use"
            );
            let Some(prefix) = &block.prefix else { continue };
            registered += 1;
            assert_eq!(self.index.get(&prefix.hash), Some(&number));
            if let Content::Pending(owner) = prefix.content {
                assert!(holders[&owner].blocks.contains(&number), "its owner does not hold block {number}");
            }
            let place = unused.iter().position(|unused| *unused == number);
            assert_eq!(place.is_some(), held == 0);
            if prefix.parent != NONE {
                let parent = self.block(prefix.parent);
                assert!(parent.prefix.is_some() && parent.references >= held, "block {number} has lost its beginning");
                let parent_place = unused.iter().position(|unused| *unused == prefix.parent);
                assert!(parent_place.is_none_or(|parent| place.is_some_and(|place| place < parent)));
            }
        }
        assert_eq!(registered, self.index.len());
    }
}

fn fill(pool: &mut BlockPool, table: &Table, tokens: usize, owner: u64) {
    for block in &table.blocks[..tokens / BLOCK] {
        pool.fill(*block, owner);
    }
}

fn prompt(words: &[u32]) -> Vec<u32> {
    words.iter().flat_map(|word| std::iter::repeat_n(*word, BLOCK)).collect()
}

#[test]
fn blocks_are_counted_up() {
    let pool = BlockPool::new(9, 64, 9);
    assert_eq!([0, 1, 64, 65].map(|tokens| pool.blocks_of(tokens)), [0, 1, 1, 2]);
}

#[test]
fn a_beginning_is_shared_by_content_and_kept_after_its_holder() {
    let mut pool = BlockPool::new(10, BLOCK, 10);
    let first = pool.admit(&prompt(&[1, 2, 3]), 11, 16, 1).unwrap();
    assert_eq!((first.blocks.len(), first.shared), (4, 0));
    assert_eq!(pool.content(first.blocks[0]), Content::Pending(1));
    fill(&mut pool, &first, 12, 1);
    pool.release(&first.blocks, 1);
    assert_eq!((pool.held(), pool.available()), (0, 10));
    // The last token is the request's own: of an equal prompt two blocks are found, of a longer one three.
    let same = pool.admit(&prompt(&[1, 2, 3]), 11, 16, 2).unwrap();
    assert_eq!((&same.blocks[..2], same.shared), (&first.blocks[..2], 2));
    let longer = pool.admit(&prompt(&[1, 2, 3, 4]), 15, 20, 3).unwrap();
    assert_eq!((&longer.blocks[..3], longer.shared), (&first.blocks[..3], 3));
    // Equal blocks behind another beginning are other blocks.
    let other = pool.admit(&prompt(&[9, 2, 3]), 11, 12, 4);
    assert!(other.is_none_or(|table| table.shared == 0));
}

#[test]
fn the_least_recently_used_goes_first_and_the_end_before_the_beginning() {
    let mut pool = BlockPool::new(4, BLOCK, 4);
    for (owner, words) in [(1, [1, 2]), (2, [5, 6])] {
        let table = pool.admit(&prompt(&words), 8, 8, owner).unwrap();
        fill(&mut pool, &table, 8, owner);
        pool.release(&table.blocks, owner);
    }
    // The older text is used again, and so the newer one gives way, from its end.
    let again = pool.admit(&prompt(&[1, 2]), 8, 8, 3).unwrap();
    assert_eq!(again.shared, 2);
    pool.release(&again.blocks, 3);
    let new = pool.admit(&prompt(&[7]), 4, 4, 4).unwrap();
    assert_eq!(pool.find(&prompt(&[5, 6]), 2).len(), 1);
    assert_eq!(pool.find(&prompt(&[1, 2]), 2).len(), 2);
    pool.release(&new.blocks, 4);
    pool.check(&HashMap::new());
}

#[test]
fn what_nobody_computed_is_forgotten_or_adopted() {
    let mut pool = BlockPool::new(8, BLOCK, 8);
    let first = pool.admit(&prompt(&[1, 2]), 7, 8, 1).unwrap();
    let second = pool.admit(&prompt(&[1, 3]), 7, 8, 2).unwrap();
    assert_eq!((second.shared, second.blocks[0]), (1, first.blocks[0]));
    pool.release(&first.blocks, 1);
    assert_eq!(pool.content(second.blocks[0]), Content::Orphaned);
    pool.adopt(second.blocks[0], 2);
    pool.fill(second.blocks[0], 1); // not its owner any more
    assert_eq!(pool.content(second.blocks[0]), Content::Pending(2));
    pool.release(&second.blocks, 2);
    assert!(pool.find(&prompt(&[1, 2]), 2).is_empty() && pool.index.is_empty());
    pool.check(&HashMap::new());
}

/// A hash that maps everything to one number may cost hits, never a wrong one.
#[test]
fn equal_hashes_are_no_equal_tokens() {
    let mut pool = BlockPool { hash: |_, _| 7, ..BlockPool::new(8, BLOCK, 8) };
    let first = pool.admit(&prompt(&[1, 1]), 8, 8, 1).unwrap();
    fill(&mut pool, &first, 8, 1);
    assert_eq!(pool.find(&prompt(&[2]), 1), Vec::<u32>::new());
    assert_eq!(pool.find(&prompt(&[1, 1]), 2), first.blocks[..1]);
    pool.check(&HashMap::from([(1, first)]));
}

/// Sequences by their number: what they hold, how many prompt tokens they have, and of these computed.
#[derive(Default)]
struct Sequences {
    tables: HashMap<u64, Table>,
    prefill: HashMap<u64, (usize, usize)>,
}

impl Sequences {
    /// As the scheduler does: skips what is there, adopts what is orphaned, waits for what others compute.
    fn advance(&mut self, pool: &mut BlockPool, owner: u64, most: usize) {
        let table = &self.tables[&owner];
        let (length, computed) = self.prefill.get_mut(&owner).unwrap();
        for _ in 0..most {
            let place = *computed / BLOCK;
            if *computed >= *length {
                return;
            }
            if place < table.shared {
                match pool.content(table.blocks[place]) {
                    Content::Filled => (),
                    Content::Pending(other) if other != owner => return,
                    Content::Pending(_) => pool.fill(table.blocks[place], owner),
                    Content::Orphaned => {
                        pool.adopt(table.blocks[place], owner);
                        pool.fill(table.blocks[place], owner);
                    }
                }
            } else if *computed + BLOCK <= *length {
                pool.fill(table.blocks[place], owner);
            }
            *computed = (*computed + BLOCK).min(*length);
        }
    }

    fn release(&mut self, pool: &mut BlockPool, owner: u64) {
        if let Some(table) = self.tables.remove(&owner) {
            pool.release(&table.blocks, owner);
            self.prefill.remove(&owner);
        }
    }
}

proptest! {
    /// Requests with common beginnings come, compute, end and are cancelled in any order.
    #[test]
    fn no_block_is_lost_or_freed_while_held(
        total in 1_usize..24,
        max_cached in 0_usize..24,
        operations in proptest::collection::vec((0_u8..4, any::<u16>(), 1_usize..22, 0_usize..8), 1..150),
    ) {
        let mut pool = BlockPool::new(total, BLOCK, max_cached);
        let mut sequences = Sequences::default();
        let (mut next, mut most_held) = (0, 0);
        for (operation, choice, length, extra) in operations {
            let some = || {
                let mut all: Vec<u64> = sequences.tables.keys().copied().collect();
                all.sort_unstable();
                (!all.is_empty()).then(|| all[usize::from(choice) % all.len()])
            };
            match operation {
                0 => {
                    // Few words, so that beginnings are often alike.
                    let words: Vec<u32> = (0..length.div_ceil(BLOCK)).map(|n| u32::from(choice >> (n % 8) & 1)).collect();
                    let prompt = &prompt(&words)[..length];
                    let before = pool.available();
                    let admitted = pool.admit(prompt, length - 1, length + extra, next);
                    let need = pool.blocks_of(length + extra);
                    if let Some(table) = admitted {
                        prop_assert_eq!(table.blocks.len(), need);
                        prop_assert!(table.shared * BLOCK < length);
                        sequences.tables.insert(next, table);
                        sequences.prefill.insert(next, (length, 0));
                        next += 1;
                    } else {
                        prop_assert!(need > before && pool.available() == before);
                    }
                }
                1 | 2 => {
                    if let Some(owner) = some() {
                        sequences.advance(&mut pool, owner, 1 + extra);
                    }
                }
                _ => {
                    if let Some(owner) = some() {
                        sequences.release(&mut pool, owner);
                    }
                }
            }
            pool.check(&sequences.tables);
            most_held = most_held.max(pool.held());
            // So much memory it takes at most: a block that was never taken is taken last but for evictions.
            prop_assert!(pool.blocks.len() <= most_held + max_cached);
        }
        // Whoever is left can finish: nobody waits for somebody who waits.
        for _ in 0..=sequences.tables.len() {
            let mut all: Vec<u64> = sequences.tables.keys().copied().collect();
            all.sort_unstable();
            for owner in all {
                sequences.advance(&mut pool, owner, 100);
            }
        }
        prop_assert!(sequences.prefill.values().all(|(length, computed)| length == computed));
        for owner in 0..next {
            sequences.release(&mut pool, owner);
        }
        pool.check(&sequences.tables);
        prop_assert_eq!(pool.available(), total);
    }

    /// Requests wait in line and hold their blocks for a while, as in the engine.
    #[test]
    fn everyone_gets_a_turn(
        total in 1_usize..40, wants in proptest::collection::vec((1_usize..12, 1_usize..6, 0_u32..3), 1..60)
    ) {
        let mut pool = BlockPool::new(total, BLOCK, total);
        let mut waiting: VecDeque<(usize, usize, u32)> =
            wants.iter().map(|(count, steps, word)| ((*count).min(total), *steps, *word)).collect();
        let mut holders: HashMap<u64, Table> = HashMap::new();
        let mut left: HashMap<u64, usize> = HashMap::new();
        let (mut next, mut rounds) = (0, 0);
        while !waiting.is_empty() || !holders.is_empty() {
            while let Some((count, steps, word)) = waiting.front().copied() {
                let tokens = prompt(&vec![word; count]);
                let Some(table) = pool.admit(&tokens, tokens.len() - 1, tokens.len(), next) else { break };
                fill(&mut pool, &table, tokens.len(), next);
                holders.insert(next, table);
                left.insert(next, steps);
                waiting.pop_front();
                next += 1;
            }
            pool.check(&holders);
            for steps in left.values_mut() {
                    *steps -= 1;
                }
            for owner in left.extract_if(|_, steps| *steps == 0).map(|(owner, _)| owner).collect::<Vec<_>>() {
                pool.release(&holders.remove(&owner).unwrap().blocks, owner);
            }
            rounds += 1;
            prop_assert!(rounds <= wants.len() * 6, "someone starves");
        }
        prop_assert_eq!((next as usize, pool.available()), (wants.len(), total));
    }

    #[test]
    fn all_or_nothing(total in 0_usize..20, count in 0_usize..30) {
        let mut pool = BlockPool::new(total, BLOCK, total);
        let taken = pool.take(count);
        prop_assert_eq!(taken.is_some(), count <= total);
        prop_assert_eq!(pool.available(), if count <= total { total - count } else { total });
    }
}
