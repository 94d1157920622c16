//! One block: what goes through it, the searches, and the folding of scales into what lies before.

use super::Scheme;
use super::search::{clip, dense, search_scales, squared_distance};
use crate::engine::cpu::{Block, Calibration, Linear, Matrix, Norm, Weights, add};
use crate::engine::model::ModelConfig;

/// Rows of a batch, unless one sequence alone has more.
const BATCH_TOKENS: usize = 512;

/// Tokens on which the losses of the scale search are taken. Means are taken over all.
const SEARCH_TOKENS: usize = 4096;

/// Tokens on which the clip search works.
const CLIP_TOKENS: usize = 512;

/// Sequences that go through a block together.
pub(super) struct Batch {
    sequences: Vec<Vec<u32>>,
    /// The residual stream: `[tokens, hidden]`.
    x: Matrix,
    /// Whether the losses are taken on it.
    searched: bool,
}

/// Embeds the calibration's sequences. The batches that are searched lie evenly among all.
pub(super) fn batches(sequences: &[Vec<u32>], calibration: &Calibration) -> Vec<Batch> {
    let mut groups: Vec<Vec<Vec<u32>>> = Vec::new();
    let tokens = |group: &[Vec<u32>]| group.iter().map(Vec::len).sum::<usize>();
    for sequence in sequences {
        match groups.last_mut().filter(|group| tokens(group) + sequence.len() <= BATCH_TOKENS) {
            Some(group) => group.push(sequence.clone()),
            None => groups.push(vec![sequence.clone()]),
        }
    }
    let every = tokens(sequences).div_ceil(SEARCH_TOKENS);
    let batch = |(index, sequences): (usize, Vec<Vec<u32>>)| {
        let x = calibration.embed(&sequences);
        Batch { sequences, x, searched: index % every == 0 }
    };
    groups.into_iter().enumerate().map(batch).collect()
}

/// The inputs of the four groups of linear layers, and what the block's two halves make of them.
struct Trace<'a> {
    sequences: &'a [Vec<u32>],
    /// Into q, k and v.
    attention_input: Matrix,
    /// Into the attention's output projection.
    mixed: Matrix,
    /// Out of the attention, before it is added to the residual stream.
    attention_output: Matrix,
    /// Into gate and up.
    mlp_input: Matrix,
    /// Into down.
    activated: Matrix,
    /// Out of the MLP, before it is added to the residual stream.
    mlp_output: Matrix,
}

impl Trace<'_> {
    fn inputs(&self) -> [&Matrix; 4] {
        [&self.attention_input, &self.mixed, &self.mlp_input, &self.activated]
    }
}

/// Runs a batch through a block; the batch's residual stream becomes the next block's input.
fn trace<'a>(batch: &'a mut Batch, block: &Block, calibration: &Calibration) -> Trace<'a> {
    let arithmetic = crate::engine::Arithmetic::F32;
    let Batch { sequences, x, .. } = batch;
    let normed =
        |norm: &Option<Norm>, x: &Matrix| norm.as_ref().map_or_else(|| x.clone(), |norm| norm.forward(x, arithmetic));
    let attention_input = normed(&block.attention_norm, x);
    let mixed = calibration.attend(block, &block.qkv, &attention_input, sequences);
    let attention_output = block.output.forward(&mixed);
    add(x, &attention_output, arithmetic);
    let mlp_input = normed(&block.mlp_norm, x);
    let activated = calibration.activate(block.up.forward(&mlp_input));
    let mlp_output = block.down.forward(&activated);
    add(x, &mlp_output, arithmetic);
    Trace { sequences, attention_input, mixed, attention_output, mlp_input, activated, mlp_output }
}

/// Runs every batch through a block of which nothing else is wanted.
pub(super) fn pass(batches: &mut [Batch], block: &Block, calibration: &Calibration) {
    for batch in batches {
        trace(batch, block, calibration);
    }
}

/// The steps of [`improve`], for the progress.
pub(super) const STEPS: usize = 6;

