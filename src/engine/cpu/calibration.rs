//! The decoder's equations block by block and in binary32, for those who look for other weights that compute nearly
//! the same.

use super::forward::{Cache, Feed};
use super::linear::{Linear, Matrix};
use super::load::{Block, Model};
use crate::engine::model::ModelSource;
use crate::engine::{EngineError, Precision};

/// A model without its blocks: what every block shares. Sequences are whole; each begins at position 0.
pub(crate) struct Calibration {
    model: Model,
}

impl Calibration {
    /// Reads what lies outside the blocks.
    pub(crate) fn open(source: &ModelSource) -> Result<Self, EngineError> {
        Ok(Self { model: Model::load_without_blocks(source, Precision::F32)? })
    }

    /// Reads one block.
    pub(crate) fn block(source: &ModelSource, layer: usize) -> Result<Block, EngineError> {
        Block::load(source, layer, Precision::F32)
    }

    /// What the first block reads: `[tokens, hidden]`, sequence after sequence.
    pub(crate) fn embed(&self, sequences: &[Vec<u32>]) -> Matrix {
        self.with_feeds(sequences, |feeds, positions| self.model.embed(feeds, positions))
    }

    /// Attention up to its output projection, under these weights: h `[tokens, hidden]` → `[tokens, heads · head_dim]`.
    pub(crate) fn attend(&self, qkv: &Linear, h: &Matrix, sequences: &[Vec<u32>]) -> Matrix {
        self.with_feeds(sequences, |feeds, positions| {
            let turns = self.model.turns(positions);
            self.model.attend(qkv, h, feeds, 0, turns.as_ref())
        })
    }

    /// The MLP's non-linearity, on the outputs of a block's `up`: `[tokens, intermediate]`.
    pub(crate) fn activate(&self, h: Matrix) -> Matrix {
        self.model.activate(h)
    }

    fn with_feeds(&self, sequences: &[Vec<u32>], work: impl FnOnce(&mut [Feed<'_>], &[usize]) -> Matrix) -> Matrix {
        let mut caches = vec![Cache::new(&self.model); sequences.len()];
        let feeds = caches.iter_mut().zip(sequences).map(|(cache, tokens)| Feed { cache, tokens, logits: 0 });
        let positions: Vec<usize> = sequences.iter().flat_map(|tokens| 0..tokens.len()).collect();
        work(&mut feeds.collect::<Vec<_>>(), &positions)
    }
}
