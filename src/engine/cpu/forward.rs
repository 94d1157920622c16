//! The decoder's equations, over a batch of rows that belong to any number of sequences.

use super::attention::{LayerCache, QueryRow, attention};
use super::linear::{Linear, Matrix};
use super::load::{Model, Positions};
use super::ops::{Turns, add, each_row, relu, round, silu_gated};
use crate::engine::model::Activation;

/// The keys and values of one sequence: one [`LayerCache`] a block.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    layers: Vec<LayerCache>,
    /// Positions filled.
    pub(crate) length: usize,
}

impl Cache {
    /// An empty cache for `model`.
    pub(crate) fn new(model: &Model) -> Self {
        Self { layers: vec![LayerCache::default(); model.config.layers], length: 0 }
    }
}

/// Tokens to feed to one sequence, and which of them want logits.
pub(crate) struct Feed<'a> {
    /// The sequence's cache; it grows by the tokens.
    pub(crate) cache: &'a mut Cache,
    /// At least one.
    pub(crate) tokens: &'a [u32],
    /// Logits are computed behind this many last tokens.
    pub(crate) logits: usize,
}

impl Model {
    /// Feeds tokens to any number of sequences at once. Returns logits `[Σ feed.logits, vocabulary]`, feed by feed.
    pub(crate) fn forward(&self, feeds: &mut [Feed<'_>]) -> Matrix {
        let positions: Vec<usize> =
            feeds.iter().flat_map(|feed| feed.cache.length..feed.cache.length + feed.tokens.len()).collect();
        let turns = self.turns(&positions);
        let mut x = self.embed(feeds, &positions); // (rows, hidden)
        for (layer, block) in self.blocks.iter().enumerate() {
            let h = block.attention_norm.forward(&x, self.dtype);
            let h = self.attend(&block.qkv, &h, feeds, layer, turns.as_ref());
            self.add_projection(&mut x, &block.output, &h);
            let h = block.mlp_norm.forward(&x, self.dtype);
            let h = self.activate(block.up.forward(&h));
            self.add_projection(&mut x, &block.down, &h);
        }
        let wanted = wanted_rows(feeds);
        for feed in feeds {
            feed.cache.length += feed.tokens.len();
        }
        self.logits(&x, &wanted)
    }

    /// What turns the rows at these positions, where positions are rotary.
    pub(super) fn turns(&self, positions: &[usize]) -> Option<Turns> {
        match &self.positions {
            Positions::Rotary(rotary) => Some(Turns::new(rotary, positions)),
            Positions::Learned { .. } => None,
        }
    }

    /// The embeddings of the tokens fed, with learned positions added: `[rows, hidden]`.
    pub(super) fn embed(&self, feeds: &[Feed<'_>], positions: &[usize]) -> Matrix {
        let hidden = self.config.hidden;
        let tokens: Vec<u32> = feeds.iter().flat_map(|feed| feed.tokens).copied().collect();
        let mut x = Matrix::zeros(tokens.len(), hidden);
        each_row(&mut x, self.dtype, |row, x| {
            let mut scratch = Vec::new();
            x.copy_from_slice(self.embedding.weights.rows(tokens[row] as usize, 1, hidden, &mut scratch));
            if let Positions::Learned { table, offset } = &self.positions {
                let position = table.rows(positions[row] + offset, 1, hidden, &mut scratch);
                x.iter_mut().zip(position).for_each(|(x, position)| *x += position);
            }
        });
        x
    }

    /// Attention up to its output projection: h `[rows, hidden]` → `[rows, heads · head_dim]`. The layer's caches grow by
    /// the rows' keys and values.
    pub(super) fn attend(
        &self,
        qkv: &Linear,
        h: &Matrix,
        feeds: &mut [Feed<'_>],
        layer: usize,
        turns: Option<&Turns>,
    ) -> Matrix {
        let qkv = self.qkv(qkv, h, turns);
        extend_caches(feeds, layer, &qkv, self.config.heads * self.config.head_dim);
        attention(&qkv, &query_rows(feeds, layer), &self.config, self.dtype)
    }

    /// q, k and v of every row, rotated and rounded: `[rows, (heads + 2 · kv_heads) · head_dim]`.
    fn qkv(&self, qkv: &Linear, h: &Matrix, turns: Option<&Turns>) -> Matrix {
        let mut qkv = qkv.forward(h);
        let rotated = (self.config.heads + self.config.kv_heads) * self.config.head_dim;
        each_row(&mut qkv, self.dtype, |row, qkv| {
            if let Some(turns) = turns {
                round(qkv, self.dtype);
                turns.apply(row, &mut qkv[..rotated]);
            }
        });
        qkv
    }

    /// The MLP's non-linearity, on the outputs of a block's `up`, rounded: `[rows, intermediate]`.
    pub(super) fn activate(&self, h: Matrix) -> Matrix {
        match self.config.activation {
            Activation::SiluGated => silu_gated(&h, self.dtype),
            Activation::Relu => relu(h, self.dtype),
        }
    }

    /// x + round(projection · h), rounded.
    fn add_projection(&self, x: &mut Matrix, projection: &Linear, h: &Matrix) {
        let mut y = projection.forward(h);
        each_row(&mut y, self.dtype, |_, _| ());
        add(x, &y, self.dtype);
    }

    /// Logits of some rows, in binary32 and not rounded: `[rows.len(), vocabulary]`.
    fn logits(&self, x: &Matrix, rows: &[usize]) -> Matrix {
        let mut last = Matrix::zeros(rows.len(), x.columns);
        for (y, row) in last.values.chunks_mut(x.columns).zip(rows) {
            y.copy_from_slice(x.row(*row));
        }
        if rows.is_empty() {
            return last;
        }
        let h = self.final_norm.forward(&last, self.dtype);
        self.head.as_ref().unwrap_or(&self.embedding).forward(&h)
    }
}

/// Appends the new keys and values; they stand behind the `query` elements of each row.
fn extend_caches(feeds: &mut [Feed<'_>], layer: usize, qkv: &Matrix, query: usize) {
    let mut row = 0;
    for feed in feeds {
        let cache = &mut feed.cache.layers[layer];
        for _ in feed.tokens {
            let (keys, values) = qkv.row(row)[query..].split_at((qkv.columns - query) / 2);
            cache.keys.extend_from_slice(keys);
            cache.values.extend_from_slice(values);
            row += 1;
        }
    }
}

fn query_rows<'a>(feeds: &'a [Feed<'_>], layer: usize) -> Vec<QueryRow<'a>> {
    let rows = feeds.iter().flat_map(|feed| {
        let cache = &feed.cache.layers[layer];
        (feed.cache.length..feed.cache.length + feed.tokens.len()).map(move |position| QueryRow { cache, position })
    });
    rows.collect()
}

/// Numbers of the rows that want logits.
fn wanted_rows(feeds: &[Feed<'_>]) -> Vec<usize> {
    let mut end = 0;
    let mut wanted = Vec::new();
    for feed in feeds {
        end += feed.tokens.len();
        wanted.extend(end - feed.logits..end);
    }
    wanted
}
