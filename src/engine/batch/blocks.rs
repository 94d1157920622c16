//! The blocks of a KV cache: which are free, who holds which, and which hold a prefix of a prompt that others may share.
//!
//! A block holds the keys and values of [`BlockPool::block_tokens`] consecutive positions of one sequence. A block that a prompt
//! fills completely is registered under its tokens *and all tokens before them*, so that any later prompt with the same prefix
//! can hold the same block. Blocks are counted by reference; a registered block that nobody holds stays in the cache until its
//! memory is needed, the least recently used first. Tokens are compared, never only their hash.
//!
//! Registered is a block as soon as a request that will compute it is admitted; until then it is *pending* and has an owner. Others
//! hold it already, and their steps wait until the owner's step has been enqueued. Should the owner leave before, whoever gets there
//! next adopts the block and computes it.
//!
//! Whoever holds a registered block holds the blocks before it too. So in the list of unused blocks a block always stands before
//! (is older than) the one that precedes it in the text, and evicting the oldest never leaves a block without its prefix.

use std::collections::HashMap;

/// No block.
const NONE: u32 = u32::MAX;

/// All blocks of a cache, and the prefix cache in them.
#[derive(Debug)]
pub(crate) struct BlockPool {
    block_tokens: usize,
    total: usize,
    /// Unused blocks that keep their content at most.
    max_cached: usize,
    /// By number, as far as blocks were ever taken.
    blocks: Vec<Block>,
    /// Unused blocks without content.
    free: Vec<u32>,
    /// Blocks that somebody holds.
    held: usize,
    /// Unused blocks with content, a list through [`Block::older`] and [`Block::newer`].
    oldest: u32,
    newest: u32,
    cached: usize,
    /// Registered blocks by [`Prefix::hash`]. Of two contents with the same hash only the first is registered.
    index: HashMap<u64, u32>,
    hash: fn(u64, &[u32]) -> u64,
}

#[derive(Debug)]
struct Block {
    /// Sequences that hold it.
    references: u32,
    /// What it holds, where others may find it.
    prefix: Option<Prefix>,
    older: u32,
    newer: u32,
}

#[derive(Debug)]
struct Prefix {
    /// Of these tokens and all before them.
    hash: u64,
    /// The block before, which is registered as long as this one is; [`NONE`] for a first block.
    parent: u32,
    tokens: Box<[u32]>,
    content: Content,
}

/// Whether a shared block can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// It is computed, or will be by a step that has been enqueued.
    Filled,
    /// This sequence computes it.
    Pending(u64),
    /// Whoever was to compute it has left.
    Orphaned,
}

/// What a request holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// Blocks in the order of positions.
    pub(crate) blocks: Vec<u32>,
    /// As many of the first as were found in the cache.
    pub(crate) shared: usize,
}

impl BlockPool {
    /// `total` blocks of `block_tokens`, all free; up to `max_cached` that nobody holds keep what they hold.
    pub(crate) fn new(total: usize, block_tokens: usize, max_cached: usize) -> Self {
        Self {
            block_tokens,
            total: total.min(NONE as usize),
            max_cached,
            blocks: Vec::new(),
            free: Vec::new(),
            held: 0,
            oldest: NONE,
            newest: NONE,
            cached: 0,
            index: HashMap::new(),
            hash: chain_hash,
        }
    }

