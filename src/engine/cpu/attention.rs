//! Attention over a sequence's cache, one query row and head at a time.

use rayon::prelude::*;

use super::linear::Matrix;
use super::ops::round;
use super::simd::{Kernel, Lanes, dot, dots, exp, sum, vectorize};
use crate::engine::Arithmetic;
use crate::engine::model::ModelConfig;

/// Keys and values of one layer of one sequence, each `[positions, kv_heads · head_dim]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct LayerCache {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}

/// A query row: where its sequence's cache is and which position it stands at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryRow<'a> {
    pub(crate) cache: &'a LayerCache,
    pub(crate) position: usize,
}

/// softmax(q · Kᵀ / √d) · V for every row of q `[rows, heads · head_dim]`, causal, within the sliding window; rounded.
/// `qkv` rows may be longer than q: only their first `heads · head_dim` elements are read.
pub(crate) fn attention(qkv: &Matrix, rows: &[QueryRow<'_>], config: &ModelConfig, arithmetic: Arithmetic) -> Matrix {
    let (heads, head_dim) = (config.heads, config.head_dim);
    let mut y = Matrix::zeros(rows.len(), heads * head_dim);
    let positions: usize = rows.iter().map(|row| row.position + 1).sum();
    // A head of a short sequence is not worth handing to another thread.
    let least = (4096 * rows.len() / positions.max(1)).max(1);
    y.values.par_chunks_mut(head_dim).enumerate().with_min_len(least).for_each(|(index, out)| {
        let (row, head) = (index / heads, index % heads);
        let query = &qkv.row(row)[head * head_dim..(head + 1) * head_dim];
        let kv_head = head / (heads / config.kv_heads);
        let start = config.sliding_window.map_or(0, |window| (rows[row].position + 1).saturating_sub(window));
        vectorize(Head {
            query,
            cache: rows[row].cache,
            offset: kv_head * head_dim,
            stride: config.kv_heads * head_dim,
            positions: start..rows[row].position + 1,
            out,
        });
        round(out, arithmetic);
    });
    y
}

struct Head<'a> {
    query: &'a [f32],
    cache: &'a LayerCache,
    /// Of this head in a cache row.
    offset: usize,
    /// Length of a cache row.
    stride: usize,
    positions: std::ops::Range<usize>,
    out: &'a mut [f32],
}

impl Kernel for Head<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { query, cache, offset, stride, positions, out } = self;
        let head_dim = query.len();
        let scale = 1.0 / (head_dim as f32).sqrt();
        let key = |position: usize| &cache.keys[position * stride + offset..position * stride + offset + head_dim];
        let count = positions.len();
        let mut weights = vec![0.0; count];
        let mut index = 0;
        while index + 4 <= count {
            let at = positions.start + index;
            let keys = [key(at), key(at + 1), key(at + 2), key(at + 3)];
            [*weights[index..].first_chunk_mut().expect("four are left")] = dots::<L, 1, 4>([query], keys);
            index += 4;
        }
        while index < count {
            weights[index] = dot::<L>(query, key(positions.start + index));
            index += 1;
        }
        let mut highest = f32::NEG_INFINITY;
        for weight in &mut weights {
            *weight *= scale;
            highest = highest.max(*weight);
        }
        for weight in &mut weights {
            *weight = exp(*weight - highest);
        }
        let inverse = 1.0 / sum::<L>(&weights);
        out.fill(0.0);
        for (index, weight) in weights.iter().enumerate() {
            let start = (positions.start + index) * stride + offset;
            let probability = weight * inverse;
            for (out, value) in out.iter_mut().zip(&cache.values[start..start + head_dim]) {
                *out = probability.mul_add(*value, *out);
            }
        }
    }
}
