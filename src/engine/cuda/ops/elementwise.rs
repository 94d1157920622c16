//! The operations between the GEMMs of the large-batch path, and the casts of loading.

use crate::EngineError;
use crate::cuda::BLOCK_TOKENS;
use crate::cuda::compile::{Options, Source};
use crate::cuda::device::Device;
use crate::cuda::element::ElementType;
use crate::cuda::kernel::{Grid, Kernel, Module};
use crate::model::{Activation, ModelConfig, NormKind, PositionKind};

const SOURCE: Source = Source { name: "elementwise", text: include_str!("../kernels/elementwise.cu") };

/// As in the kernels.
const THREADS: usize = 256;

/// The kernels, compiled for one model.
#[derive(Debug)]
pub(crate) struct Elementwise {
    embed: Kernel,
    norm: Kernel,
    gather_rows: Kernel,
    rope_and_store_kv: Kernel,
    activate: Kernel,
    cast: Kernel,
    element: ElementType,
    hidden: usize,
    intermediate: usize,
    /// Elements a thread moves at once.
    pack: usize,
}

/// A norm's weights, as device addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormWeights {
    /// `[hidden]`.
    pub(crate) weight: u64,
    /// `[hidden]`; 0 where there is none.
    pub(crate) bias: u64,
    pub(crate) epsilon: f32,
}

/// The rows of a step, as device addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) count: usize,
    /// i32 `[rows]`; −1 for the token that was sampled last on the device for the row's slot.
    pub(crate) tokens: u64,
    /// i32 `[rows]`.
    pub(crate) positions: u64,
    /// i32 `[rows]`.
    pub(crate) slots: u64,
    /// i32 `[slots]`.
    pub(crate) next_tokens: u64,
    /// i32 `[slots][table_stride]`: the cache's blocks of each sequence.
    pub(crate) tables: u64,
    pub(crate) table_stride: usize,
    /// Programmatic dependent launch.
    pub(crate) overlaps: bool,
}

/// What depends on positions, as device addresses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PositionTables {
    /// f32 `[context][head_dim / 2]`, 0 where positions are learned.
    pub(crate) cosines: u64,
    pub(crate) sines: u64,
    /// element `[context + offset][hidden]`, 0 where positions are rotary.
    pub(crate) learned: u64,
}

impl Elementwise {
    /// Compiles or finds the kernels.
    pub(crate) fn load(device: &Device, config: &ModelConfig, element: ElementType) -> Result<Self, EngineError> {
        let module = Module::load(device, SOURCE, &options(config, element))?;
        let kernel = |name| module.kernel(name, 0);
        Ok(Self {
            embed: kernel("embed")?,
            norm: kernel("norm_rows")?,
            gather_rows: kernel("gather_rows")?,
            rope_and_store_kv: kernel("rope_and_store_kv")?,
            activate: kernel(match config.activation {
                // That of experts, which have kernels of their own.
                Activation::SiluGated | Activation::ClampedSwiglu { .. } => "silu_gated",
                Activation::GeluTanhGated => "gelu_gated",
                Activation::Relu => "relu",
                Activation::Gelu | Activation::GeluTanh => "gelu",
            })?,
            cast: kernel("cast")?,
            element,
            hidden: config.hidden,
            intermediate: config.intermediate,
            pack: pack(config, element),
        })
    }

    /// The type that everything is stored in.
    pub(crate) fn element(&self) -> ElementType {
        self.element
    }

    /// x `[rows, hidden]` = the tokens' embeddings. The first kernel of a step, so that it never overlaps a previous one.
    pub(crate) fn embed(
        &self,
        device: &Device,
        rows: &Rows,
        table: u64,
        positions: &PositionTables,
        x: u64,
    ) -> Result<(), EngineError> {
        let grid = Grid::line(rows.count, self.hidden.div_ceil(self.pack).next_multiple_of(32).min(THREADS));
        let arguments =
            [rows.tokens, rows.next_tokens, rows.positions, rows.slots, table, positions.learned, x].map(Into::into);
        self.embed.launch(device, grid, &arguments)
    }

    /// h `[rows, hidden]` = norm of x's rows, or of the rows that `indices` (i32 `[rows]`) name. Here and below, `overlaps` means
    /// programmatic dependent launch.
    pub(crate) fn norm(
        &self,
        device: &Device,
        (rows, overlaps): (usize, bool),
        x: u64,
        indices: Option<u64>,
        weights: &NormWeights,
        h: u64,
    ) -> Result<(), EngineError> {
        let indices = indices.unwrap_or(0);
        let arguments =
            [x.into(), indices.into(), weights.weight.into(), weights.bias.into(), weights.epsilon.into(), h.into()];
        self.norm.launch(device, Grid { overlaps, ..Grid::line(rows, THREADS) }, &arguments)
    }