    /// Tokens of a block.
    pub(crate) fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// Blocks that hold `tokens` positions.
    pub(crate) fn blocks_of(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_tokens)
    }

    /// All blocks.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Blocks that somebody holds.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Blocks that can be taken now, those of the prefix cache that nobody holds included.
    pub(crate) fn available(&self) -> usize {
        self.total - self.held
    }

    /// Gives a sequence the blocks of `tokens` positions, or `None` if there are not enough. `prefill` are the tokens whose
    /// positions are computed as a prompt is; of these the first `max_shared` may come from the cache. Blocks that `prefill` fills
    /// are registered for others, with `owner` as the one who computes them.
    pub(crate) fn admit(&mut self, prefill: &[u32], max_shared: usize, tokens: usize, owner: u64) -> Option<Table> {
        let mut blocks = self.find(prefill, max_shared / self.block_tokens);
        let shared = blocks.len();
        let missing = self.blocks_of(tokens).saturating_sub(shared);
        let unused = blocks.iter().filter(|block| self.block(**block).references == 0).count();
        if missing + unused > self.available() {
            return None;
        }
        for block in &blocks {
            self.hold(*block);
        }
        blocks.extend(self.take(missing)?);
        self.register(&blocks, shared, prefill, owner);
        Some(Table { blocks, shared })
    }

    /// Takes `count` blocks that nobody shares, or none at all.
    pub(crate) fn take(&mut self, count: usize) -> Option<Vec<u32>> {
        if count > self.available() {
            return None;
        }
        let mut taken = Vec::with_capacity(count);
        for _ in 0..count {
            let block = self.free.pop().or_else(|| self.grow()).or_else(|| self.evict())?;
            self.block_mut(block).references = 1;
            taken.push(block);
        }
        self.held += count;
        Some(taken)
    }

    /// Gives back what a sequence held. What it had to compute and has not is left to whoever else holds it.
    pub(crate) fn release(&mut self, blocks: &[u32], owner: u64) {
        // From the last block to the first, so that the last is evicted first.
        for number in blocks.iter().rev() {
            let block = self.block_mut(*number);
            debug_assert!(block.references > 0, "block {number} was given back twice");
            block.references -= 1;
            let unused = block.references == 0;
            match block.prefix.as_mut().map(|prefix| &mut prefix.content) {
                Some(content) if *content == Content::Pending(owner) && !unused => *content = Content::Orphaned,
                Some(Content::Filled) if unused => self.append(*number),
                _ if unused => {
                    self.unregister(*number);
                    self.free.push(*number);
                }
                _ => (),
            }
            self.held -= usize::from(unused);
        }
        while self.cached > self.max_cached
            && let Some(block) = self.evict()
        {
            self.free.push(block);
        }
    }

    /// Gives back what [`BlockPool::take`] gave.
    pub(crate) fn give_back(&mut self, blocks: &[u32]) {
        self.release(blocks, u64::MAX);
    }

    /// Whether a block that was shared at admission can be read.
    pub(crate) fn content(&self, block: u32) -> Content {
        self.block(block).prefix.as_ref().map_or(Content::Filled, |prefix| prefix.content)
    }

    /// Takes over an orphaned block.
    pub(crate) fn adopt(&mut self, block: u32, owner: u64) {
        if let Some(prefix) = &mut self.block_mut(block).prefix {
            prefix.content = Content::Pending(owner);
        }
    }

    /// Says that the step which fills this block is about to be enqueued.
    pub(crate) fn fill(&mut self, block: u32, owner: u64) {
        if let Some(prefix) = &mut self.block_mut(block).prefix
            && prefix.content == Content::Pending(owner)
        {
            prefix.content = Content::Filled;
        }
    }

    /// Whether nobody holds the block and its content is of no use.
    pub(crate) fn is_free(&self, block: u32) -> bool {
        self.blocks.get(block as usize).is_none_or(|block| block.references == 0 && block.prefix.is_none())
    }

    /// Forgets every holder and every content.
    pub(crate) fn clear(&mut self) {
        let hash = self.hash;
        *self = Self { hash, ..Self::new(self.total, self.block_tokens, self.max_cached) };
    }

    /// The longest chain of registered blocks that `tokens` begin with, `most` at most.
    fn find(&self, tokens: &[u32], most: usize) -> Vec<u32> {
        let (mut found, mut parent, mut hash) = (Vec::new(), NONE, 0);
        for tokens in tokens.chunks_exact(self.block_tokens).take(most) {
            hash = (self.hash)(hash, tokens);
            let Some(block) = self.index.get(&hash).copied().filter(|block| self.holds(*block, parent, tokens)) else {
                break;
            };
            found.push(block);
            parent = block;
        }
        found
    }

    fn holds(&self, block: u32, parent: u32, tokens: &[u32]) -> bool {
        let prefix = self.block(block).prefix.as_ref();
        prefix.is_some_and(|prefix| prefix.parent == parent && *prefix.tokens == *tokens)
    }

    /// Registers what `prefill` fills behind the `shared` first blocks, until one is registered already: what stands behind a
    /// block of one's own that others do not find is of no use to them.
    fn register(&mut self, blocks: &[u32], shared: usize, prefill: &[u32], owner: u64) {
        let (mut parent, mut hash) = (NONE, 0);
        for (place, (number, tokens)) in blocks.iter().zip(prefill.chunks_exact(self.block_tokens)).enumerate() {
            hash = (self.hash)(hash, tokens);
            if place >= shared {
                if self.index.contains_key(&hash) {
                    return;
                }
                self.index.insert(hash, *number);
                let content = Content::Pending(owner);
                self.block_mut(*number).prefix = Some(Prefix { hash, parent, tokens: tokens.into(), content });
            }
            parent = *number;
        }
    }

    fn unregister(&mut self, block: u32) {
        if let Some(prefix) = self.block_mut(block).prefix.take() {
            self.index.remove(&prefix.hash);
        }
    }

    /// One holder more.
    fn hold(&mut self, number: u32) {
        let block = self.block_mut(number);
        block.references += 1;
        if block.references == 1 {
            self.unlink(number);
            self.held += 1;
        }
    }

    /// A block that was never taken.
    fn grow(&mut self) -> Option<u32> {
        let number = u32::try_from(self.blocks.len()).ok().filter(|number| (*number as usize) < self.total)?;
        self.blocks.push(Block { references: 0, prefix: None, older: NONE, newer: NONE });
        Some(number)
    }

    /// The least recently used block that nobody holds; its content is forgotten.
    fn evict(&mut self) -> Option<u32> {
        let number = (self.oldest != NONE).then_some(self.oldest)?;
        self.unlink(number);
        self.unregister(number);
        Some(number)
    }

    /// Makes a block the most recently used of those that nobody holds.
    fn append(&mut self, number: u32) {
        let older = self.newest;
        self.block_mut(number).older = older;
        *self.newer_of(older) = number;
        *self.older_of(NONE) = number;
        self.cached += 1;
    }

    fn unlink(&mut self, number: u32) {
        let block = self.block_mut(number);
        let (older, newer) = (std::mem::replace(&mut block.older, NONE), std::mem::replace(&mut block.newer, NONE));
        *self.newer_of(older) = newer;
        *self.older_of(newer) = older;
        self.cached -= 1;
    }

    /// The link from a block to the one used after it; from none, to the oldest.
    fn newer_of(&mut self, number: u32) -> &mut u32 {
        if number == NONE { &mut self.oldest } else { &mut self.block_mut(number).newer }
    }

    /// The link from a block to the one used before it; from none, to the newest.
    fn older_of(&mut self, number: u32) -> &mut u32 {
        if number == NONE { &mut self.newest } else { &mut self.block_mut(number).older }
    }

    fn block(&self, number: u32) -> &Block {
        &self.blocks[number as usize]
    }

    fn block_mut(&mut self, number: u32) -> &mut Block {
        &mut self.blocks[number as usize]
    }
}

/// A hash of `tokens` behind tokens with the hash `before`.
fn chain_hash(before: u64, tokens: &[u32]) -> u64 {
    tokens.iter().fold(before ^ 0x9e37_79b9_7f4a_7c15, |hash, token| {
        (hash ^ u64::from(*token)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31)
    })
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
