//! What lies between the matrix products of the big-batch path, and the casts of loading.

use crate::engine::EngineError;
use crate::engine::cuda::BLOCK_TOKENS;
use crate::engine::cuda::compile::{Options, Source};
use crate::engine::cuda::device::Device;
use crate::engine::cuda::element::ElementType;
use crate::engine::cuda::kernel::{Grid, Kernel, Module};
use crate::engine::model::{Activation, ModelConfig, NormKind, PositionKind};

const SOURCE: Source = Source { name: "elementwise", text: include_str!("../kernels/elementwise.cu") };

/// As in the kernels.
const THREADS: usize = 256;

/// The kernels, compiled for one model.
#[derive(Debug)]
pub(crate) struct Elementwise {
    embed: Kernel,
    norm: Kernel,
    rotate_and_store: Kernel,
    activate: Kernel,
    cast: Kernel,
    hidden: usize,
    intermediate: usize,
    /// Elements a thread moves at once.
    pack: usize,
    /// Whether NVRTC had to compile them.
    pub(crate) compiled: bool,
}

/// A norm's weights on the card.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormWeights {
    /// `[hidden]`.
    pub(crate) weight: u64,
    /// `[hidden]`; 0 where there is none.
    pub(crate) bias: u64,
    pub(crate) epsilon: f32,
}

/// Addresses that say which rows a step feeds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) count: usize,
    /// i32 `[rows]`; −1 for the token that the card chose last for the row's slot.
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
}

/// Where positions enter, on the card.
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
        let gated = config.activation == Activation::SiluGated;
        Ok(Self {
            embed: kernel("embed")?,
            norm: kernel("norm")?,
            rotate_and_store: kernel("rotate_and_store")?,
            activate: kernel(if gated { "silu_gated" } else { "relu" })?,
            cast: kernel("cast")?,
            hidden: config.hidden,
            intermediate: config.intermediate,
            pack: pack(config, element),
            compiled: module.compiled,
        })
    }

    /// x `[rows, hidden]` = the tokens' embeddings.
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

    /// h `[rows, hidden]` = norm of x's rows, or of the rows that `list` (i32 `[rows]`) names.
    pub(crate) fn norm(
        &self,
        device: &Device,
        rows: usize,
        x: u64,
        list: Option<u64>,
        weights: &NormWeights,
        h: u64,
    ) -> Result<(), EngineError> {
        let list = list.unwrap_or(0);
        let arguments =
            [x.into(), list.into(), weights.weight.into(), weights.bias.into(), weights.epsilon.into(), h.into()];
        self.norm.launch(device, Grid::line(rows, THREADS), &arguments)
    }

    /// Turns q within qkv `[rows, …]` and writes k and v into a layer's cache.
    pub(crate) fn rotate_and_store(
        &self,
        device: &Device,
        rows: &Rows,
        positions: &PositionTables,
        qkv: u64,
        keys: u64,
        values: u64,
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
        self.rotate_and_store.launch(device, Grid::line(rows.count, THREADS), &arguments)
    }

    /// The MLP's non-linearity: up `[rows, 2 · intermediate]` (or `[rows, intermediate]`) → y `[rows, intermediate]`.
    pub(crate) fn activate(&self, device: &Device, rows: usize, up: u64, y: u64) -> Result<(), EngineError> {
        let blocks = (rows * (self.intermediate / self.pack)).div_ceil(THREADS);
        self.activate.launch(device, Grid::line(blocks, THREADS), &[up.into(), rows.into(), y.into()])
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
    Options::default()
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
}