    /// Gathers the rows that `indices` (i32 `[rows]`) name, in their order: of x `[…, hidden]` and of attention `[…, heads ·
    /// head_dim]`, from `from` to `to`, which do not overlap.
    pub(crate) fn gather_rows(
        &self,
        device: &Device,
        (rows, overlaps): (usize, bool),
        indices: u64,
        from: (u64, u64),
        to: (u64, u64),
    ) -> Result<(), EngineError> {
        let arguments = [from.0, from.1, indices, to.0, to.1].map(Into::into);
        self.gather_rows.launch(device, Grid { overlaps, ..Grid::line(rows, THREADS) }, &arguments)
    }

    /// `RoPE`: rotates q within qkv `[rows, …]` in place, and writes rotated k, and v, into a layer's cache.
    pub(crate) fn rope_and_store_kv(
        &self,
        device: &Device,
        rows: &Rows,
        positions: &PositionTables,
        qkv: u64,
        keys: u64,
        values: u64,
    ) -> Result<(), EngineError> {
        launch_rope(&self.rope_and_store_kv, device, rows, positions, qkv, (keys, values))
    }

    /// The MLP's non-linearity: up `[rows, 2 · intermediate]` (or `[rows, intermediate]`) → y `[rows, intermediate]`.
    pub(crate) fn activate(
        &self,
        device: &Device,
        (rows, overlaps): (usize, bool),
        up: u64,
        y: u64,
    ) -> Result<(), EngineError> {
        let blocks = (rows * (self.intermediate / self.pack)).div_ceil(THREADS);
        let grid = Grid { overlaps, ..Grid::line(blocks, THREADS) };
        self.activate.launch(device, grid, &[up.into(), rows.into(), y.into()])
    }

    /// Casts `count` values of a file's type to the element type; sets the i32 at `flag` where one is not finite.
    pub(crate) fn cast(
        &self,
        device: &Device,
        from: u64,
        kind: ElementType,
        to: u64,
        count: usize,
        flag: u64,
    ) -> Result<(), EngineError> {
        let grid = Grid::line(count.div_ceil(THREADS).min(8 * device.multiprocessors), THREADS);
        let arguments = [from.into(), kind.code().into(), to.into(), count.into(), flag.into()];
        self.cast.launch(device, grid, &arguments)
    }
}

/// Enqueues a kernel that rotates q within qkv, and writes rotated k, and v, into a layer's cache; one block a row.
pub(super) fn launch_rope(
    kernel: &Kernel,
    device: &Device,
    rows: &Rows,
    positions: &PositionTables,
    qkv: u64,
    (keys, values): (u64, u64),
) -> Result<(), EngineError> {
    let arguments = [
        qkv.into(),
        rows.positions.into(),
        rows.slots.into(),
        rows.tables.into(),
        rows.table_stride.into(),
        positions.cosines.into(),
        positions.sines.into(),
        keys.into(),
        values.into(),
    ];
    kernel.launch(device, Grid { overlaps: rows.overlaps, ..Grid::line(rows.count, THREADS) }, &arguments)
}

/// The widest access up to 16 bytes that divides every row.
fn pack(config: &ModelConfig, element: ElementType) -> usize {
    let divides = |pack: &usize| {
        [config.hidden, config.intermediate, config.head_dim / 2, config.head_dim]
            .iter()
            .all(|size| size.is_multiple_of(*pack))
    };
    [8, 4, 2].into_iter().filter(|pack| pack * element.bytes() <= 16).find(divides).unwrap_or(1)
}

fn options(config: &ModelConfig, element: ElementType) -> Options {
    let (rotary, offset) = match config.position {
        PositionKind::Rotary { .. } => (1, -1),
        PositionKind::Learned { offset } => (0, offset as i32),
    };
    let gelu = match config.activation {
        Activation::SiluGated | Activation::ClampedSwiglu { .. } | Activation::Relu => 0,
        Activation::Gelu => 1,
        Activation::GeluTanh | Activation::GeluTanhGated => 2,
    };
    let options = Options::default()
        .with("ELEMENT", element.code())
        .with("PACK", pack(config, element))
        .with("HIDDEN", config.hidden)
        .with("INTERMEDIATE", config.intermediate)
        .with("HEADS", config.heads)
        .with("KV_HEADS", config.kv_heads)
        .with("HEAD_DIM", config.head_dim)
        .with("BLOCK_TOKENS", BLOCK_TOKENS)
        .with("LAYER_NORM", u8::from(config.norm == NormKind::Layer))
        .with("ROTARY", rotary)
        .with("POSITION_OFFSET", offset)
        .with("GELU", gelu);
    if config.features.zero_centred_norms { options.with("ZERO_CENTRED_NORMS", 1) } else { options }
}

#[cfg(test)]
#[path = "elementwise_tests.rs"]
mod tests;
