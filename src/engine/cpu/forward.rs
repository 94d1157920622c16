//! The decoder's equations, over a batch of rows that belong to any number of sequences.

use super::attention::{QueryRow, attention};
use super::kv_cache::{BLOCK_TOKENS, KvCache};
use super::linear::{Linear, Matrix};
use super::load::{Block, Model, Positions};
use super::ops::{Rotations, add, each_row, relu, round, silu_gated};
use crate::model::Activation;

/// Consecutive tokens of one sequence, and for which of them logits are computed.
pub(crate) struct SequenceInput<'a> {
    /// The blocks of its keys and values, in the order of positions.
    pub(crate) blocks: &'a [u32],
    /// Of the first token.
    pub(crate) position: usize,
    /// At least one.
    pub(crate) tokens: &'a [u32],
    /// Logits are computed at this many last tokens.
    pub(crate) logits: usize,
}

impl SequenceInput<'_> {
    fn positions(&self) -> std::ops::Range<usize> {
        self.position..self.position + self.tokens.len()
    }
}

impl Model {
    /// Computes tokens of any number of sequences at once. Returns logits `[Σ input.logits, vocabulary]`, input by input.
    pub(crate) fn forward(&self, inputs: &[SequenceInput<'_>], cache: &mut KvCache) -> Matrix {
        self.logits(&self.states(inputs, cache), &logits_rows(inputs))
    }

    /// The hidden states of all rows behind the last layer, `[rows, hidden]`. The keys and values of all rows of a layer are stored before any
    /// are read, so that an input may continue what another begins.
    pub(crate) fn states(&self, inputs: &[SequenceInput<'_>], cache: &mut KvCache) -> Matrix {
        let positions: Vec<usize> = inputs.iter().flat_map(SequenceInput::positions).collect();
        let rotations = self.rotations(&positions);
        let mut x = self.embed(inputs, &positions); // (rows, hidden)
        for (layer, block) in self.blocks.iter().enumerate() {
            self.through_block(block, &mut x, inputs, (cache, layer), rotations.as_ref());
        }
        x
    }

    /// Takes the residual stream x `[rows, hidden]` through one block, whose keys and values lie in the cache's layer.
    pub(super) fn through_block(
        &self,
        block: &Block,
        x: &mut Matrix,
        inputs: &[SequenceInput<'_>],
        cache: (&mut KvCache, usize),
        rotations: Option<&Rotations>,
    ) {
        let h = block.attention_norm.forward(x, self.arithmetic);
        let h = self.attend(&block.qkv, &h, inputs, cache, rotations);
        self.add_projection(x, &block.output, &h);
        let h = block.mlp_norm.forward(x, self.arithmetic);
        let h = self.activate(block.up.forward(&h));
        self.add_projection(x, &block.down, &h);
    }

    /// The `RoPE` rotations of rows at these positions, where positions are rotary.
    pub(super) fn rotations(&self, positions: &[usize]) -> Option<Rotations> {
        match &self.positions {
            Positions::Rotary(rotary) => Some(Rotations::new(rotary, positions)),
            Positions::Learned { .. } => None,
        }
    }

    /// The embeddings of the tokens, with learned positions added: `[rows, hidden]`.
    pub(super) fn embed(&self, inputs: &[SequenceInput<'_>], positions: &[usize]) -> Matrix {
        let hidden = self.config.hidden;
        let tokens: Vec<u32> = inputs.iter().flat_map(|input| input.tokens).copied().collect();
        let mut x = Matrix::zeros(tokens.len(), hidden);
        each_row(&mut x, self.arithmetic, |row, x| {
            let mut scratch = Vec::new();
            x.copy_from_slice(self.embedding.weights.rows(tokens[row] as usize, 1, hidden, &mut scratch));
            if let Positions::Learned { table, offset } = &self.positions {
                let position = table.rows(positions[row] + offset, 1, hidden, &mut scratch);
                x.iter_mut().zip(position).for_each(|(x, position)| *x += position);
            }
        });
        x
    }

    /// Attention up to its output projection: h `[rows, hidden]` → `[rows, heads · head_dim]`. The rows' keys and values are stored
    /// in the layer's cache.
    pub(super) fn attend(
        &self,
        qkv: &Linear,
        h: &Matrix,
        inputs: &[SequenceInput<'_>],
        (cache, layer): (&mut KvCache, usize),
        rotations: Option<&Rotations>,
    ) -> Matrix {
        let qkv = self.qkv(qkv, h, rotations);
        store(inputs, (cache, layer), &qkv, self.config.heads * self.config.head_dim);
        attention(&qkv, cache.layer(layer), &query_rows(inputs), &self.config, self.arithmetic)
    }

    /// q, k and v of every row, rotated and rounded: `[rows, (heads + 2 · kv_heads) · head_dim]`.
    fn qkv(&self, qkv: &Linear, h: &Matrix, rotations: Option<&Rotations>) -> Matrix {
        let mut qkv = qkv.forward(h);
        let rotated = (self.config.heads + self.config.kv_heads) * self.config.head_dim;
        each_row(&mut qkv, self.arithmetic, |row, qkv| {
            if let Some(rotations) = rotations {
                round(qkv, self.arithmetic);
                rotations.apply(row, &mut qkv[..rotated]);
            }
        });
        qkv
    }

    /// The MLP's non-linearity, on the outputs of a block's `up`, rounded: `[rows, intermediate]`.
    pub(super) fn activate(&self, h: Matrix) -> Matrix {
        match self.config.activation {
            Activation::SiluGated => silu_gated(&h, self.arithmetic),
            Activation::Relu => relu(h, self.arithmetic),
        }
    }

    /// x + round(projection · h), rounded.
    fn add_projection(&self, x: &mut Matrix, projection: &Linear, h: &Matrix) {
        let mut y = projection.forward(h);
        each_row(&mut y, self.arithmetic, |_, _| ());
        add(x, &y, self.arithmetic);
    }

    /// Logits of some rows, in binary32 and not rounded: `[rows.len(), vocabulary]`.
    pub(crate) fn logits(&self, x: &Matrix, rows: &[usize]) -> Matrix {
        let mut last = Matrix::zeros(rows.len(), x.columns);
        for (y, row) in last.values.chunks_mut(x.columns).zip(rows) {
            y.copy_from_slice(x.row(*row));
        }
        if rows.is_empty() {
            return last;
        }
        let h = self.final_norm.forward(&last, self.arithmetic);
        self.head.as_ref().unwrap_or(&self.embedding).forward(&h)
    }
}

/// Stores the keys and values of all rows; they stand behind the `query` elements of each.
fn store(inputs: &[SequenceInput<'_>], (cache, layer): (&mut KvCache, usize), qkv: &Matrix, query: usize) {
    for (index, row) in query_rows(inputs).into_iter().enumerate() {
        let (keys, values) = qkv.row(index)[query..].split_at((qkv.columns - query) / 2);
        cache.write(layer, row.blocks[row.position / BLOCK_TOKENS], row.position, keys, values);
    }
}

fn query_rows<'a>(inputs: &'a [SequenceInput<'_>]) -> Vec<QueryRow<'a>> {
    let rows = |input: &'a SequenceInput<'_>| {
        input.positions().map(move |position| QueryRow { blocks: input.blocks, position })
    };
    inputs.iter().flat_map(rows).collect()
}

/// Numbers of the rows at which logits are computed.
fn logits_rows(inputs: &[SequenceInput<'_>]) -> Vec<usize> {
    let mut end = 0;
    let mut rows = Vec::new();
    for input in inputs {
        end += input.tokens.len();
        rows.extend(end - input.logits..end);
    }
    rows
}