/// Changes a block's weights so that they lose least by rounding. The batches become the next block's inputs, by the
/// original weights. `step` is called as each step ends; if it returns `false`, the block is left unfinished and `false`
/// is returned.
pub(super) fn improve(
    block: &mut Block,
    batches: &mut [Batch],
    calibration: &Calibration,
    config: &ModelConfig,
    scheme: Scheme,
    step: &mut dyn FnMut() -> bool,
) -> bool {
    let mut means: [Mean; 4] = Default::default();
    let mut traces = Vec::new();
    for batch in batches {
        let searched = batch.searched;
        let trace = trace(batch, block, calibration);
        means.iter_mut().zip(trace.inputs()).for_each(|(mean, input)| mean.add(input));
        if searched {
            traces.push(trace);
        }
    }
    let means = means.map(Mean::finish);
    if !step() {
        return false;
    }
    let search = Search { block, traces: &traces, calibration, scheme };
    let qkv = search.attention(&means[0]);
    if !step() {
        return false;
    }
    // Under grouped queries a value feeds several inputs of the output projection: there is no row to fold into.
    let output = (config.heads == config.kv_heads).then(|| search.output(&means[1]));
    if !step() {
        return false;
    }
    let up = search.mlp(&means[2]);
    if !step() {
        return false;
    }
    let down = search.down(&means[3]);
    if !step() {
        return false;
    }
    let scales = Scales { qkv, output, up, down };
    let inputs = ClipInputs::new(&traces, &scales);
    scales.fold_into(block, config);
    inputs.clip(block, config, scheme);
    step();
    true
}

/// The mean magnitude of every column.
#[derive(Default)]
struct Mean {
    sums: Vec<f64>,
    rows: usize,
}

impl Mean {
    fn add(&mut self, x: &Matrix) {
        self.sums.resize(x.columns, 0.0);
        for row in x.values.chunks(x.columns) {
            self.sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(x.abs()));
        }
        self.rows += x.rows();
    }

    fn finish(self) -> Vec<f64> {
        self.sums.into_iter().map(|sum| sum / self.rows as f64).collect()
    }
}

/// The scale searches of one block.
struct Search<'a> {
    block: &'a Block,
    traces: &'a [Trace<'a>],
    calibration: &'a Calibration,
    scheme: Scheme,
}

impl Search<'_> {
    /// q, k and v: judged by the whole attention's output.
    fn attention(&self, means: &[f64]) -> Vec<f32> {
        self.over(&self.block.qkv, means, |trace, qkv| {
            let mixed = self.calibration.attend(self.block, qkv, &trace.attention_input, trace.sequences);
            squared_distance(&self.block.output.forward(&mixed), &trace.attention_output)
        })
    }

    /// gate and up: judged by the whole MLP's output.
    fn mlp(&self, means: &[f64]) -> Vec<f32> {
        self.over(&self.block.up, means, |trace, up| {
            let activated = self.calibration.activate(up.forward(&trace.mlp_input));
            squared_distance(&self.block.down.forward(&activated), &trace.mlp_output)
        })
    }

    /// The attention's output projection: judged by its own output.
    fn output(&self, means: &[f64]) -> Vec<f32> {
        self.over(&self.block.output, means, |trace, output| {
            squared_distance(&output.forward(&trace.mixed), &trace.attention_output)
        })
    }

    /// down: judged by its own output.
    fn down(&self, means: &[f64]) -> Vec<f32> {
        self.over(&self.block.down, means, |trace, down| {
            squared_distance(&down.forward(&trace.activated), &trace.mlp_output)
        })
    }

    /// `loss` is the error of a trace with a candidate in place of `linear`.
    fn over(&self, linear: &Linear, means: &[f64], loss: impl Fn(&Trace<'_>, &Linear) -> f64) -> Vec<f32> {
        search_scales(values(linear), means, self.scheme, |weights| {
            let candidate = Linear { bias: linear.bias.clone(), ..dense(weights, linear.inputs) };
            self.traces.iter().map(|trace| loss(trace, &candidate)).sum()
        })
    }
}

/// The weights of a linear layer that was loaded in binary32.
pub(super) fn values(linear: &Linear) -> &[f32] {
    let Weights::F32(values) = &linear.weights else { unreachable!("blocks are calibrated in binary32") };
    values
}

fn values_mut(linear: &mut Linear) -> &mut [f32] {
    let Weights::F32(values) = &mut linear.weights else { unreachable!("blocks are calibrated in binary32") };
    values
}

/// What the scale searches found: one scale an input.
struct Scales {
    qkv: Vec<f32>,
    output: Option<Vec<f32>>,
    up: Vec<f32>,
    down: Vec<f32>,
}

impl Scales {
    /// Multiplies the weights by the scales of their inputs, and divides what makes those inputs.
    fn fold_into(&self, block: &mut Block, config: &ModelConfig) {
        multiply_columns(&mut block.qkv, &self.qkv);
        divide_norm(block.attention_norm.as_mut(), &self.qkv);
        if let Some(scales) = &self.output {
            multiply_columns(&mut block.output, scales);
            divide_rows(&mut block.qkv, first_value(config), scales);
        }
        multiply_columns(&mut block.up, &self.up);
        divide_norm(block.mlp_norm.as_mut(), &self.up);
        multiply_columns(&mut block.down, &self.down);
        // up's rows are the last; silu(gate) · up and relu(up) both let a factor above zero pass.
        let first = block.up.outputs - config.intermediate;
        divide_rows(&mut block.up, first, &self.down);
    }
}

