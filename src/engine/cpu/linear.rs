//! Matrix products with weights in any precision: y = x · Wᵀ + b.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::quantized::{Int4Weights, Int8Weights};
use super::simd::{Kernel, Lanes, dots, vectorize};
use super::widened::{self, WEIGHT_ROWS};
use crate::Arithmetic;

/// A row-major matrix of activations. Values are binary32, already rounded to the run's precision.
#[derive(Debug, Clone, Default)]
pub struct Matrix {
    /// Elements in a row.
    pub columns: usize,
    /// rows · columns elements.
    pub values: Vec<f32>,
}

impl Matrix {
    /// All zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { columns, values: vec![0.0; rows * columns] }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..(index + 1) * self.columns]
    }
}

/// Row-major weights, held in the precision they run in.
#[derive(Debug)]
pub enum Weights {
    /// binary32.
    F32(Vec<f32>),
    /// binary16.
    F16(Vec<f16>),
    /// bfloat16.
    Bf16(Vec<bf16>),
    /// A scale a row.
    Int8(Int8Weights),
    /// A scale and a zero point a group.
    Int4(Int4Weights),
}

impl Weights {
    /// Rounds binary32 values to nearest, ties to even.
    pub(crate) fn new(values: Vec<f32>, arithmetic: Arithmetic) -> Self {
        match arithmetic {
            Arithmetic::F32 => Self::F32(values),
            Arithmetic::F16 => {
                let mut rounded = vec![f16::ZERO; values.len()];
                rounded.convert_from_f32_slice(&values);
                Self::F16(rounded)
            }
            Arithmetic::Bf16 => {
                let mut rounded = vec![bf16::ZERO; values.len()];
                rounded.convert_from_f32_slice(&values);
                Self::Bf16(rounded)
            }
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(values.as_slice()),
            Self::F16(values) => size_of_val(values.as_slice()),
            Self::Bf16(values) => size_of_val(values.as_slice()),
            Self::Int8(weights) => weights.bytes(),
            Self::Int4(weights) => weights.bytes(),
        }
    }

    /// `count` rows of `columns` elements from the row `first` on as binary32: borrowed, or widened into `scratch`.
    pub(crate) fn rows<'a>(
        &'a self,
        first: usize,
        count: usize,
        columns: usize,
        scratch: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        let (start, length) = (first * columns, count * columns);
        scratch.resize(length, 0.0);
        match self {
            Self::F32(values) => return &values[start..start + length],
            Self::F16(values) => values[start..start + length].convert_to_f32_slice(scratch),
            Self::Bf16(values) => values[start..start + length].convert_to_f32_slice(scratch),
            Self::Int8(weights) => weights.unpack(first, scratch),
            Self::Int4(weights) => weights.unpack(first, scratch),
        }
        scratch
    }
}

/// A linear layer.
#[derive(Debug)]
pub struct Linear {
    /// Outputs.
    pub outputs: usize,
    /// Inputs.
    pub inputs: usize,
    /// `[outputs, inputs]`.
    pub weights: Weights,
    /// `[outputs]`.
    pub bias: Option<Vec<f32>>,
}

impl Linear {
    /// A layer that is not there.
    pub(crate) fn empty() -> Self {
        Self { outputs: 0, inputs: 0, weights: Weights::F32(Vec::new()), bias: None }
    }
}

/// Rows of x for which weights of fewer bits are widened in registers: with more, writing them to memory pays.
const WIDENED_ROWS: usize = 4;

/// Multiply-adds below which a product is not worth a second thread.
const PARALLEL_WORK: usize = 1 << 16;

impl Linear {
    /// x `[rows, inputs]` → `[rows, outputs]`, summed in binary32 and not yet rounded. Each output depends on its own row of
    /// x and of W alone, bit for bit, whatever else is in the batch.
    pub fn forward(&self, x: &Matrix) -> Matrix {
        debug_assert_eq!(x.columns, self.inputs);
        let rows = x.rows();
        // One thread owns a few outputs of every row, so the product is written transposed: (outputs, rows).
        let mut transposed = vec![0.0; self.outputs * rows];
        let block = |first: usize, out: &mut [f32]| vectorize(Block { linear: self, x, first, out });
        if self.outputs * self.inputs * rows < PARALLEL_WORK {
            block(0, &mut transposed);
        } else {
            let outputs = self.outputs.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(WEIGHT_ROWS);
            let chunks = transposed.par_chunks_mut(outputs * rows).enumerate();
            chunks.for_each(|(index, out)| block(index * outputs, out));
        }
        if rows == 1 {
            return Matrix { columns: self.outputs, values: transposed };
        }
        let mut y = Matrix::zeros(rows, self.outputs);
        y.values.par_chunks_mut(self.outputs).enumerate().with_min_len(16).for_each(|(row, y)| {
            for (output, y) in y.iter_mut().enumerate() {
                *y = transposed[output * rows + row];
            }
        });
        y
    }
}

