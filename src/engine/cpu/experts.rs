//! Experts: MLPs of which a router chooses some for each row.

use super::linear::{Linear, Matrix};
use super::ops::{activate, each_row, round};
use super::simd::exp;
use crate::Arithmetic;
use crate::model::Activation;

/// The experts of a layer.
#[derive(Debug)]
pub struct ExpertLayer {
    /// `[experts, hidden]`.
    pub router: Linear,
    /// gate and up stacked, and down, of each.
    pub experts: Vec<[Linear; 2]>,
    /// How many of them a row goes through.
    pub chosen: usize,
    /// Whether the weights of the chosen are made to sum to 1.
    pub normalised: bool,
    /// The shared MLP, and its gate `[1, hidden]`.
    pub shared: Option<([Linear; 2], Linear)>,
}

impl ExpertLayer {
    /// h `[rows, hidden]` → the same shape, rounded. A row's bits do not depend on the others: what its experts put out is added in the
    /// order of their numbers.
    pub(crate) fn forward(&self, h: &Matrix, activation: Activation, arithmetic: Arithmetic) -> Matrix {
        let mut rows_of: Vec<Vec<(usize, f32)>> = vec![Vec::new(); self.experts.len()];
        for (row, chosen) in self.route(h, arithmetic).into_iter().enumerate() {
            for (expert, weight) in chosen {
                rows_of[expert].push((row, weight));
            }
        }
        let mut y = Matrix::zeros(h.rows(), h.columns);
        for (expert, rows) in self.experts.iter().zip(rows_of).filter(|(_, rows)| !rows.is_empty()) {
            let values = rows.iter().flat_map(|(row, _)| h.row(*row)).copied().collect();
            let mut out = mlp(expert, &Matrix { columns: h.columns, values }, activation, arithmetic);
            each_row(&mut out, arithmetic, |index, out| {
                for value in out.iter_mut() {
                    *value *= rows[index].1;
                }
            });
            for (index, (row, _)) in rows.iter().enumerate() {
                add(&mut y.values[row * h.columns..(row + 1) * h.columns], out.row(index), arithmetic);
            }
        }
        if let Some((shared, gate)) = &self.shared {
            let mut out = mlp(shared, h, activation, arithmetic);
            let mut gates = gate.forward(h);
            each_row(&mut gates, arithmetic, |_, gates| {
                round(gates, arithmetic);
                for gate in gates.iter_mut() {
                    *gate = 1.0 / (1.0 + exp(-*gate));
                }
            });
            each_row(&mut out, arithmetic, |row, out| {
                for value in out.iter_mut() {
                    *value *= gates.values[row];
                }
            });
            for (y, out) in y.values.chunks_mut(h.columns).zip(out.values.chunks(h.columns)) {
                add(y, out, arithmetic);
            }
        }
        y
    }

    /// The experts of each row and their weights: the largest of a softmax over all.
    fn route(&self, h: &Matrix, arithmetic: Arithmetic) -> Vec<Vec<(usize, f32)>> {
        let mut scores = self.router.forward(h);
        each_row(&mut scores, arithmetic, |_, _| ());
        let choose = |scores: &[f32]| {
            let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f32> = scores.iter().map(|score| exp(score - highest)).collect();
            let total: f32 = weights.iter().sum();
            let mut all: Vec<(usize, f32)> = weights.into_iter().map(|weight| weight / total).enumerate().collect();
            // Of equals the first.
            all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            all.truncate(self.chosen);
            if self.normalised {
                let total: f32 = all.iter().map(|(_, weight)| weight).sum();
                for (_, weight) in &mut all {
                    *weight /= total;
                }
            }
            for (_, weight) in &mut all {
                round(std::slice::from_mut(weight), arithmetic);
            }
            all
        };
        scores.values.chunks(scores.columns).map(choose).collect()
    }
}

/// down · activation(up · h), rounded.
fn mlp([up, down]: &[Linear; 2], h: &Matrix, activation: Activation, arithmetic: Arithmetic) -> Matrix {
    let mut y = down.forward(&activate(up.forward(h), activation, arithmetic));
    each_row(&mut y, arithmetic, |_, _| ());
    y
}

fn add(y: &mut [f32], x: &[f32], arithmetic: Arithmetic) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    round(y, arithmetic);
}
