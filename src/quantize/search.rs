//! The two searches of AWQ (Lin et al., 2023), in `AutoAWQ`'s form: scales of the inputs, and limits of the weights.

use rayon::prelude::*;

use super::Scheme;
use super::round::round_group;
use crate::engine::cpu::{Linear, Matrix, Weights};

/// Points of the scale search: ratio r = i / 20.
const RATIOS: u32 = 20;

/// Steps of the clip search: limits 1 − i / 20 of the group's maximum, i = 0 … 9.
const LIMITS: u32 = 10;

/// The scales of the inputs, one each, under which `loss` is least.
///
/// `weights` is `[outputs, inputs]` row-major and `mean_magnitudes` are the inputs'. `loss` gets weights of the same
/// shape, scaled, rounded and scaled back, and returns the error that they cause. Of equals, the first wins.
pub(super) fn search_scales(
    weights: &[f32],
    mean_magnitudes: &[f64],
    scheme: Scheme,
    mut loss: impl FnMut(Vec<f32>) -> f64,
) -> Vec<f32> {
    let importance = mean_relative_magnitudes(weights, mean_magnitudes.len(), scheme.group_of(mean_magnitudes.len()));
    let mut best = (f64::INFINITY, vec![1.0; mean_magnitudes.len()]);
    for step in 0..RATIOS {
        let scales = scales(mean_magnitudes, &importance, f64::from(step) / f64::from(RATIOS));
        let loss = loss(rounded_under(weights, &scales, scheme));
        if loss < best.0 {
            best = (loss, scales);
        }
    }
    best.1
}

/// s = mean|x|^r / (mean(|w| / group maximum)^(1−r) + 1e-4), at least 1e-4, divided by √(largest · least).
fn scales(mean_magnitudes: &[f64], importance: &[f64], ratio: f64) -> Vec<f32> {
    let raw: Vec<f64> = mean_magnitudes
        .iter()
        .zip(importance)
        .map(|(x, w)| (libm::pow(*x, ratio) / (libm::pow(*w, 1.0 - ratio) + 1e-4)).max(1e-4))
        .collect();
    let (least, largest) =
        raw.iter().fold((f64::INFINITY, 0.0_f64), |(least, largest), s| (least.min(*s), largest.max(*s)));
    let middle = (largest * least).sqrt();
    raw.into_iter().map(|s| (s / middle) as f32).map(|s| if s.is_finite() && s > 0.0 { s } else { 1.0 }).collect()
}

/// Over all outputs, the mean of |w| / (maximum of its group).
fn mean_relative_magnitudes(weights: &[f32], inputs: usize, group_size: usize) -> Vec<f64> {
    let mut sums = vec![0.0_f64; inputs];
    for row in weights.chunks(inputs) {
        for (group, sums) in row.chunks(group_size).zip(sums.chunks_mut(group_size)) {
            let maximum = f64::from(largest_magnitude(group)) + 1e-6;
            for (sum, weight) in sums.iter_mut().zip(group) {
                *sum += f64::from(weight.abs()) / maximum;
            }
        }
    }
    let outputs = (weights.len() / inputs) as f64;
    sums.into_iter().map(|sum| sum / outputs).collect()
}

fn largest_magnitude(group: &[f32]) -> f32 {
    group.iter().fold(0.0, |largest, weight| weight.abs().max(largest))
}

/// round(W · s) / s.
fn rounded_under(weights: &[f32], scales: &[f32], scheme: Scheme) -> Vec<f32> {
    let group_size = scheme.group_of(scales.len());
    let mut rounded = weights.to_vec();
    rounded.par_chunks_mut(scales.len()).for_each(|row| {
        row.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale);
        row.chunks_mut(group_size).for_each(|group| round_group(group, scheme.symmetric));
        row.iter_mut().zip(scales).for_each(|(weight, scale)| *weight /= scale);
    });
    rounded
}

/// Cuts the weights `[outputs, x.columns]` of every group to ± the limit under which the group's own product with the
/// inputs `x` comes out best after rounding.
pub(super) fn clip(weights: &mut [f32], x: &Matrix, scheme: Scheme) {
    let inputs = x.columns;
    let group_size = scheme.group_of(inputs);
    for start in (0..inputs).step_by(group_size) {
        let measure = Measure::of(x, start, group_size);
        let groups: Vec<&[f32]> = weights.chunks(inputs).map(|row| &row[start..start + group_size]).collect();
        let limits = best_limits(&groups, &measure, scheme.symmetric);
        for (row, limit) in weights.chunks_mut(inputs).zip(limits) {
            row[start..start + group_size].iter_mut().for_each(|weight| *weight = weight.clamp(-limit, limit));
        }
    }
}

