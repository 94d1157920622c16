//! A whole step of few generating rows in one kernel (`kernels/decode.cu`).

use rayon::prelude::*;

use super::attention::{CHUNK, COUNTERS, chunks};
use super::elementwise::{PositionTables, Rows};
use super::pack::segments_a_block;
use crate::engine::cuda::BLOCK_TOKENS;
use crate::engine::cuda::buffer::Buffer;
use crate::engine::cuda::compile::{Options, Source};
use crate::engine::cuda::device::Device;
use crate::engine::cuda::element::ElementType;
use crate::engine::cuda::kernel::{Argument, Grid, Kernel, Module};
use crate::engine::model::{Activation, ModelConfig, NormKind, PositionKind};
use crate::engine::{Dtype, EngineError};

/// Rows of one step at most.
pub(crate) const MAX_ROWS: usize = 8;

/// Warps and threads of a block; as in `decode_weights.cuh`.
const WARPS: usize = 16;
const THREADS: usize = 32 * WARPS;
/// Blocks of weights that a warp asks for ahead: of more than six small reads suffer that others wait for, with fewer than three
/// memory is idle between products.
const DEPTHS: std::ops::RangeInclusive<usize> = 3..=6;
/// Phases of a layer, and threads and blocks a row of the kernel that begins a step; as in `decode_stream.cuh` and `decode.cu`.
const PHASES_A_LAYER: usize = 5;
const BEGIN_THREADS: usize = 256;
const BEGIN_BLOCKS: usize = 16;
/// Bytes in shared memory of a layer, of a tile and of the rest of the directory; as in `decode_stream.cuh`. The directory and
/// every stage of a ring fill whole lines.
const LAYER_BYTES: usize = 144;
const TILE_BYTES: usize = 72;
const DIRECTORY_BYTES: usize = 1032;
const LINE_BYTES: usize = 128;
/// Of a block's shared memory, what the kernel has outside its launch and the driver's own.
const STATIC_BYTES: usize = 2 * 1024;

/// Where the weights of one linear layer `[outputs, inputs]` lie on the card.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WeightsRef {
    /// Of the element type, row-major, 16-byte aligned.
    Dense(u64),
    /// As `pack.rs` makes them.
    Int8 {
        /// i8, rows padded to 16.
        codes: u64,
        /// f32 `[outputs]`.
        scales: u64,
    },
    /// As `pack.rs` makes them, in tiles of the layer's pairs of rows.
    Awq {
        codes: u64,
        groups: u64,
        /// Inputs that share a scale.
        group_size: usize,
    },
}

/// A linear layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinearRef {
    pub(crate) weights: WeightsRef,
    /// `[outputs]` of the element type.
    pub(crate) bias: Option<u64>,
}

/// A norm: `[hidden]` each, of the element type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormRef {
    pub(crate) weight: u64,
    /// Of layer norms.
    pub(crate) bias: Option<u64>,
}

/// A layer of the decoder and its part of the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerRef {
    pub(crate) attention_norm: NormRef,
    /// q, k and v stacked; output; gate and up stacked, or up alone; down.
    pub(crate) linears: [LinearRef; 4],
    pub(crate) mlp_norm: NormRef,
    /// `[blocks, kv_heads, 64, head_dim]`.
    pub(crate) keys: u64,
    /// The same shape.
    pub(crate) values: u64,
}

/// Behind the last layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadRef {
    pub(crate) norm: NormRef,
    /// `[vocabulary, hidden]`, dense.
    pub(crate) table: u64,
}

/// How the linear layers within blocks are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Not at all.
    Dense,
    /// Eight bits.
    Int8,
    /// AWQ's four bits; `None` is one group a row.
    Awq {
        /// Inputs that share a scale, a multiple of 8.
        group_size: Option<usize>,
    },
}

