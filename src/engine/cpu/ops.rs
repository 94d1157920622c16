//! What lies between the matrix products: norms, rotary embedding, activations, rounding.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::linear::Matrix;
use super::simd::{Kernel, Lanes, dot, exp, sum, vectorize};
use crate::Arithmetic;
use crate::model::{NormKind, Rotary};

/// Rows that one thread takes at a time in element-wise work.
const ROWS_A_TASK: usize = 16;

/// Rounds stored activations to the run's precision, to nearest, ties to even.
pub(crate) fn round(values: &mut [f32], arithmetic: Arithmetic) {
    const CHUNK: usize = 256;
    for chunk in values.chunks_mut(CHUNK) {
        let length = chunk.len();
        match arithmetic {
            Arithmetic::F32 => return,
            Arithmetic::F16 => {
                let mut rounded = [f16::ZERO; CHUNK];
                rounded[..length].convert_from_f32_slice(chunk);
                rounded[..length].convert_to_f32_slice(chunk);
            }
            Arithmetic::Bf16 => {
                let mut rounded = [bf16::ZERO; CHUNK];
                rounded[..length].convert_from_f32_slice(chunk);
                rounded[..length].convert_to_f32_slice(chunk);
            }
        }
    }
}

/// Works on every row of x, in parallel where there are many, and rounds it.
pub(crate) fn each_row(x: &mut Matrix, arithmetic: Arithmetic, work: impl Fn(usize, &mut [f32]) + Sync) {
    let columns = x.columns;
    x.values.par_chunks_mut(columns).enumerate().with_min_len(ROWS_A_TASK).for_each(|(row, values)| {
        work(row, values);
        round(values, arithmetic);
    });
}

/// x + y, rounded.
pub fn add(x: &mut Matrix, y: &Matrix, arithmetic: Arithmetic) {
    each_row(x, arithmetic, |row, x| x.iter_mut().zip(y.row(row)).for_each(|(x, y)| *x += y));
}

/// A normalisation in front of attention or MLP.
#[derive(Debug)]
pub struct Norm {
    /// RMS or layer norm.
    pub kind: NormKind,
    /// `[hidden]`.
    pub weight: Vec<f32>,
    /// `[hidden]`, for layer norms.
    pub bias: Option<Vec<f32>>,
    /// Added to the mean square, or to the variance.
    pub epsilon: f32,
}

impl Norm {
    /// x `[rows, hidden]` → the same shape, rounded.
    pub fn forward(&self, x: &Matrix, arithmetic: Arithmetic) -> Matrix {
        let mut y = x.clone();
        each_row(&mut y, arithmetic, |_, values| vectorize(NormRow { norm: self, values }));
        y
    }
}

struct NormRow<'a> {
    norm: &'a Norm,
    values: &'a mut [f32],
}

impl Kernel for NormRow<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { norm, values } = self;
        let n = values.len() as f32;
        if norm.kind == NormKind::Layer {
            let mean = sum::<L>(values) / n;
            for value in values.iter_mut() {
                *value -= mean;
            }
        }
        let scale = 1.0 / (dot::<L>(values, values) / n + norm.epsilon).sqrt();
        for (value, weight) in values.iter_mut().zip(&norm.weight) {
            *value = *value * scale * weight;
        }
        if let Some(bias) = &norm.bias {
            values.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
    }
}

/// silu(gate) · up, where each row of x holds gate then up: `[rows, 2 · intermediate]` → `[rows, intermediate]`.
pub(crate) fn silu_gated(x: &Matrix, arithmetic: Arithmetic) -> Matrix {
    let mut y = Matrix::zeros(x.rows(), x.columns / 2);
    each_row(&mut y, arithmetic, |row, y| {
        // The linear layer's outputs are rounded before the activation reads them, as every engine stores them.
        let mut input = x.row(row).to_vec();
        round(&mut input, arithmetic);
        let (gate, up) = input.split_at(y.len());
        vectorize(SiluRow { gate, up, y });
    });
    y
}

struct SiluRow<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for SiluRow<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        for ((y, gate), up) in self.y.iter_mut().zip(self.gate).zip(self.up) {
            *y = gate / (1.0 + exp(-gate)) * up;
        }
    }
}

/// max(x, 0), rounded.
pub(crate) fn relu(mut x: Matrix, arithmetic: Arithmetic) -> Matrix {
    each_row(&mut x, arithmetic, |_, values| values.iter_mut().for_each(|value| *value = value.max(0.0)));
    x
}

/// Cosines and sines for the rows of one step, each `[rows, head_dim / 2]`.
pub(crate) struct Rotations {
    half: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotations {
    /// Cosines and sines of these positions.
    pub(crate) fn new(rotary: &Rotary, positions: &[usize]) -> Self {
        let (cosines, sines) = rotary.cos_sin(positions);
        Self { half: rotary.half(), cosines, sines }
    }

    /// Rotates every head of a row in place.
    pub(crate) fn apply(&self, row: usize, heads: &mut [f32]) {
        let rotations = row * self.half..(row + 1) * self.half;
        let (cosines, sines) = (&self.cosines[rotations.clone()], &self.sines[rotations]);
        for head in heads.chunks_mut(2 * self.half) {
            let (low, high) = head.split_at_mut(self.half);
            for (((low, high), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                let (a, b) = (*low, *high);
                *low = a * cosine - b * sine;
                *high = b * cosine + a * sine;
            }
        }
    }
}
