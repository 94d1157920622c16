//! The decoder's equations block by block and in binary32, for those who look for other weights that compute nearly
//! the same.

use super::forward::SequenceInput;
use super::kv_cache::{BLOCK_TOKENS, KvCache};
use super::linear::{Linear, Matrix};
use super::load::{Block, Model};
use crate::model::ModelSource;
use crate::{EngineError, Precision};

/// A model without its blocks: what every block shares. Sequences are whole; each begins at position 0.
pub struct Calibration {
    model: Model,
}

impl Calibration {
    /// Reads what lies outside the blocks.
    pub fn open(source: &ModelSource) -> Result<Self, EngineError> {
        Ok(Self { model: Model::load_without_blocks(source, Precision::F32)? })
    }

    /// Reads one block.
    pub fn block(source: &ModelSource, layer: usize) -> Result<Block, EngineError> {
        Block::load(source, layer, Precision::F32)
    }

    /// What the first block reads: `[tokens, hidden]`, sequence after sequence.
    pub fn embed(&self, sequences: &[Vec<u32>]) -> Matrix {
        with_inputs(sequences, |inputs, positions| self.model.embed(inputs, positions))
    }

    /// Attention of a block up to its output projection, under these weights: h `[tokens, hidden]` → `[tokens, heads · head_dim]`.
    pub fn attend(&self, block: &Block, qkv: &Linear, h: &Matrix, sequences: &[Vec<u32>]) -> Matrix {
        // Of one layer at a time.
        let mut cache = KvCache::of_layers(1, &self.model.config);
        with_inputs(sequences, |inputs, positions| {
            let rotations = self.model.rotations(positions);
            self.model.attend((block, qkv), h, inputs, (&mut cache, 0), rotations.as_ref())
        })
    }

    /// The MLP's non-linearity, on the outputs of a block's `up`: `[tokens, intermediate]`.
    pub fn activate(&self, h: Matrix) -> Matrix {
        self.model.activate(h)
    }
}

/// Gives every sequence blocks of its own.
fn with_inputs(sequences: &[Vec<u32>], work: impl FnOnce(&[SequenceInput<'_>], &[usize]) -> Matrix) -> Matrix {
    let mut next = 0;
    let tables = sequences.iter().map(|tokens| {
        let first = next;
        next += tokens.len().div_ceil(BLOCK_TOKENS) as u32;
        (first..next).collect()
    });
    let tables: Vec<Vec<u32>> = tables.collect();
    let inputs = tables.iter().zip(sequences);
    let inputs = inputs.map(|(blocks, tokens)| SequenceInput { blocks, position: 0, tokens, logits: 0 });
    let positions: Vec<usize> = sequences.iter().flat_map(|tokens| 0..tokens.len()).collect();
    work(&inputs.collect::<Vec<_>>(), &positions)
}