/// The kernels of one model, and what their phases hand to each other.
#[derive(Debug)]
pub(crate) struct Decode {
    shape: Shape,
    begin: Kernel,
    /// For up to so many rows, fewest first.
    variants: Vec<(Variant, Kernel)>,
    /// `Layer` of `decode_stream.cuh`, one a layer.
    layers: Buffer,
    head: HeadRef,
    /// Tagged words `[rows, hidden]`, `[rows, (heads + 2 · kv_heads) · head_dim]`, `[rows, heads · head_dim]`,
    /// `[rows, intermediate]`.
    x: Buffer,
    qkv: Buffer,
    attention: Buffer,
    activation: Buffer,
    workspace: Buffer,
}

/// A kernel for up to `rows` rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variant {
    rows: usize,
    depth: usize,
}

/// What decides constants and launches.
#[derive(Debug, Clone, PartialEq)]
struct Shape {
    config: ModelConfig,
    dtype: Dtype,
    packing: Packing,
    multiprocessors: usize,
    /// Shared memory that a launch may ask for.
    most_shared_bytes: usize,
}

/// Whether the kernel can run the model on a card of so many multiprocessors, whose blocks have this much shared memory; where
/// not, the path for many rows can.
pub(crate) fn supports(config: &ModelConfig, dtype: Dtype, packing: Packing, card: (usize, usize)) -> bool {
    let group_fits = |inputs: usize| match packing {
        Packing::Awq { group_size } => {
            let group = group_size.unwrap_or(inputs);
            group > 0 && group.is_multiple_of(8) && inputs.is_multiple_of(group)
        }
        Packing::Dense | Packing::Int8 => true,
    };
    let shape = Shape::new(config, dtype, packing, card);
    inputs(config).iter().all(|inputs| inputs.is_multiple_of(8) && group_fits(*inputs))
        && config.head_dim.is_multiple_of(if dtype == Dtype::F32 { 4 } else { 16 })
        && MAX_ROWS * shape.tiles_a_row() <= COUNTERS
        && !shape.variants().is_empty()
}

/// Whether a block's linear layers are all packed in this way; a model with others takes the path for many rows.
pub(crate) fn reads(config: &ModelConfig, packing: Packing, linears: &[LinearRef; 4]) -> bool {
    inputs(config).iter().zip(linears).all(|(inputs, linear)| match (linear.weights, packing) {
        (WeightsRef::Dense(_), Packing::Dense) | (WeightsRef::Int8 { .. }, Packing::Int8) => true,
        (WeightsRef::Awq { group_size, .. }, Packing::Awq { group_size: wanted }) => {
            group_size == wanted.unwrap_or(*inputs)
        }
        _ => false,
    })
}

/// Inputs of the four layers in a block.
fn inputs(config: &ModelConfig) -> [usize; 4] {
    [config.hidden, config.heads * config.head_dim, config.hidden, config.intermediate]
}

