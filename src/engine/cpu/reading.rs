//! Texts on their way through the layers. All rows go through a layer before any goes through the next, so that keys and values of one layer
//! are held at a time, and whoever looks at a layer finds what every row brings to it.

use std::ops::Range;

use super::forward::{SequenceInput, StepRotations};
use super::kv_cache::{BLOCK_TOKENS, KvCache};
use super::linear::Matrix;
use super::load::Model;
use crate::Text;

/// Rows that go through a layer at a time: enough to keep the kernels busy, few enough to stay in the processor's cache.
const CHUNK_ROWS: usize = 256;

/// Texts, computed up to a layer.
pub(super) struct Reading {
    texts: Vec<ReadText>,
    /// The residual stream before [`Reading::layer`], `[rows, hidden]`: of each text the rows that it computes, one text after the other.
    x: Matrix,
    /// Layers that all rows have gone through.
    layer: usize,
    /// Of the rows of each chunk: the same in every layer.
    rotations: Vec<Option<StepRotations>>,
}

/// A text, without the beginning that it shares with the one before it.
struct ReadText {
    /// Of the rows that are computed; the last token of a text predicts nothing that is in it.
    tokens: Vec<u32>,
    /// Of the first of them; whole blocks of the text before it come before.
    position: usize,
    /// The blocks of its keys and values.
    blocks: Vec<u32>,
    /// Its first row among all.
    first_row: usize,
    /// Its rows, among all, whose states are wanted.
    wanted: Range<usize>,
}

impl Reading {
    /// Embeds texts. A beginning that a text has in common with the one before it is computed once.
    pub(super) fn new(model: &Model, texts: &[Text]) -> Self {
        let (mut all, mut next_block, mut rows): (Vec<ReadText>, u32, usize) = (Vec::new(), 0, 0);
        for (index, text) in texts.iter().enumerate() {
            let count = text.tokens.len() - 1;
            let before = index.checked_sub(1).map_or(&[][..], |before| texts[before].tokens);
            let same = text.tokens[..count].iter().zip(before).take_while(|(a, b)| a == b).count();
            // The token before the first that is predicted must have a row.
            let same = same.min(text.from - 1).min(before.len().saturating_sub(1));
            let shared_blocks = same / BLOCK_TOKENS;
            let position = shared_blocks * BLOCK_TOKENS;
            let own_blocks = (count.div_ceil(BLOCK_TOKENS) - shared_blocks) as u32;
            let mut blocks = all.last().map_or_else(Vec::new, |before| before.blocks[..shared_blocks].to_vec());
            blocks.extend(next_block..next_block + own_blocks);
            next_block += own_blocks;
            let tokens = text.tokens[position..count].to_vec();
            let wanted = rows + text.from - 1 - position..rows + tokens.len();
            let first_row = rows;
            rows += tokens.len();
            all.push(ReadText { tokens, position, blocks, first_row, wanted });
        }
        let mut reading = Self { texts: all, x: Matrix::default(), layer: 0, rotations: Vec::new() };
        let (mut x, mut rotations) = (Matrix::zeros(rows, model.config.hidden), Vec::new());
        reading.chunks(&mut x, |_, inputs, chunk| {
            let positions: Vec<usize> = inputs.iter().flat_map(SequenceInput::positions).collect();
            *chunk = model.embed(inputs, &positions);
            rotations.push(model.rotations(&positions));
        });
        (reading.x, reading.rotations) = (x, rotations);
        reading
    }

    /// Layers that all rows have gone through.
    pub(super) fn layer(&self) -> usize {
        self.layer
    }

    /// Takes all rows through the next layer, if there is one more.
    pub(super) fn advance(&mut self, model: &Model) {
        if self.layer == model.blocks.len() {
            return;
        }
        let mut x = std::mem::take(&mut self.x);
        self.through(model, self.layer..self.layer + 1, &mut x);
        self.x = x;
        self.layer += 1;
    }

    /// The residual stream of the rows that predict what is wanted, `[rows, hidden]`.
    pub(super) fn states(&self) -> Matrix {
        self.wanted(&self.x)
    }

    /// The same behind the last layer. This reading stays where it is.
    pub(super) fn last_states(&self, model: &Model) -> Matrix {
        let mut x = self.x.clone();
        self.through(model, self.layer..model.blocks.len(), &mut x);
        self.wanted(&x)
    }

    fn wanted(&self, x: &Matrix) -> Matrix {
        let rows = self.texts.iter().flat_map(|text| text.wanted.clone());
        Matrix { columns: x.columns, values: rows.flat_map(|row| x.row(row)).copied().collect() }
    }

    fn through(&self, model: &Model, layers: Range<usize>, x: &mut Matrix) {
        // For every layer in turn: each writes a position's keys and values before it reads them.
        let mut cache = KvCache::of_layers(1, &model.config);
        for block in &model.blocks[layers] {
            self.chunks(x, |chunk, inputs, x| {
                model.through_block(block, x, inputs, (&mut cache, 0), self.rotations[chunk].as_ref());
            });
        }
    }

    /// Gives `work` some rows at a time, in order: the number of the chunk, whose they are, and the rows.
    fn chunks(&self, x: &mut Matrix, mut work: impl FnMut(usize, &[SequenceInput<'_>], &mut Matrix)) {
        let columns = x.columns;
        for (number, first) in (0..x.rows()).step_by(CHUNK_ROWS).enumerate() {
            let end = x.rows().min(first + CHUNK_ROWS);
            let inputs = self.texts.iter().filter_map(|text| text.input(first..end));
            let inputs: Vec<SequenceInput<'_>> = inputs.collect();
            let rows = &mut x.values[first * columns..end * columns];
            let mut chunk = Matrix { columns, values: rows.to_vec() };
            work(number, &inputs, &mut chunk);
            rows.copy_from_slice(&chunk.values);
        }
    }
}

impl ReadText {
    /// What of it lies in `rows`.
    fn input(&self, rows: Range<usize>) -> Option<SequenceInput<'_>> {
        let start = rows.start.max(self.first_row);
        let end = rows.end.min(self.first_row + self.tokens.len());
        if start >= end {
            return None;
        }
        let tokens = &self.tokens[start - self.first_row..end - self.first_row];
        Some(SequenceInput {
            blocks: &self.blocks,
            position: self.position + start - self.first_row,
            tokens,
            logits: 0,
        })
    }
}
