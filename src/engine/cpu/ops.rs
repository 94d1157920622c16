//! What lies between the matrix products: norms, rotary embedding, activations, rounding.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::linear::Matrix;
use super::simd::{Kernel, Lanes, dot, exp, sum, vectorize};
use crate::Arithmetic;
use crate::model::{Activation, NormKind, Rotary};

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
    /// `[width]`: of the residual stream, of a head, or of all heads.
    pub weight: Vec<f32>,
    /// `[width]`, for layer norms.
    pub bias: Option<Vec<f32>>,
    /// Added to the mean square, or to the variance.
    pub epsilon: f32,
}

impl Norm {
    /// x `[rows, hidden]` → the same shape, rounded.
    pub fn forward(&self, x: &Matrix, arithmetic: Arithmetic) -> Matrix {
        let mut y = x.clone();
        each_row(&mut y, arithmetic, |_, values| self.apply(values));
        y
    }

    /// One row `[width]` in place, not rounded.
    pub(crate) fn apply(&self, values: &mut [f32]) {
        vectorize(NormRow { norm: self, values });
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

/// The MLP's non-linearity, rounded: `[rows, 2 · intermediate]` with gate then up, or `[rows, intermediate]` → `[rows, intermediate]`.
pub(crate) fn activate(x: Matrix, activation: Activation, arithmetic: Arithmetic) -> Matrix {
    match activation {
        Activation::SiluGated => gated(&x, arithmetic, |gate, up, y| vectorize(SiluRow { gate, up, y })),
        Activation::GeluTanhGated => gated(&x, arithmetic, |gate, up, y| {
            y.iter_mut().zip(gate).zip(up).for_each(|((y, gate), up)| *y = gelu_tanh(*gate) * up);
        }),
        Activation::ClampedSwiglu { alpha, limit } => {
            let (alpha, limit) = (alpha as f32, limit as f32);
            gated(&x, arithmetic, |gate, up, y| {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    let gate = gate.min(limit);
                    *y = (up.clamp(-limit, limit) + 1.0) * gate / (1.0 + exp(-alpha * gate));
                }
            })
        }
        Activation::Relu => relu(x, arithmetic),
        Activation::Gelu => plain(x, arithmetic, gelu),
        Activation::GeluTanh => plain(x, arithmetic, gelu_tanh),
    }
}

/// work(gate, up, y) for every row; the linear layer's outputs are rounded before, as every engine stores them.
fn gated(x: &Matrix, arithmetic: Arithmetic, work: impl Fn(&[f32], &[f32], &mut [f32]) + Sync) -> Matrix {
    let mut y = Matrix::zeros(x.rows(), x.columns / 2);
    each_row(&mut y, arithmetic, |row, y| {
        let mut input = x.row(row).to_vec();
        round(&mut input, arithmetic);
        let (gate, up) = input.split_at(y.len());
        work(gate, up, y);
    });
    y
}

/// Rounding afterwards gives what rounding before gives.
fn relu(mut x: Matrix, arithmetic: Arithmetic) -> Matrix {
    each_row(&mut x, arithmetic, |_, values| values.iter_mut().for_each(|value| *value = value.max(0.0)));
    x
}

fn plain(mut x: Matrix, arithmetic: Arithmetic, function: impl Fn(f32) -> f32 + Sync) -> Matrix {
    each_row(&mut x, arithmetic, |_, values| {
        round(values, arithmetic);
        for value in values.iter_mut() {
            *value = function(*value);
        }
    });
    x
}

/// x Φ(x), Φ the normal distribution.
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The same by tanh (Hendrycks and Gimpel, 2016).
fn gelu_tanh(x: f32) -> f32 {
    const FACTOR: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
    0.5 * x * (1.0 + libm::tanhf(FACTOR * (x + 0.044_715 * x * x * x)))
}

/// cap · tanh(x / cap).
pub(crate) fn capped(x: f32, cap: f32) -> f32 {
    cap * libm::tanhf(x / cap)
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

/// Cosines and sines for the rows of one step, each `[rows, rotated / 2]`.
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

    /// Rotates every head of a row in place, the first elements of each where that is not all.
    pub(crate) fn apply(&self, row: usize, heads: &mut [f32], head_dim: usize) {
        let rotations = row * self.half..(row + 1) * self.half;
        let (cosines, sines) = (&self.cosines[rotations.clone()], &self.sines[rotations]);
        for head in heads.chunks_mut(head_dim) {
            let (low, high) = head[..2 * self.half].split_at_mut(self.half);
            for (((low, high), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                let (a, b) = (*low, *high);
                *low = a * cosine - b * sine;
                *high = b * cosine + a * sine;
            }
        }
    }
}
