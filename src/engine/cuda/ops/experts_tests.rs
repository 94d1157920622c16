//! Experts' kernels against float64, in every element type, and that no row sees the others.

use super::*;
use crate::cuda::testing::{Guarded, Random, assert_close, compiles, gpu, read, rounded, upload};
use crate::model::{Activation, Family, Features};

const ELEMENTS: [ElementType; 3] = [ElementType::F32, ElementType::F16, ElementType::Bf16];

/// More experts than a warp has lanes and fewer; widths that fill no tile; with and without a shared MLP; biases and a clamped gate.
fn configs() -> [ModelConfig; 3] {
    let of = |hidden: usize, experts: Experts| {
        let features = Features { experts: Some(experts), ..Features::default() };
        let clamped = Activation::ClampedSwiglu { alpha: 1.702, limit: 0.7 };
        let activation = if experts.biased { clamped } else { Activation::SiluGated };
        ModelConfig { hidden, activation, features, ..ModelConfig::example(Family::Llama).unwrap() }
    };
    let few = Experts { count: 5, chosen: 2, intermediate: 72, normalised: false, shared: Some(96), biased: false };
    let many = Experts { count: 70, chosen: 8, intermediate: 40, normalised: true, shared: None, biased: false };
    let biased = Experts { count: 33, chosen: 4, intermediate: 64, normalised: true, shared: None, biased: true };
    [of(136, few), of(200, many), of(64, biased)]
}

#[test]
fn kernels_compile_without_a_gpu() {
    let experts = |config: &ModelConfig| config.features.experts.unwrap();
    let every = configs()
        .into_iter()
        .flat_map(|config| ELEMENTS.map(|element| (SOURCE, options(&config, experts(&config), element))));
    compiles(every.collect::<Vec<_>>());
}

#[test]
fn tiles_are_enough_for_any_choice() {
    for experts in [1, 5, 70, 128] {
        for assignments in (1..3000).chain([65_536, 65_537]) {
            let Tiling { kind, most } = Tiling::of(assignments, experts);
            // All experts but one have one assignment, and that one has the rest: the most tiles that are not full.
            let spread = experts.min(assignments) - 1;
            let tiles = spread + (assignments - spread).div_ceil(TILES[kind]);
            assert!(tiles <= most && most <= Tiling::most_of(assignments, experts), "{assignments} of {experts}");
            assert!(Tiling::most_of(assignments, experts) <= Tiling::most_of(assignments + 1, experts));
        }
    }
}

#[test]
fn sizes_that_no_kernel_reads_are_refused_by_name() {
    let [config, ..] = configs();
    let experts = Experts { intermediate: 36, ..config.features.experts.unwrap() };
    assert!(check(&config, experts, ElementType::F32).is_ok());
    let error = check(&config, experts, ElementType::F16).unwrap_err().to_string();
    assert!(
        error.contains("width 36") && error.contains("multiples of 8") && error.contains("--engine cpu"),
        "{error}"
    );
    let experts = Experts { count: 1025, ..experts };
    assert!(check(&config, experts, ElementType::F32).unwrap_err().to_string().contains("1025 experts"));
}

/// The largest of a softmax, in the order of their numbers.
fn routed(scores: &[f32], experts: Experts) -> Vec<(usize, f64)> {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = scores.iter().map(|score| (f64::from(*score) - f64::from(highest)).exp()).collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a])); // of equals the first: the sort is stable
    order.truncate(experts.chosen);
    let total: f64 = if experts.normalised { order.iter().map(|at| weights[*at]).sum() } else { weights.iter().sum() };
    order.sort_unstable();
    order.into_iter().map(|at| (at, weights[at] / total)).collect()
}

/// One MLP of each expert, and what it makes of a row, every stored value rounded.
struct Mlps<'a> {
    up: &'a [f32],
    down: &'a [f32],
    /// Of `up` and of `down`; zeros where there are none.
    biases: [&'a [f32]; 2],
    activation: Activation,
    hidden: usize,
    inside: usize,
    element: ElementType,
}

impl Mlps<'_> {
    fn product(&self, matrix: &[f32], bias: &[f32], x: &[f32], outputs: usize) -> Vec<f32> {
        let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>();
        let rows = matrix.chunks(x.len()).take(outputs).zip(bias);
        rounded(&rows.map(|(row, bias)| (dot(row) + f64::from(*bias)) as f32).collect::<Vec<f32>>(), self.element)
    }

    fn gated(&self, gate: f32, up: f32) -> f32 {
        let (gate, up) = (f64::from(gate), f64::from(up));
        let gated = match self.activation {
            Activation::ClampedSwiglu { alpha, limit } => {
                let gate = gate.min(limit);
                (up.clamp(-limit, limit) + 1.0) * gate / (1.0 + (-alpha * gate).exp())
            }
            _ => gate / (1.0 + (-gate).exp()) * up,
        };
        gated as f32
    }

    fn of(&self, expert: usize, x: &[f32]) -> Vec<f32> {
        let (hidden, inside) = (self.hidden, self.inside);
        let [up_bias, down_bias] = self.biases;
        let up = self.product(&self.up[expert * 2 * inside * hidden..], &up_bias[expert * 2 * inside..], x, 2 * inside);
        let gated: Vec<f32> = (0..inside).map(|i| self.gated(up[i], up[inside + i])).collect();
        let gated = rounded(&gated, self.element);
        self.product(&self.down[expert * hidden * inside..], &down_bias[expert * hidden..], &gated, hidden)
    }
}

