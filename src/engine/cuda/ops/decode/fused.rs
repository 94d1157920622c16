//! Launches of the fused decode kernel, `kernels/decode.cu`.

use rayon::prelude::*;

use super::layers::{HeadRef, LayerRef, Packing};
use super::shape::{BEGIN_BLOCKS, BEGIN_THREADS, LAYER_BYTES, MAX_ROWS, PHASES_A_LAYER, Shape, THREADS, Variant};
use crate::cuda::buffer::Buffer;
use crate::cuda::device::Device;
use crate::cuda::kernel::{Argument, Grid, Kernel, Module};
use crate::cuda::ops::elementwise::{PositionTables, Rows};
use crate::model::ModelConfig;
use crate::{Dtype, EngineError};

/// The fused kernel of one model, and the buffers through which its phases exchange activations.
#[derive(Debug)]
pub(crate) struct Decode {
    pub(super) shape: Shape,
    begin: Kernel,
    /// In ascending order of the rows that they take at most.
    pub(super) variants: Vec<(Variant, Kernel)>,
    /// `Layer` of `decode_stream.cuh`, `[layers]`.
    layers: Buffer,
    pub(super) head: HeadRef,
    /// Tagged words `[rows, hidden]`, `[rows, (heads + 2 · kv_heads) · head_dim]`, `[rows, heads · head_dim]`,
    /// `[rows, intermediate]`.
    pub(super) x: Buffer,
    pub(super) qkv: Buffer,
    pub(super) attention: Buffer,
    pub(super) activation: Buffer,
    workspace: Buffer,
}

impl Decode {
    /// Compiles or finds the kernels for a model that [`super::supports`] accepts, run in `dtype`.
    pub(crate) fn load(
        device: &Device,
        config: &ModelConfig,
        dtype: Dtype,
        packing: Packing,
        head: HeadRef,
    ) -> Result<Self, EngineError> {
        let shape = Shape::new(config, dtype, packing, (device.multiprocessors, device.shared_bytes));
        let load = |variant: Variant| {
            let module = Module::load(device, shape.source(), &shape.options(variant))?;
            Ok((variant, module.kernel("decode", shape.max_shared_bytes)?, module.kernel("decode_begin", 0)?))
        };
        let kernels: Vec<_> = shape.variants().into_par_iter().map(load).collect::<Result<_, EngineError>>()?;
        let begin = kernels.first().map(|(_, _, begin)| begin.clone()).ok_or_else(|| {
            EngineError::failed(
                "the fused decode kernel does not support this model's sizes",
                "this is a fault of the engine: report it; `--engine cpu` works instead",
            )
        })?;
        let words = |columns: usize| Buffer::new(device, MAX_ROWS * columns * shape.word_bytes());
        let workspace = Buffer::new(device, shape.workspace_bytes())?;
        workspace.fill(device, 0)?;
        Ok(Self {
            begin,
            variants: kernels.into_iter().map(|(variant, decode, _)| (variant, decode)).collect(),
            layers: Buffer::new(device, config.layers * LAYER_BYTES)?,
            head,
            x: words(config.hidden)?,
            qkv: words(shape.qkv())?,
            attention: words(config.heads * config.head_dim)?,
            activation: words(config.intermediate)?,
            workspace,
            shape,
        })
    }

    /// Sets the addresses of the layers' weights and caches.
    pub(crate) fn set_layers(&self, device: &Device, layers: &[LayerRef]) -> Result<(), EngineError> {
        let words: Vec<u64> = layers.iter().flat_map(LayerRef::words).collect();
        self.layers.write(device, 0, &words)?;
        device.synchronize()
    }

    /// Rows that a step may have.
    pub(crate) fn max_rows(&self) -> usize {
        self.variants.last().map_or(0, |(variant, _)| variant.rows)
    }

    /// Bytes of device memory.
    pub(crate) fn bytes(&self) -> usize {
        [&self.layers, &self.x, &self.qkv, &self.attention, &self.activation, &self.workspace]
            .iter()
            .map(|buffer| buffer.bytes())
            .sum()
    }

    /// Enqueues a whole step: logits f32 `[rows, vocabulary]` of the rows' tokens, whose keys and values go into the cache. No row's
    /// position is `longest` or more; a position below 0 marks a padding row. `embedding`: element `[vocabulary, hidden]`.
    pub(crate) fn step(
        &self,
        device: &Device,
        rows: &Rows,
        longest: usize,
        embedding: u64,
        positions: &PositionTables,
        logits: u64,
    ) -> Result<(), EngineError> {
        let arguments = [
            rows.tokens,
            rows.next_tokens,
            rows.positions,
            rows.slots,
            embedding,
            positions.learned,
            self.x.pointer(),
            self.qkv.pointer(),
            self.attention.pointer(),
            self.activation.pointer(),
        ]
        .map(Argument::from);
        self.begin.launch(device, Grid::line(rows.count * BEGIN_BLOCKS, BEGIN_THREADS), &arguments)?;
        let last = self.shape.config.layers * PHASES_A_LAYER;
        self.phases(device, 0..last + 1, (rows, longest), positions.cosines, logits)
    }

    /// Enqueues some phases of a step, numbered as in `decode_stream.cuh`, the logits' after those of all layers. `cos_sin`: f32 `[2,
    /// context, head_dim / 2]`, cosines, then sines; read in every launch, except where positions are learned.
    pub(super) fn phases(
        &self,
        device: &Device,
        phases: std::ops::Range<usize>,
        (rows, longest): (&Rows, usize),
        cos_sin: u64,
        logits: u64,
    ) -> Result<(), EngineError> {
        assert!((1..=self.max_rows()).contains(&rows.count), "{} rows in a fused decode step", rows.count);
        let fits = |(variant, _): &&(Variant, Kernel)| variant.rows >= rows.count;
        let (variant, kernel) = self.variants.iter().find(fits).unwrap_or(&self.variants[0]);
        let grid =
            Grid { shared_bytes: self.shape.shared_bytes(*variant), ..Grid::line(self.shape.multiprocessors, THREADS) };
        let arguments = [
            self.layers.pointer().into(),
            self.head.table.into(),
            self.head.norm.weight.into(),
            self.head.norm.bias.unwrap_or(0).into(),
            phases.start.into(),
            phases.end.into(),
            rows.count.into(),
            self.x.pointer().into(),
            self.qkv.pointer().into(),
            self.attention.pointer().into(),
            self.activation.pointer().into(),
            logits.into(),
            rows.tables.into(),
            rows.table_stride.into(),
            rows.positions.into(),
            rows.slots.into(),
            cos_sin.into(),
            self.shape.splits(longest).into(),
            self.workspace.pointer().into(),
        ];
        kernel.launch_cooperative(device, grid, &arguments)
    }
}
