//! What phases are held against: norms and dot products in float64, with bounds of their rounding errors.

use rayon::prelude::*;

use super::fixture::{Made, rounded};
use crate::model::{ModelConfig, NormKind};
use crate::{Arithmetic, Dtype};

/// A dot product of `w` and `h`, and what bounds its rounding error.
#[derive(Clone, Copy, Default)]
pub(super) struct Dot {
    pub(super) value: f64,
    /// √Σ(w h)², and Σ|w h|.
    pub(super) norm: f64,
    pub(super) magnitude: f64,
}

/// Half a unit in the last place, relative.
pub(super) fn unit(dtype: Dtype) -> f64 {
    match dtype.arithmetic {
        Arithmetic::F32 => 2f64.powi(-24),
        Arithmetic::F16 => 2f64.powi(-11),
        Arithmetic::Bf16 => 2f64.powi(-8),
    }
}

impl Dot {
    /// Of the sum before it is rounded. Inputs that come from a norm were rounded from numbers that differ in the last bits
    /// of binary32, so that a few of them (a fiftieth at the most) are a unit, 2u, off the reference's: a random walk of
    /// √(K/50) steps, √(1/50) · 2u · norm, held to seven of its deviations, 2u · norm. Sums in binary32: fewer than 64
    /// additions in a chain, and tensor cores truncate what is below 2⁻²³ of a sum.
    pub(super) fn error(&self, dtype: Dtype, normed: bool) -> f64 {
        let flips = if !normed {
            0.0
        } else if dtype == Dtype::F32 {
            // The norm's scale itself is off by some units.
            16.0 * unit(dtype) * (self.norm + self.value.abs())
        } else {
            2.0 * unit(dtype) * self.norm
        };
        flips + 2f64.powi(-18) * self.magnitude * if dtype == Dtype::F32 { 0.0625 } else { 1.0 }
    }

    /// Of the stored number.
    pub(super) fn stored_error(&self, dtype: Dtype, normed: bool) -> f64 {
        let error = self.error(dtype, normed);
        error + rounding(dtype, self.value.abs() + error)
    }
}

/// What storing a number costs at most: half a unit, or half of the smallest subnormal of binary16.
pub(super) fn rounding(dtype: Dtype, value: f64) -> f64 {
    let smallest = if matches!(dtype, Dtype::F32 | Dtype::Bf16) { 0.0 } else { 2f64.powi(-25) };
    (unit(dtype) * value * 1.01).max(smallest)
}

/// The norm in float64, rounded to the element: `[rows, hidden]`.
pub(super) fn normed(config: &ModelConfig, dtype: Dtype, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let rows = x.chunks(config.hidden).flat_map(|x| {
        let n = x.len() as f64;
        let mean = if config.norm == NormKind::Layer { x.iter().map(|x| f64::from(*x)).sum::<f64>() / n } else { 0.0 };
        let square = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (square + f64::from(config.norm_epsilon as f32)).sqrt();
        let element = move |(i, x): (usize, &f32)| {
            let y = (f64::from(*x) - mean) * scale * f64::from(weight[i]) + bias.map_or(0.0, |bias| f64::from(bias[i]));
            y as f32
        };
        x.iter().enumerate().map(element).collect::<Vec<f32>>()
    });
    rounded(dtype, &rows.collect::<Vec<f32>>())
}

/// `[rows][outputs]`.
pub(super) fn dots(made: &Made, h: &[f32]) -> Vec<Vec<Dot>> {
    let row = |h: &[f32]| -> Vec<Dot> {
        let output = |(w, bias): (&[f64], &f32)| {
            let mut dot = Dot::default();
            let mut squares = 0.0;
            for (w, h) in w.iter().zip(h) {
                let product = w * f64::from(*h);
                dot.value += product;
                dot.magnitude += product.abs();
                squares += product * product;
            }
            dot.norm = squares.sqrt();
            dot.value += f64::from(*bias);
            dot.magnitude += f64::from(bias.abs());
            dot
        };
        made.values.par_chunks(made.inputs).zip(&made.bias).map(output).collect()
    };
    h.chunks(made.inputs).map(row).collect()
}

pub(super) fn near(got: f32, expected: f64, error: f64, place: impl Fn() -> String) {
    let off = (f64::from(got) - expected).abs();
    assert!(off <= error, "{}: {got}, not {expected} ± {error:e}", place());
}
