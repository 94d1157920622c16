//! Matrix products with weights in any precision: y = x · Wᵀ + b.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::quantized::{Int4Weights, Int8Weights};
use super::simd::{Kernel, Lanes, dots, vectorize};
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

/// Rows of weights that the kernel multiplies at a time.
const WEIGHT_ROWS: usize = 4;

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
            let weights = linear.weights.rows(first, count, inputs, &mut scratch);
            if count == WEIGHT_ROWS {
                let mut w: [&[f32]; WEIGHT_ROWS] = [&[]; WEIGHT_ROWS];
                for j in 0..WEIGHT_ROWS {
                    w[j] = &weights[j * inputs..(j + 1) * inputs];
                }
                all_rows::<L>(x, w, out);
            } else {
                for (weights, out) in weights.chunks(inputs).zip(out.chunks_mut(rows)) {
                    for (row, out) in out.iter_mut().enumerate() {
                        [[*out]] = dots::<L, 1, 1>([x.row(row)], [weights]);
                    }
                }
            }
            if let Some(bias) = &linear.bias {
                for (out, bias) in out.chunks_mut(rows).zip(&bias[first..]) {
                    for out in out {
                        *out += bias;
                    }
                }
            }
            first += count;
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
