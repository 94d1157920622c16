//! Attention over a sequence's keys and values, one query row and head at a time.

use rayon::prelude::*;

use super::kv_cache::{BLOCK_TOKENS, LayerCache};
use super::linear::Matrix;
use super::ops::{capped, round};
use super::simd::{Kernel, Lanes, dot, dots, exp, sum, vectorize};
use crate::Arithmetic;
use crate::model::{LayerKind, ModelConfig};

/// A query row: which blocks hold its sequence's keys and values, and which position it stands at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryRow<'a> {
    pub(crate) blocks: &'a [u32],
    pub(crate) position: usize,
}

/// softmax(q · Kᵀ · scale) · V for every row of q `[rows, heads · head_dim]`, causal, within the layer's sliding window; rounded. Where
/// heads have `sinks`, one score more takes a part of the softmax.
/// `qkv` rows may be longer than q: only their first `heads · head_dim` elements are read.
pub(crate) fn attention(
    qkv: &Matrix,
    cache: LayerCache<'_>,
    rows: &[QueryRow<'_>],
    (config, kind, sinks): (&ModelConfig, LayerKind, Option<&[f32]>),
    arithmetic: Arithmetic,
) -> Matrix {
    let (heads, head_dim) = (config.heads, config.head_dim);
    let (window, scale) = (config.sliding_window.filter(|_| kind.windowed), config.attention_scale());
    let cap = config.features.attention_cap.map(|cap| cap as f32);
    let mut y = Matrix::zeros(rows.len(), heads * head_dim);
    let positions: usize = rows.iter().map(|row| row.position + 1).sum();
    // A head of a short sequence is not worth handing to another thread.
    let least = (4096 * rows.len() / positions.max(1)).max(1);
    y.values.par_chunks_mut(head_dim).enumerate().with_min_len(least).for_each(|(index, out)| {
        let (row, head) = (index / heads, index % heads);
        let query = &qkv.row(row)[head * head_dim..(head + 1) * head_dim];
        let kv_head = head / (heads / config.kv_heads);
        let start = window.map_or(0, |window| (rows[row].position + 1).saturating_sub(window));
        vectorize(Head {
            query,
            cache,
            blocks: rows[row].blocks,
            offset: kv_head * head_dim,
            positions: start..rows[row].position + 1,
            scale,
            cap,
            sink: sinks.map(|sinks| sinks[head]),
            out,
        });
        round(out, arithmetic);
    });
    y
}

struct Head<'a> {
    query: &'a [f32],
    cache: LayerCache<'a>,
    blocks: &'a [u32],
    /// Of this head in a row of the cache.
    offset: usize,
    positions: std::ops::Range<usize>,
    scale: f32,
    /// Of the scores, softly.
    cap: Option<f32>,
    /// A score that stands for no token.
    sink: Option<f32>,
    out: &'a mut [f32],
}

impl Kernel for Head<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { query, cache, blocks, offset, positions, scale, cap, sink, out } = self;
        let (head_dim, stride) = (query.len(), cache.row_elements);
        let count = positions.len();
        let mut weights = vec![0.0; count];
        let mut position = positions.start;
        while position < positions.end {
            let end = ((position / BLOCK_TOKENS + 1) * BLOCK_TOKENS).min(positions.end);
            let keys = cache.keys(blocks[position / BLOCK_TOKENS]);
            let key = |position: usize| {
                let start = position % BLOCK_TOKENS * stride + offset;
                &keys[start..start + head_dim]
            };
            // A dot product has the same bits alone and among four.
            while position + 4 <= end {
                let four = [key(position), key(position + 1), key(position + 2), key(position + 3)];
                let index = position - positions.start;
                [*weights[index..].first_chunk_mut().expect("four are left")] = dots::<L, 1, 4>([query], four);
                position += 4;
            }
            while position < end {
                weights[position - positions.start] = dot::<L>(query, key(position));
                position += 1;
            }
        }
        let mut highest = f32::NEG_INFINITY;
        for weight in &mut weights {
            *weight *= scale;
            if let Some(cap) = cap {
                *weight = capped(*weight, cap);
            }
            highest = highest.max(*weight);
        }
        highest = highest.max(sink.unwrap_or(f32::NEG_INFINITY));
        for weight in &mut weights {
            *weight = exp(*weight - highest);
        }
        let inverse = 1.0 / (sum::<L>(&weights) + sink.map_or(0.0, |sink| exp(sink - highest)));
        out.fill(0.0);
        let mut position = positions.start;
        while position < positions.end {
            let end = ((position / BLOCK_TOKENS + 1) * BLOCK_TOKENS).min(positions.end);
            let values = cache.values(blocks[position / BLOCK_TOKENS]);
            while position < end {
                let probability = weights[position - positions.start] * inverse;
                let start = position % BLOCK_TOKENS * stride + offset;
                for (out, value) in out.iter_mut().zip(&values[start..start + head_dim]) {
                    *out = probability.mul_add(*value, *out);
                }
                position += 1;
            }
        }
    }
}
