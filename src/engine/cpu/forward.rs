//! The decoder's equations, over a batch of rows that belong to any number of sequences.

use std::borrow::Cow;

use rayon::prelude::*;

use super::attention::{QueryRow, attention};
use super::kv_cache::{BLOCK_TOKENS, KvCache};
use super::linear::{Linear, Matrix};
use super::load::{Block, Model, Positions};
use super::ops::{Norm, Rotations, activate, add, capped, each_row, round};

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
    pub(super) fn positions(&self) -> std::ops::Range<usize> {
        self.position..self.position + self.tokens.len()
    }
}

/// The rotations of one step's rows.
pub(super) struct StepRotations {
    usual: Rotations,
    /// Those in windowed layers, where they are others.
    windowed: Option<Rotations>,
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
        rotations: Option<&StepRotations>,
    ) {
        let h = self.normed(block.attention_norm.as_ref(), x);
        let h = self.attend((block, &block.qkv), &h, inputs, cache, rotations);
        // Side by side, the MLP reads what attention read.
        let before = self.config.features.parallel_residual.then(|| x.clone());
        self.add_normed(x, block.output.forward(&h), block.attention_after.as_ref());
        let h = self.normed(block.mlp_norm.as_ref(), before.as_ref().unwrap_or(x));
        let y = match &block.experts {
            None => block.down.forward(&self.activate(block.up.forward(&h))),
            Some(experts) => experts.forward(&h, self.config.activation, self.arithmetic),
        };
        self.add_normed(x, y, block.mlp_after.as_ref());
    }

    fn normed<'a>(&self, norm: Option<&Norm>, x: &'a Matrix) -> Cow<'a, Matrix> {
        norm.map_or(Cow::Borrowed(x), |norm| Cow::Owned(norm.forward(x, self.arithmetic)))
    }

    /// The `RoPE` rotations of rows at these positions, where positions are rotary.
    pub(super) fn rotations(&self, positions: &[usize]) -> Option<StepRotations> {
        let Positions::Rotary { rotary, windowed } = &self.positions else { return None };
        let windowed = windowed.as_ref().map(|rotary| Rotations::new(rotary, positions));
        Some(StepRotations { usual: Rotations::new(rotary, positions), windowed })
    }

    /// The embeddings of the tokens, with learned positions added: `[rows, hidden]`.
    pub(super) fn embed(&self, inputs: &[SequenceInput<'_>], positions: &[usize]) -> Matrix {
        let hidden = self.config.hidden;
        let tokens: Vec<u32> = inputs.iter().flat_map(|input| input.tokens).copied().collect();
        let mut x = Matrix::zeros(tokens.len(), hidden);
        let scale = self.config.features.embedding_scale.map(|scale| {
            let mut scale = [scale as f32];
            round(&mut scale, self.arithmetic);
            scale[0]
        });
        each_row(&mut x, self.arithmetic, |row, x| {
            let mut scratch = Vec::new();
            x.copy_from_slice(self.embedding.weights.rows(tokens[row] as usize, 1, hidden, &mut scratch));
            if let Some(scale) = scale {
                for x in x.iter_mut() {
                    *x *= scale;
                }
            }
            if let Positions::Learned { table, offset } = &self.positions {
                let position = table.rows(positions[row] + offset, 1, hidden, &mut scratch);
                x.iter_mut().zip(position).for_each(|(x, position)| *x += position);
            }
        });
        x
    }

    /// Attention of a block, by these q, k and v projections, up to its output projection: h `[rows, hidden]` → `[rows, heads · head_dim]`. The rows' keys and values are stored
    /// in the layer's cache.
    pub(super) fn attend(
        &self,
        (block, qkv): (&Block, &Linear),
        h: &Matrix,
        inputs: &[SequenceInput<'_>],
        (cache, layer): (&mut KvCache, usize),
        rotations: Option<&StepRotations>,
    ) -> Matrix {
        let rotations = rotations.filter(|_| block.kind.rotated).map(|rotations| match &rotations.windowed {
            Some(windowed) if block.kind.windowed => windowed,
            _ => &rotations.usual,
        });
        let qkv = self.qkv(qkv, block.query_key_norms.as_ref(), h, rotations);
        store(inputs, (cache, layer), &qkv, self.config.heads * self.config.head_dim);
        let kind = (&self.config, block.kind, block.sinks.as_deref());
        attention(&qkv, cache.layer(layer), &query_rows(inputs), kind, self.arithmetic)
    }

    /// q, k and v of every row, normalised, rotated and rounded: `[rows, (heads + 2 · kv_heads) · head_dim]`.
    fn qkv(&self, qkv: &Linear, norms: Option<&[Norm; 2]>, h: &Matrix, rotations: Option<&Rotations>) -> Matrix {
        let mut qkv = qkv.forward(h);
        let head_dim = self.config.head_dim;
        let queries = self.config.heads * head_dim;
        let rotated = queries + self.config.kv_heads * head_dim;
        each_row(&mut qkv, self.arithmetic, |row, qkv| {
            if let Some([of_queries, of_keys]) = norms {
                round(qkv, self.arithmetic);
                let (queries, keys) = qkv[..rotated].split_at_mut(queries);
                queries.chunks_mut(of_queries.weight.len()).for_each(|head| of_queries.apply(head));
                keys.chunks_mut(of_keys.weight.len()).for_each(|head| of_keys.apply(head));
            }
            if let Some(rotations) = rotations {
                round(qkv, self.arithmetic);
                rotations.apply(row, &mut qkv[..rotated], head_dim);
            }
        });
        qkv
    }

    /// The MLP's non-linearity, on the outputs of a block's `up`, rounded: `[rows, intermediate]`.
    pub(super) fn activate(&self, h: Matrix) -> Matrix {
        activate(h, self.config.activation, self.arithmetic)
    }

    /// x + round(y), normalised and scaled where the model says so, rounded.
    fn add_normed(&self, x: &mut Matrix, mut y: Matrix, norm: Option<&Norm>) {
        let scale = self.config.features.residual_scale.map(|scale| scale as f32);
        each_row(&mut y, self.arithmetic, |_, y| {
            if let Some(norm) = norm {
                round(y, self.arithmetic);
                norm.apply(y);
            }
            if let Some(scale) = scale {
                round(y, self.arithmetic);
                for y in y.iter_mut() {
                    *y *= scale;
                }
            }
        });
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
        let mut logits = self.head.as_ref().unwrap_or(&self.embedding).forward(&h);
        let features = &self.config.features;
        if let Some(divisor) = features.logits_divisor {
            logits.values.par_iter_mut().for_each(|logit| *logit /= divisor as f32);
        }
        if let Some(cap) = features.logits_cap {
            logits.values.par_iter_mut().for_each(|logit| *logit = capped(*logit, cap as f32));
        }
        logits
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
