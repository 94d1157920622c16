//! The kernels of `decode_plain.cu`, launched one after another.

use super::layers::{LayerRef, LinearRef, NormRef, inputs, is_gated};
use super::shape::{MAX_ROWS, Shape};
use super::{HeadRef, pair_spans};
use crate::cuda::buffer::Buffer;
use crate::cuda::compile::Source;
use crate::cuda::device::Device;
use crate::cuda::kernel::{Argument, Grid, Module};
use crate::cuda::ops::elementwise::{PositionTables, Rows};
use crate::model::ModelConfig;

/// Compiled with the constants of any variant of the fused kernel.
pub(super) const SOURCE: Source = Source { name: "decode_plain", text: include_str!("../../kernels/decode_plain.cu") };

const THREADS: usize = 128;

/// The plain kernels of one model, and what they compute, `[rows, …]` of the element type each.
pub(super) struct Plain {
    device: Device,
    config: ModelConfig,
    module: Module,
    pub(super) x: Buffer,
    h: Buffer,
    pub(super) qkv: Buffer,
    pub(super) attention: Buffer,
    up: Buffer,
    pub(super) activation: Buffer,
}

impl Plain {
    pub(super) fn load(device: &Device, shape: &Shape) -> Self {
        let config = shape.config.clone();
        let module = Module::load(device, SOURCE, &shape.options(shape.variants()[0])).unwrap();
        let buffer = |columns: usize| Buffer::new(device, MAX_ROWS * columns * shape.element_bytes()).unwrap();
        Self {
            x: buffer(config.hidden),
            h: buffer(config.hidden),
            qkv: buffer(shape.qkv()),
            attention: buffer(config.heads * config.head_dim),
            up: buffer(2 * config.intermediate),
            activation: buffer(config.intermediate),
            device: device.clone(),
            config,
            module,
        }
    }

    /// A whole step, as [`super::Decode::step`] computes it.
    pub(super) fn step(
        &self,
        rows: &Rows,
        layers: &[LayerRef],
        head: HeadRef,
        embedding: u64,
        positions: &PositionTables,
        logits: u64,
    ) {
        let ModelConfig { hidden, heads, kv_heads, head_dim, intermediate, vocabulary, .. } = self.config;
        let count = rows.count;
        let [x, h, qkv, attention, up, activation] =
            [&self.x, &self.h, &self.qkv, &self.attention, &self.up, &self.activation].map(Buffer::pointer);
        let (qkv_columns, query_columns) = ((heads + 2 * kv_heads) * head_dim, heads * head_dim);
        let arguments = [rows.tokens, rows.next_tokens, rows.positions, rows.slots, embedding, positions.learned];
        let arguments = arguments.map(Argument::from);
        self.launch("embed", count * hidden, &[&arguments[..], &[count.into(), x.into()]].concat());
        for layer in layers {
            let [qkv_linear, output_linear, up_linear, down_linear] = [0, 1, 2, 3].map(|at| (at, layer.linears[at]));
            self.norm(count, layer.attention_norm);
            self.linear("linear", count, qkv_linear, h, qkv);
            let arguments = [
                qkv.into(),
                rows.positions.into(),
                rows.slots.into(),
                rows.tables.into(),
                rows.table_stride.into(),
                positions.cosines.into(),
                count.into(),
                layer.keys.into(),
                layer.values.into(),
            ];
            self.launch("rope_and_store_kv", count * qkv_columns / 2, &arguments);
            let arguments = [
                qkv.into(),
                layer.keys.into(),
                layer.values.into(),
                rows.positions.into(),
                rows.slots.into(),
                rows.tables.into(),
                rows.table_stride.into(),
                count.into(),
                attention.into(),
            ];
            self.launch("attend", count * query_columns, &arguments);
            self.linear("linear_add", count, output_linear, attention, x);
            self.norm(count, layer.mlp_norm);
            self.linear("linear", count, up_linear, h, up);
            self.launch("activate", count * intermediate, &[up.into(), count.into(), activation.into()]);
            self.linear("linear_add", count, down_linear, activation, x);
        }
        self.norm(count, head.norm);
        let arguments = [h.into(), head.table.into(), count.into(), logits.into()];
        self.launch("logits", count * vocabulary, &arguments);
    }

    /// A thread for each of `outputs` numbers.
    fn launch(&self, name: &str, outputs: usize, arguments: &[Argument]) {
        let grid = Grid::line(outputs.div_ceil(THREADS), THREADS);
        self.module.kernel(name, 0).unwrap().launch(&self.device, grid, arguments).unwrap();
    }

    /// h = norm(x).
    fn norm(&self, rows: usize, norm: NormRef) {
        let (x, h, bias) = (self.x.pointer(), self.h.pointer(), norm.bias.unwrap_or(0));
        let arguments = [x.into(), norm.weight.into(), bias.into(), rows.into(), h.into()];
        self.launch("norm_rows", rows * self.config.hidden, &arguments);
    }

    /// The linear layer number `at` of a decoder layer.
    fn linear(&self, kernel: &str, rows: usize, (at, linear): (usize, LinearRef), from: u64, to: u64) {
        let ModelConfig { hidden, heads, kv_heads, head_dim, intermediate, .. } = self.config;
        let up = if is_gated(&self.config) { 2 * intermediate } else { intermediate };
        let outputs = [(heads + 2 * kv_heads) * head_dim, hidden, up, hidden][at];
        let [weights, scales] = linear.weights.words();
        let arguments = [
            from.into(),
            weights.into(),
            scales.into(),
            linear.bias.unwrap_or(0).into(),
            pair_spans(&self.config)[at].into(),
            outputs.into(),
            inputs(&self.config)[at].into(),
            rows.into(),
            to.into(),
        ];
        self.launch(kernel, rows * outputs, &arguments);
    }
}