/// What an error Δw of one group's weights costs: Σ (x · Δw)² over the rows x of the inputs.
enum Measure {
    /// Xᵀ · X `[group, group]`: the sum is Δwᵀ · Xᵀ · X · Δw, whatever the number of rows.
    Gram(Linear),
    /// X `[rows, group]` itself, where it is the smaller.
    Rows(Linear),
}

impl Measure {
    /// By the columns of `x` from `start` on.
    fn of(x: &Matrix, start: usize, group_size: usize) -> Self {
        let rows = x.rows();
        if rows < group_size {
            let values = (0..rows).flat_map(|row| &x.row(row)[start..start + group_size]).copied();
            return Self::Rows(dense(values.collect(), group_size));
        }
        let columns = (start..start + group_size).flat_map(|column| (0..rows).map(move |row| x.row(row)[column]));
        let transposed = Matrix { columns: rows, values: columns.collect() };
        let product = dense(transposed.values.clone(), rows).forward(&transposed);
        Self::Gram(dense(product.values, group_size))
    }

    const fn inputs(&self) -> usize {
        let (Self::Gram(linear) | Self::Rows(linear)) = self;
        linear.inputs
    }

    /// The cost of every row of `errors`.
    fn costs(&self, errors: &Matrix) -> Vec<f64> {
        let (Self::Gram(linear) | Self::Rows(linear)) = self;
        let products = linear.forward(errors);
        let cost = |row| match self {
            Self::Gram(_) => dot(errors.row(row), products.row(row)),
            Self::Rows(_) => dot(products.row(row), products.row(row)),
        };
        (0..errors.rows()).map(cost).collect()
    }
}

/// A linear layer without a bias from `[outputs, inputs]`.
pub(super) fn dense(weights: Vec<f32>, inputs: usize) -> Linear {
    Linear { outputs: weights.len() / inputs, inputs, weights: Weights::F32(weights), bias: None }
}

/// One output's limit each.
fn best_limits(groups: &[&[f32]], measure: &Measure, symmetric: bool) -> Vec<f32> {
    let inputs = measure.inputs();
    let mut best = vec![(f64::INFINITY, 0.0); groups.len()];
    for step in 0..LIMITS {
        let share = 1.0 - step as f32 / 20.0;
        let limits: Vec<f32> = groups.iter().map(|group| largest_magnitude(group) * share).collect();
        let mut errors = Matrix::zeros(groups.len(), inputs);
        errors.values.par_chunks_mut(inputs).zip(groups).zip(&limits).for_each(|((error, group), limit)| {
            error.iter_mut().zip(*group).for_each(|(error, weight)| *error = weight.clamp(-limit, *limit));
            round_group(error, symmetric);
            error.iter_mut().zip(*group).for_each(|(error, weight)| *error -= weight);
        });
        for ((best, limit), loss) in best.iter_mut().zip(limits).zip(measure.costs(&errors)) {
            if loss < best.0 {
                *best = (loss, limit);
            }
        }
    }
    best.into_iter().map(|(_, limit)| limit).collect()
}