impl Decode {
    /// Compiles or finds the kernels for a model that [`supports`] takes, run in `dtype`.
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
            Ok((variant, module.kernel("decode", shape.most_shared_bytes)?, module.kernel("decode_begin", 0)?))
        };
        let kernels: Vec<_> = shape.variants().into_par_iter().map(load).collect::<Result<_, EngineError>>()?;
        let begin = kernels.first().map(|(_, _, begin)| begin.clone()).ok_or_else(|| {
            EngineError::failed(
                "the kernel for few rows was asked to run a model of sizes that it cannot read",
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

    /// Says where the layers and their caches lie.
    pub(crate) fn set_layers(&self, device: &Device, layers: &[LayerRef]) -> Result<(), EngineError> {
        let words = |layer: &LayerRef| {
            let matrix = |linear: &LinearRef| {
                let (chunks, scales) = match linear.weights {
                    WeightsRef::Dense(weights) => (weights, 0),
                    WeightsRef::Int8 { codes, scales } => (codes, scales),
                    WeightsRef::Awq { codes, groups, .. } => (codes, groups),
                };
                [chunks, scales, linear.bias.unwrap_or(0)]
            };
            let norm = |norm: NormRef| [norm.weight, norm.bias.unwrap_or(0)];
            let mut words: Vec<u64> = layer.linears.iter().flat_map(matrix).collect();
            words.extend([norm(layer.attention_norm), norm(layer.mlp_norm), [layer.keys, layer.values]].concat());
            words
        };
        let words: Vec<u64> = layers.iter().flat_map(words).collect();
        self.layers.write(device, 0, &words)?;
        device.synchronize()
    }

    /// Rows that a step may have.
    pub(crate) fn most_rows(&self) -> usize {
        self.variants.last().map_or(0, |(variant, _)| variant.rows)
    }

    /// Bytes on the card.
    pub(crate) fn bytes(&self) -> usize {
        [&self.layers, &self.x, &self.qkv, &self.attention, &self.activation, &self.workspace]
            .iter()
            .map(|buffer| buffer.bytes())
            .sum()
    }

    /// A whole step: logits f32 `[rows, vocabulary]` of the rows' tokens, their keys and values in the cache. No row has more
    /// positions than `longest`, its own counted; a position below 0: the row only fills the grid. `embedding` `[vocabulary,
    /// hidden]` of the element type.
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

    /// Some phases of a step, in the order of `decode_stream.cuh`, the logits' behind those of all layers. `turns`: f32 `[2, context,
    /// head_dim / 2]`, cosines, then sines: read at the beginning, whatever the phases; not where positions are learned.
    fn phases(
        &self,
        device: &Device,
        phases: std::ops::Range<usize>,
        (rows, longest): (&Rows, usize),
        turns: u64,
        logits: u64,
    ) -> Result<(), EngineError> {
        assert!((1..=self.most_rows()).contains(&rows.count), "{} rows in a step of few", rows.count);
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
            turns.into(),
            self.shape.splits(longest).into(),
            self.workspace.pointer().into(),
        ];
        kernel.launch_together(device, grid, &arguments)
    }
}

/// Which rows of the four layers in a block (q, k and v; output; gate and up, or up; down) the kernel finishes together: rows p and
/// p + span of every 2 span rows. `first` and `second` in `decode_layers.cuh` say the same.
pub(crate) fn pair_spans(config: &ModelConfig) -> [usize; 4] {
    [(config.head_dim / 2).max(1), 1, if is_gated(config) { config.intermediate } else { 1 }, 1]
}

fn is_gated(config: &ModelConfig) -> bool {
    config.activation == Activation::SiluGated
}

impl Shape {
    fn new(
        config: &ModelConfig,
        dtype: Dtype,
        packing: Packing,
        (multiprocessors, shared_bytes): (usize, usize),
    ) -> Self {
        let most_shared_bytes = shared_bytes.saturating_sub(STATIC_BYTES);
        Self { config: config.clone(), dtype, packing, multiprocessors: multiprocessors.max(1), most_shared_bytes }
    }

    fn is_f32(&self) -> bool {
        self.dtype == Dtype::F32
    }

    fn element_bytes(&self) -> usize {
        if self.is_f32() { 4 } else { 2 }
    }

    /// A value and its tag.
    fn word_bytes(&self) -> usize {
        2 * self.element_bytes()
    }

    /// Columns of a qkv row.
    fn qkv(&self) -> usize {
        (self.config.heads + 2 * self.config.kv_heads) * self.config.head_dim
    }

    /// Pairs of outputs of the four layers in a block, and of the logits.
    fn pairs(&self) -> [usize; 5] {
        let config = &self.config;
        let up = if is_gated(config) { config.intermediate } else { config.intermediate / 2 };
        [self.qkv() / 2, config.hidden / 2, up, config.hidden / 2, config.vocabulary.div_ceil(2)]
    }

    /// Words of groups for each row and block, the most of all layers.
    fn segments(&self) -> usize {
        match self.packing {
            Packing::Awq { group_size } => {
                let segments = |inputs: usize| segments_a_block(group_size.unwrap_or(inputs));
                inputs(&self.config).into_iter().map(segments).max().unwrap_or(0)
            }
            Packing::Dense | Packing::Int8 => 0,
        }
    }

    /// Query heads of one KV head, in equal tiles.
    fn head_tiles(&self) -> usize {
        self.group().div_ceil(if self.is_f32() { 2 } else { 16 })
    }

    fn group(&self) -> usize {
        self.config.heads / self.config.kv_heads.max(1)
    }

    fn heads_a_tile(&self) -> usize {
        self.group().div_ceil(self.head_tiles().max(1))
    }

    fn tiles_a_row(&self) -> usize {
        self.config.kv_heads * self.head_tiles()
    }

    /// Chunks of the longest row: a block each.
    fn splits(&self, longest: usize) -> usize {
        chunks(longest, self.config.sliding_window.unwrap_or(0))
    }

    fn workspace_bytes(&self) -> usize {
        let chunk_bytes = self.heads_a_tile() * (self.config.head_dim + 2) * size_of::<f32>();
        let chunks = self.splits(self.config.context_tokens.next_multiple_of(CHUNK));
        COUNTERS * size_of::<u32>() + MAX_ROWS * self.tiles_a_row() * chunks * chunk_bytes
    }

    /// Elements between two rows of activations in shared memory; as `Layout::STRIDE` has it.
    fn stride(&self, inputs: usize, packing: Packing) -> usize {
        let block = match packing {
            Packing::Dense => 64 / self.element_bytes(),
            Packing::Int8 => 64,
            Packing::Awq { .. } => 128,
        };
        let blocks = inputs.div_ceil(block);
        let padding = match packing {
            Packing::Dense if self.is_f32() || blocks % 2 == 1 => 0,
            Packing::Dense => 32,
            Packing::Int8 | Packing::Awq { .. } => 8,
        };
        blocks * block + padding
    }

    /// What a phase works in: the warps' sums and the activations of a product, or what attention gathers.
    fn work_bytes(&self, rows: usize) -> usize {
        let strides = inputs(&self.config).into_iter().map(|inputs| self.stride(inputs, self.packing));
        let stride = strides.chain([self.stride(self.config.hidden, Packing::Dense)]).max().unwrap_or(0);
        let pass_pairs = if rows <= 2 { 64 } else { 32 };
        let product = WARPS * rows * pass_pairs * 2 * size_of::<f32>() + rows * stride * self.element_bytes();
        let (heads, head_dim) = (self.heads_a_tile(), self.config.head_dim);
        // The queries (16 bits: two words a lane for every 16 dims of 8 heads), the row's own key and value.
        let queries = if self.is_f32() {
            (heads + 2) * head_dim * size_of::<f32>()
        } else {
            heads.div_ceil(8) * head_dim / 16 * 256 + 2 * head_dim * 2
        };
        product.max(WARPS * heads * (head_dim + 3) * size_of::<f32>() + queries)
    }

    fn directory_bytes(&self, rows: usize) -> usize {
        let tiles = self.pairs().map(|pairs| pairs.div_ceil(8 * self.multiprocessors));
        // Two numbers for each pair of q, k, v and x.
        let kept = rows * (tiles[0] + tiles[1]) * 8 * 2 * size_of::<f32>();
        let bytes = self.config.layers * LAYER_BYTES + tiles.iter().sum::<usize>() * TILE_BYTES + DIRECTORY_BYTES;
        (bytes + kept).next_multiple_of(LINE_BYTES)
    }

    /// Shared memory besides the ring.
    fn fixed_bytes(&self, rows: usize) -> usize {
        self.directory_bytes(rows) + self.work_bytes(rows)
    }

    /// Of the ring: sixteen rows' 64 bytes and the words of their groups, for each warp.
    fn stage_bytes(&self) -> usize {
        WARPS * (16 * (64 + 4 * self.segments())).next_multiple_of(LINE_BYTES)
    }

    fn shared_bytes(&self, variant: Variant) -> usize {
        self.fixed_bytes(variant.rows) + variant.depth * self.stage_bytes()
    }

    fn depth(&self, rows: usize) -> usize {
        let room = self.most_shared_bytes.saturating_sub(self.fixed_bytes(rows));
        (room / self.stage_bytes()).min(*DEPTHS.end())
    }

    /// What is compiled: tensor cores take eight rows as fast as one, but fewer leave room for a deeper ring. Where shared memory
    /// does not hold the rows, as many as it does.
    fn variants(&self) -> Vec<Variant> {
        let wanted: &[usize] = if self.is_f32() { &[1, 2, 4, MAX_ROWS] } else { &[2, MAX_ROWS] };
        let mut variants: Vec<Variant> = Vec::new();
        for most in wanted {
            let least = variants.last().map_or(1, |variant| variant.rows + 1);
            let fits = |rows: &usize| DEPTHS.contains(&self.depth(*rows));
            let rows = (least..=*most).rev().find(fits);
            variants.extend(rows.map(|rows| Variant { rows, depth: self.depth(rows) }));
        }
        variants
    }

    fn source(&self) -> Source {
        macro_rules! source {
            ($token:literal) => {
                concat!(
                    include_str!("../kernels/attention.cuh"),
                    include_str!($token),
                    include_str!("../kernels/decode_weights.cuh"),
                    include_str!("../kernels/decode_layers.cuh"),
                    include_str!("../kernels/decode_stream.cuh"),
                    include_str!("../kernels/decode.cu")
                )
            };
        }
        let text = if self.is_f32() {
            source!("../kernels/attention_decode_f32.cuh")
        } else {
            source!("../kernels/attention_decode.cuh")
        };
        Source { name: "decode", text }
    }

    fn options(&self, variant: Variant) -> Options {
        let config = &self.config;
        let (weights, group_size) = match self.packing {
            Packing::Dense => (0, 0),
            Packing::Int8 => (1, 0),
            Packing::Awq { group_size } => (2, group_size.unwrap_or(0)),
        };
        let offset = match config.position {
            PositionKind::Learned { offset } => offset.to_string(),
            PositionKind::Rotary { .. } => "-1".to_owned(),
        };
        Options::default()
            .with("ELEMENT", ElementType::of(self.dtype.arithmetic).code())
            .with("WEIGHTS", weights)
            .with("GROUP_SIZE", group_size)
            .with("LAYERS", config.layers)
            .with("HIDDEN", config.hidden)
            .with("INTERMEDIATE", config.intermediate)
            .with("HEADS", config.heads)
            .with("KV_HEADS", config.kv_heads)
            .with("HEAD_DIM", config.head_dim)
            .with("QKV", self.qkv())
            .with("VOCABULARY", config.vocabulary)
            .with("CONTEXT", config.context_tokens)
            .with("WINDOW", config.sliding_window.unwrap_or(0))
            .with("BLOCK_TOKENS", BLOCK_TOKENS)
            .with("DECODE_WARPS", WARPS)
            .with("SCALE", format!("{:?}f", 1.0 / (config.head_dim as f32).sqrt()))
            .with("EPSILON", format!("{:?}f", config.norm_epsilon as f32))
            .with("LAYER_NORM", u8::from(config.norm == NormKind::Layer))
            .with("GATED", u8::from(is_gated(config)))
            .with("ROTARY", u8::from(matches!(config.position, PositionKind::Rotary { .. })))
            .with("POSITION_OFFSET", offset)
            .with("ROWS", variant.rows)
            .with("DEPTH", variant.depth)
            .with("GRID_BLOCKS", self.multiprocessors)
            .with("RING_END", self.directory_bytes(variant.rows) + variant.depth * self.stage_bytes())
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