/// The first row of v in the stacked q, k and v.
fn first_value(config: &ModelConfig) -> usize {
    (config.heads + config.kv_heads) * config.head_dim
}

fn multiply_columns(linear: &mut Linear, scales: &[f32]) {
    for row in values_mut(linear).chunks_mut(scales.len()) {
        row.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale);
    }
}

fn divide_rows(linear: &mut Linear, first: usize, scales: &[f32]) {
    let inputs = linear.inputs;
    for (row, scale) in values_mut(linear)[first * inputs..].chunks_mut(inputs).zip(scales) {
        for weight in row.iter_mut() {
            *weight /= scale;
        }
    }
    if let Some(bias) = &mut linear.bias {
        bias[first..].iter_mut().zip(scales).for_each(|(bias, scale)| *bias /= scale);
    }
}

fn divide_norm(norm: Option<&mut Norm>, scales: &[f32]) {
    let Some(norm) = norm else { return };
    norm.weight.iter_mut().zip(scales).for_each(|(weight, scale)| *weight /= scale);
    if let Some(bias) = &mut norm.bias {
        bias.iter_mut().zip(scales).for_each(|(bias, scale)| *bias /= scale);
    }
}

/// A few rows of the scaled inputs.
struct ClipInputs {
    qkv: Matrix,
    output: Matrix,
    up: Matrix,
    down: Matrix,
}

impl ClipInputs {
    fn new(traces: &[Trace<'_>], scales: &Scales) -> Self {
        let ones = vec![1.0; traces.first().map_or(0, |trace| trace.mixed.columns)];
        Self {
            qkv: sampled(traces, 0, &scales.qkv),
            output: sampled(traces, 1, scales.output.as_ref().unwrap_or(&ones)),
            up: sampled(traces, 2, &scales.up),
            down: sampled(traces, 3, &scales.down),
        }
    }

    /// Clips all but q and k: their outputs meet in a product, where an error of one group says little.
    fn clip(&self, block: &mut Block, config: &ModelConfig, scheme: Scheme) {
        let from_value = first_value(config) * block.qkv.inputs;
        clip(&mut values_mut(&mut block.qkv)[from_value..], &self.qkv, scheme);
        clip(values_mut(&mut block.output), &self.output, scheme);
        clip(values_mut(&mut block.up), &self.up, scheme);
        clip(values_mut(&mut block.down), &self.down, scheme);
    }
}

/// Of one of the four inputs, at most [`CLIP_TOKENS`] rows, evenly spaced, divided by the scales.
fn sampled(traces: &[Trace<'_>], input: usize, scales: &[f32]) -> Matrix {
    let rows: Vec<&[f32]> = traces.iter().flat_map(|trace| trace.inputs()[input].values.chunks(scales.len())).collect();
    let every = rows.len().div_ceil(CLIP_TOKENS).max(1);
    let chosen = rows.into_iter().step_by(every);
    let values = chosen.flat_map(|row| row.iter().zip(scales).map(|(x, scale)| x / scale)).collect();
    Matrix { columns: scales.len(), values }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_have_their_mean_magnitude_over_all_rows() {
        let mut mean = Mean::default();
        mean.add(&Matrix { columns: 2, values: vec![1.0, -2.0, -3.0, 4.0] });
        mean.add(&Matrix { columns: 2, values: vec![5.0, 6.0] });
        assert_eq!(mean.finish(), [3.0, 4.0]);
    }

    #[test]
    fn sampled_inputs_are_divided_by_the_scales() {
        let of = |columns: usize, values: &[f32]| Matrix { columns, values: values.to_vec() };
        let trace = Trace {
            sequences: &[],
            attention_input: of(2, &[2.0, 6.0, 4.0, 9.0]),
            mixed: of(1, &[5.0]),
            attention_output: of(1, &[]),
            mlp_input: of(1, &[]),
            activated: of(1, &[]),
            mlp_output: of(1, &[]),
        };
        assert_eq!(sampled(std::slice::from_ref(&trace), 0, &[2.0, 3.0]).values, [1.0, 2.0, 2.0, 3.0]);
        assert_eq!(sampled(&[trace], 1, &[0.5]).values, [10.0]);
    }
}