/// Σ a · b in binary64, from the first to the last.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Σ (a − b)² in binary64: row by row, then over the rows from the first to the last.
pub(super) fn squared_distance(a: &Matrix, b: &Matrix) -> f64 {
    let rows: Vec<f64> = (0..a.rows())
        .into_par_iter()
        .map(|row| a.row(row).iter().zip(b.row(row)).map(|(a, b)| f64::from(a - b).powi(2)).sum())
        .collect();
    rows.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Groups;

    const CHANNEL: Scheme = Scheme { groups: Groups::Channel, symmetric: false };

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11 + i * i % 17) % 61) as f32 / 64.0 - 0.5).collect()
    }

    #[test]
    fn relative_magnitudes_by_hand() {
        // Each group's largest weight is taken 1e-6 larger, so that a group of zeros has magnitudes of 0.
        let found = mean_relative_magnitudes(&[1.0, -0.5, 4.0, 2.0, 0.0, 0.0, -2.0, 2.0], 4, 2);
        let expected =
            [1.0 / 1.000_001, 0.5 / 1.000_001, 4.0 / 4.000_001 + 2.0 / 2.000_001, 2.0 / 4.000_001 + 2.0 / 2.000_001];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected / 2.0).abs() < 1e-12, "{found} is not {expected} / 2");
        }
    }

    #[test]
    fn scales_by_hand() {
        // r = 1/2: √4 / (√0.25 + 1e-4) and √1 / (√1 + 1e-4), then divided by the root of their product.
        let s = scales(&[4.0, 1.0], &[0.25, 1.0], 0.5);
        let raw: [f64; 2] = [2.0 / 0.5001, 1.0 / 1.0001];
        let middle = (raw[0] * raw[1]).sqrt();
        assert_eq!(s, raw.map(|s| (s / middle) as f32));
        assert!(scales(&[0.0, 0.0], &[0.0, 0.0], 0.5).iter().all(|s| *s == 1.0));
        assert!(scales(&[0.0, 1e30], &[1.0, 0.0], 0.95).iter().all(|s| s.is_finite() && *s > 0.0));
    }

    #[test]
    fn the_scale_search_finds_the_input_that_matters() {
        // One input is a hundred times the others: its weights must come out nearly exact.
        let (outputs, inputs) = (8, 32);
        let weights = values(outputs * inputs, 3);
        let mut x = Matrix { columns: inputs, values: values(40 * inputs, 5) };
        x.values.iter_mut().skip(7).step_by(inputs).for_each(|x| *x *= 100.0);
        let mean = |column: usize| (0..40).map(|row| f64::from(x.row(row)[column].abs())).sum::<f64>() / 40.0;
        let means: Vec<f64> = (0..inputs).map(mean).collect();
        let exact = dense(weights.clone(), inputs).forward(&x);
        let mut losses = Vec::new();
        let scales = search_scales(&weights, &means, CHANNEL, |candidate| {
            losses.push(squared_distance(&dense(candidate, inputs).forward(&x), &exact));
            losses[losses.len() - 1]
        });
        let found = squared_distance(&dense(rounded_under(&weights, &scales, CHANNEL), inputs).forward(&x), &exact);
        let plain = rounded_under(&weights, &vec![1.0; inputs], CHANNEL);
        let plain = squared_distance(&dense(plain, inputs).forward(&x), &exact);
        assert_eq!(losses.len(), 20);
        assert_eq!(found, losses.iter().copied().fold(f64::INFINITY, f64::min));
        assert!(found < plain / 2.0, "{found} with scales, {plain} without");
        assert!(scales[7] > 2.0 * scales[6], "{scales:?}");
    }

    #[test]
    fn the_clip_search_agrees_with_trying_every_limit_on_the_products() {
        // More rows than a group has inputs, and fewer.
        for (rows, groups, symmetric) in [(24, 16, false), (24, 16, true), (24, 32, false), (24, 32, true)] {
            clip_agrees(rows, groups, symmetric);
        }
    }

    fn clip_agrees(rows: usize, group: usize, symmetric: bool) {
        let (outputs, inputs) = (5, 32);
        let mut weights = values(outputs * inputs, 2);
        weights[3] = 4.0; // an outlier whose input is almost nothing: cutting it costs little and helps the others
        let mut x = Matrix { columns: inputs, values: values(rows * inputs, 9) };
        x.values.iter_mut().skip(3).step_by(inputs).for_each(|x| *x *= 1e-3);
        let original = weights.clone();
        clip(&mut weights, &x, Scheme { groups: Groups::Size(group), symmetric });
        for output in 0..outputs {
            for start in (0..inputs).step_by(group) {
                let at = output * inputs + start;
                let group_of = |weights: &[f32]| weights[at..at + group].to_vec();
                let loss = |limit: f32| {
                    let mut rounded: Vec<f32> = group_of(&original).iter().map(|w| w.clamp(-limit, limit)).collect();
                    round_group(&mut rounded, symmetric);
                    (0..rows)
                        .map(|row| {
                            let error =
                                |k: usize| f64::from(x.row(row)[start + k]) * f64::from(rounded[k] - original[at + k]);
                            (0..group).map(error).sum::<f64>().powi(2)
                        })
                        .sum::<f64>()
                };
                let maximum = largest_magnitude(&group_of(&original));
                let losses: Vec<f64> = (0..10).map(|i| loss(maximum * (1.0 - i as f32 / 20.0))).collect();
                let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
                let chosen = loss(largest_magnitude(&group_of(&weights)));
                assert!(chosen <= least * 1.001 + 1e-9, "output {output} at {start}: {chosen}, best of {losses:?}");
            }
        }
        let most = if symmetric { 3.9 } else { 3.0 };
        assert!(weights[3] <= most, "{}: groups of {group}, symmetric {symmetric}", weights[3]);
    }
}