/// The outputs from `first` on, as many as `out` has room for: out `(outputs, rows)`.
struct Block<'a> {
    linear: &'a Linear,
    x: &'a Matrix,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for Block<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { linear, x, first, out } = self;
        let (inputs, rows) = (linear.inputs, x.rows());
        let mut scratch = Vec::new();
        let mut first = first;
        for out in out.chunks_mut(WEIGHT_ROWS * rows) {
            let count = out.len() / rows;
            if count < WEIGHT_ROWS || !widened_rows::<L>(&linear.weights, (first, inputs), x, &mut scratch, out) {
                written_rows::<L>(linear.weights.rows(first, count, inputs, &mut scratch), x, out);
            }
            add_bias(linear.bias.as_deref(), first, rows, out);
            first += count;
        }
    }
}

/// Every row of x with up to four rows of weights in binary32: out `(weight rows, rows)`.
#[inline(always)]
fn written_rows<L: Lanes>(weights: &[f32], x: &Matrix, out: &mut [f32]) {
    let (inputs, rows) = (x.columns, x.rows());
    if out.len() == WEIGHT_ROWS * rows {
        let mut w: [&[f32]; WEIGHT_ROWS] = [&[]; WEIGHT_ROWS];
        for j in 0..WEIGHT_ROWS {
            w[j] = &weights[j * inputs..(j + 1) * inputs];
        }
        all_rows::<L>(x, w, out);
        return;
    }
    for (weights, out) in weights.chunks(inputs).zip(out.chunks_mut(rows)) {
        for (row, out) in out.iter_mut().enumerate() {
            [[*out]] = dots::<L, 1, 1>([x.row(row)], [weights]);
        }
    }
}

#[inline(always)]
fn add_bias(bias: Option<&[f32]>, first: usize, rows: usize, out: &mut [f32]) {
    let Some(bias) = bias else { return };
    for (out, bias) in out.chunks_mut(rows).zip(&bias[first..]) {
        for out in out {
            *out += bias;
        }
    }
}

/// Few rows of x with the four rows of weights from `first` on, widened in registers: out `(4, rows)`. False where nothing was done.
#[inline(always)]
fn widened_rows<L: Lanes>(
    weights: &Weights,
    (first, inputs): (usize, usize),
    x: &Matrix,
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) -> bool {
    let rows = x.rows();
    // Without so many registers one row at a time.
    if rows > if L::WIDE { WIDENED_ROWS } else { 1 } {
        return false;
    }
    match weights {
        Weights::F32(_) => return false,
        Weights::F16(values) => of_rows::<L, _>(x, &values[first * inputs..], None, out),
        Weights::Bf16(values) => of_rows::<L, _>(x, &values[first * inputs..], None, out),
        Weights::Int8(weights) => {
            let (codes, scales) = weights.rows(first);
            of_rows::<L, _>(x, codes, scales.first_chunk().copied(), out);
        }
        Weights::Int4(weights) => {
            let Some((w, blocks)) = weights.whole_blocks(first, scratch) else { return false };
            match rows {
                1 => put(widened::int4_dots::<L, 1>(of(x), w, blocks), out),
                2 => put(widened::int4_dots::<L, 2>(of(x), w, blocks), out),
                3 => put(widened::int4_dots::<L, 3>(of(x), w, blocks), out),
                _ => put(widened::int4_dots::<L, 4>(of(x), w, blocks), out),
            }
        }
    }
    true
}

/// The same of weights `[4, inputs]` of one type, each row's times its scale.
#[inline(always)]
fn of_rows<L: Lanes, N: widened::Narrow>(
    x: &Matrix,
    weights: &[N],
    scales: Option<[f32; WEIGHT_ROWS]>,
    out: &mut [f32],
) {
    let mut w: [&[N]; WEIGHT_ROWS] = [&[]; WEIGHT_ROWS];
    for j in 0..WEIGHT_ROWS {
        w[j] = &weights[j * x.columns..(j + 1) * x.columns];
    }
    match x.rows() {
        1 => put(widened::dots::<L, N, 1>(of(x), w, scales), out),
        2 => put(widened::dots::<L, N, 2>(of(x), w, scales), out),
        3 => put(widened::dots::<L, N, 3>(of(x), w, scales), out),
        _ => put(widened::dots::<L, N, 4>(of(x), w, scales), out),
    }
}