#[test]
fn rows_through_experts_match_binary64_and_do_not_see_each_other() {
    let Some(device) = gpu() else { return };
    for config in configs() {
        let experts = config.features.experts.unwrap();
        let (hidden, inside, count) = (config.hidden, experts.intermediate, experts.count);
        for element in ELEMENTS {
            // Enough rows for both kinds of tiles.
            let most = 700;
            let kernels = ExpertKernels::load(&device, &config, element, most).unwrap().unwrap();
            let kinds = [1, most].map(|rows| Tiling::of(rows * experts.chosen, count).kind);
            assert_eq!(kinds, [0, 1], "both kinds of tiles");
            let mut random = Random::new(3);
            let mut made =
                |rows: usize, columns: usize, spread: f32| rounded(&random.matrix(rows, columns, spread), element);
            let (h, x) = (made(most, hidden, 1.0), made(most, hidden, 1.0));
            let mut scores = made(most, count, 1.0);
            for row in scores.chunks_mut(count).step_by(3) {
                // One more equals than are chosen.
                (0..=experts.chosen).for_each(|i| row[2 * i] = 40.0);
            }
            let up = made(count * 2 * inside, hidden, 0.05);
            let down = made(count * hidden, inside, 0.1);
            let biases = [2 * inside, hidden].map(|width| made(count, width, if experts.biased { 0.3 } else { 0.0 }));
            let biases_there = biases.each_ref().map(|values| upload(&device, values, element));
            let [up_bias, down_bias] =
                biases_there.each_ref().map(|buffer| if experts.biased { buffer.pointer() } else { 0 });
            let (shared, gate) = (made(most, hidden, 1.0), made(1, hidden, 0.05));
            let on_device = [&h, &up, &down, &gate].map(|values| upload(&device, values, element));
            let [h_there, up_there, down_there, gate_there] = on_device.each_ref().map(Buffer::pointer);
            let matrices = (
                &ExpertMatrices { outputs: 2 * inside, inputs: hidden, weights: up_there, bias: up_bias },
                &ExpertMatrices { outputs: hidden, inputs: inside, weights: down_there, bias: down_bias },
            );
            let bytes = element.bytes();
            // Rows from `first` on, in a launch of their own.
            let run = |first: usize, rows: usize| -> Vec<f32> {
                let part =
                    |values: &[f32], width: usize| element.encode(&values[first * width..(first + rows) * width]);
                kernels.scores.write(&device, 0, &part(&scores, count)).unwrap();
                if experts.shared.is_some() {
                    kernels.shared.write(&device, 0, &part(&shared, hidden)).unwrap();
                }
                let to = Guarded::of(&device, &x[first * hidden..(first + rows) * hidden], element);
                let from = (h_there + (first * hidden * bytes) as u64, gate_there);
                kernels.through(&device, (rows, false, rows < 9), matrices, from, to.pointer()).unwrap();
                read(&device, &to, rows * hidden, element)
            };
            let together = run(0, most);
            for (first, rows) in [(0, 1), (5, 1), (699, 1), (3, 8), (100, 130)] {
                let alone = run(first, rows);
                assert!(
                    alone == together[first * hidden..(first + rows) * hidden],
                    "{element:?}: {rows} rows from {first}"
                );
            }
            let biases = [biases[0].as_slice(), &biases[1]];
            let activation = config.activation;
            let mlps = Mlps { up: &up, down: &down, biases, activation, hidden, inside, element };
            for row in (0..most).step_by(23) {
                let h = &h[row * hidden..(row + 1) * hidden];
                let mut expected = vec![0.0_f64; hidden];
                let mut add = |weight: f64, values: &[f32]| {
                    for (sum, value) in expected.iter_mut().zip(values) {
                        *sum += weight * f64::from(*value);
                    }
                };
                for (expert, weight) in routed(&scores[row * count..(row + 1) * count], experts) {
                    add(weight, &mlps.of(expert, h));
                }
                if experts.shared.is_some() {
                    let dot: f64 = h.iter().zip(&gate).map(|(h, gate)| f64::from(*h) * f64::from(*gate)).sum();
                    add(1.0 / (1.0 + (-dot).exp()), &shared[row * hidden..(row + 1) * hidden]);
                }
                add(1.0, &x[row * hidden..(row + 1) * hidden]);
                // Some roundings of terms as large as the largest: what experts put out is rounded three times on its way.
                let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
                let unit = match element {
                    ElementType::F32 => 2.0_f64.powi(-20),
                    ElementType::F16 => 2.0_f64.powi(-11),
                    ElementType::Bf16 => 2.0_f64.powi(-8),
                };
                for (i, expected) in expected.iter().enumerate() {
                    let found = f64::from(together[row * hidden + i]);
                    assert!(
                        (found - expected).abs() <= 8.0 * unit * largest,
                        "{element:?} row {row}[{i}]: {found}, {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn gates_of_any_width_match_binary64() {
    let Some(device) = gpu() else { return };
    let [config, ..] = configs();
    for element in ELEMENTS {
        let kernels = ExpertKernels::load(&device, &config, element, 16).unwrap().unwrap();
        let (rows, width) = (13, 37);
        let x = rounded(&Random::new(5).matrix(rows, 2 * width, 2.0), element);
        let (there, y) = (upload(&device, &x, element), Guarded::new(&device, rows * width * element.bytes()));
        kernels.gate(&device, (rows, false), width, there.pointer(), y.pointer()).unwrap();
        let value = |row: usize, at: usize| f64::from(x[row * 2 * width + at]);
        let gated =
            |(row, at): (usize, usize)| value(row, at) / (1.0 + (-value(row, at)).exp()) * value(row, width + at);
        let expected: Vec<f64> = (0..rows * width).map(|i| gated((i / width, i % width))).collect();
        assert_close("gates", &read(&device, &y, rows * width, element), &expected, element, 4);
    }
}