/// All rows.
#[inline(always)]
fn of<const M: usize>(x: &Matrix) -> [&[f32]; M] {
    let mut rows: [&[f32]; M] = [&[]; M];
    for (i, row) in rows.iter_mut().enumerate() {
        *row = x.row(i);
    }
    rows
}

#[inline(always)]
fn put<const M: usize>(sums: [[f32; WEIGHT_ROWS]; M], out: &mut [f32]) {
    for i in 0..M {
        for j in 0..WEIGHT_ROWS {
            out[j * M + i] = sums[i][j];
        }
    }
}

/// Every row of x with four rows of weights: out `(4, rows)`.
#[inline(always)]
fn all_rows<L: Lanes>(x: &Matrix, w: [&[f32]; WEIGHT_ROWS], out: &mut [f32]) {
    let rows = x.rows();
    let mut row = 0;
    if L::WIDE {
        while row + 4 <= rows {
            let sums = dots::<L, 4, 4>([x.row(row), x.row(row + 1), x.row(row + 2), x.row(row + 3)], w);
            for (i, sums) in sums.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    out[j * rows + row + i] = *sum;
                }
            }
            row += 4;
        }
    }
    while row + 2 <= rows {
        for j in [0, 2] {
            let sums = dots::<L, 2, 2>([x.row(row), x.row(row + 1)], [w[j], w[j + 1]]);
            for (i, sums) in sums.iter().enumerate() {
                out[j * rows + row + i] = sums[0];
                out[(j + 1) * rows + row + i] = sums[1];
            }
        }
        row += 2;
    }
    if row < rows {
        let [sums] = dots::<L, 1, 4>([x.row(row)], w);
        for (j, sum) in sums.iter().enumerate() {
            out[j * rows + row] = *sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::quantized::tests::floats;
    use super::super::simd::{InstructionSet, vectorize_for};
    use super::*;
    use crate::model::AwqTensor;

    fn int4(outputs: usize, groups: usize, group_size: usize, seed: u64) -> Weights {
        let codes = |count: usize, seed: u64| -> Vec<u8> {
            floats(count, seed).iter().map(|x| ((x + 1.0) * 7.99) as u8).collect()
        };
        let (q, zeros) = (codes(outputs * groups * group_size, seed), codes(outputs * groups, seed ^ 1));
        let scales: Vec<f16> =
            floats(outputs * groups, seed ^ 2).into_iter().map(|x| f16::from_f32(x.abs() + 1e-3)).collect();
        let tensor = AwqTensor::pack(outputs, groups * group_size, group_size, &q, &zeros, &scales).unwrap();
        Weights::Int4(Int4Weights::stack(vec![tensor]))
    }

    proptest! {
        /// Weights of every type give the bits that binary32 weights of their values give: rows few and more, outputs and inputs that fill
        /// nothing, on every instruction set.
        #[test]
        fn weights_widened_in_registers_give_the_bits_of_their_values(
            words in 1_usize..3, less in 0_usize..4, inputs in 1_usize..150, rows in 1_usize..7, seed in any::<u64>(), kind in 0..5
        ) {
            let (outputs, inputs) = match kind {
                3 => (8 * words, inputs.div_ceil(64) * 64),
                4 => (8 * words, inputs.div_ceil(32) * 32),
                _ => (8 * words - less, inputs),
            };
            let values = floats(outputs * inputs, seed);
            let weights = match kind {
                0 => Weights::new(values, Arithmetic::F16),
                1 => Weights::new(values, Arithmetic::Bf16),
                2 => Weights::Int8(Int8Weights::new(&values, inputs)),
                3 => int4(outputs, inputs / 64, 64, seed),
                _ => int4(outputs, 1, inputs, seed),
            };
            let mut scratch = Vec::new();
            let dense = Weights::F32(weights.rows(0, outputs, inputs, &mut scratch).to_vec());
            let bias = Some(floats(outputs, seed ^ 5));
            let x = Matrix { columns: inputs, values: floats(rows * inputs, seed ^ 3) };
            let results: Vec<Vec<u32>> = [weights, dense]
                .into_iter()
                .flat_map(|weights| {
                    let linear = Linear { outputs, inputs, weights, bias: bias.clone() };
                    [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512].map(|set| {
                        let mut out = vec![f32::NAN; outputs * rows];
                        vectorize_for(set, Block { linear: &linear, x: &x, first: 0, out: &mut out });
                        out.into_iter().map(f32::to_bits).collect()
                    })
                })
                .collect();
            for result in &results[1..] {
                prop_assert_eq!(result, &results[0]);
            }
        }
    }
}
