//! What decides the fused decode kernel's constants and launches: sizes, shared memory, variants.
//!
//! Numbers that the kernels' sources also have are marked with the file that has them.

use super::super::attention::{CHUNK, COUNTERS, chunks};
use super::super::pack::segments_a_block;
use super::layers::{Packing, inputs, is_gated};
use crate::cuda::BLOCK_TOKENS;
use crate::cuda::compile::{Options, Source};
use crate::cuda::element::ElementType;
use crate::model::{ModelConfig, NormKind, PositionKind};
use crate::{Arithmetic, Dtype};

/// Rows of one step at most.
pub(crate) const MAX_ROWS: usize = 8;

/// Warps and threads of a block; as in `decode_weights.cuh`.
pub(super) const WARPS: usize = 16;
pub(super) const THREADS: usize = 32 * WARPS;
/// Stages of a warp's weight ring. With more than six, the small reads of activations suffer; with fewer than three, memory is idle between
/// GEMMs.
pub(super) const DEPTHS: std::ops::RangeInclusive<usize> = 3..=6;
/// Phases of a layer, as in `decode_layers.cuh`; threads and blocks a row of `decode_begin`, as in `decode.cu`.
pub(super) const PHASES_A_LAYER: usize = 5;
pub(super) const BEGIN_THREADS: usize = 256;
pub(super) const BEGIN_BLOCKS: usize = 16;
/// Bytes in shared memory of a `Layer`, of a `Tile` and of the rest of the `BlockPlan`; as in `decode_stream.cuh`. The plan and every stage
/// of a ring are multiples of a 128-byte line.
pub(super) const LAYER_BYTES: usize = 144;
const TILE_BYTES: usize = 72;
const PLAN_BYTES: usize = 1032;
const LINE_BYTES: usize = 128;
/// Shared memory of a block that dynamic shared memory cannot use: the kernel's static arrays and the driver's own part.
const STATIC_BYTES: usize = 2 * 1024;

/// The kernel for up to `rows` rows, with rings of `depth` stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) rows: usize,
    pub(super) depth: usize,
}

/// Elements of a head that its attention keeps in registers at most.
const WIDEST_HEAD: usize = 128;

/// What decides constants and launches.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub(super) config: ModelConfig,
    dtype: Dtype,
    packing: Packing,
    pub(super) multiprocessors: usize,
    /// The most dynamic shared memory of a launch.
    pub(super) max_shared_bytes: usize,
}

/// Whether the kernel supports the model on a `gpu` of so many multiprocessors with this much shared memory a block; where not, the
/// large-batch path does.
pub(crate) fn supports(config: &ModelConfig, dtype: Dtype, packing: Packing, gpu: (usize, usize)) -> bool {
    let group_fits = |inputs: usize| match packing {
        Packing::Awq { group_size } => {
            let group = group_size.unwrap_or(inputs);
            group > 0 && group.is_multiple_of(8) && inputs.is_multiple_of(group)
        }
        Packing::Dense | Packing::Int8 => true,
    };
    let shape = Shape::new(config, dtype, packing, gpu);
    inputs(config).iter().all(|inputs| inputs.is_multiple_of(8) && group_fits(*inputs))
        && config.head_dim <= WIDEST_HEAD
        && config.head_dim.is_multiple_of(if dtype.arithmetic == Arithmetic::F32 { 4 } else { 16 })
        && MAX_ROWS * shape.tiles_a_row() <= COUNTERS
        && !shape.variants().is_empty()
}

impl Shape {
    pub(super) fn new(
        config: &ModelConfig,
        dtype: Dtype,
        packing: Packing,
        (multiprocessors, shared_bytes): (usize, usize),
    ) -> Self {
        let max_shared_bytes = shared_bytes.saturating_sub(STATIC_BYTES);
        Self { config: config.clone(), dtype, packing, multiprocessors: multiprocessors.max(1), max_shared_bytes }
    }

    fn is_f32(&self) -> bool {
        self.dtype.arithmetic == Arithmetic::F32
    }

    pub(super) fn element_bytes(&self) -> usize {
        if self.is_f32() { 4 } else { 2 }
    }

    /// Bytes of a value and its tag.
    pub(super) fn word_bytes(&self) -> usize {
        2 * self.element_bytes()
    }

    /// Elements of a qkv row.
    pub(super) fn qkv(&self) -> usize {
        (self.config.heads + 2 * self.config.kv_heads) * self.config.head_dim
    }

    /// Pairs of outputs of the four linear layers, and of the logits.
    pub(super) fn pairs(&self) -> [usize; 5] {
        let config = &self.config;
        let up = if is_gated(config) { config.intermediate } else { config.intermediate / 2 };
        [self.qkv() / 2, config.hidden / 2, up, config.hidden / 2, config.vocabulary.div_ceil(2)]
    }

    /// AWQ: group words for each row and block of inputs, the most of all linear layers.
    fn segments(&self) -> usize {
        match self.packing {
            Packing::Awq { group_size } => {
                let segments = |inputs: usize| segments_a_block(group_size.unwrap_or(inputs));
                inputs(&self.config).into_iter().map(segments).max().unwrap_or(0)
            }
            Packing::Dense | Packing::Int8 => 0,
        }
    }

    /// Tiles into which the query heads of one KV head are split.
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

    /// Chunks of the longest row, each of which has its own thread block.
    pub(super) fn splits(&self, longest: usize) -> usize {
        chunks(longest, self.config.sliding_window.unwrap_or(0))
    }

    pub(super) fn workspace_bytes(&self) -> usize {
        let chunk_bytes = self.heads_a_tile() * (self.config.head_dim + 2) * size_of::<f32>();
        let chunks = self.splits(self.config.context_tokens.next_multiple_of(CHUNK));
        COUNTERS * size_of::<u32>() + MAX_ROWS * self.tiles_a_row() * chunks * chunk_bytes
    }

    /// Elements between two activation rows in shared memory; as `Layout::STRIDE` of `decode_weights.cuh`.
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

    /// The work area: partial sums and activations of a GEMM, or attention's queries and partial results.
    fn work_bytes(&self, rows: usize) -> usize {
        let strides = inputs(&self.config).into_iter().map(|inputs| self.stride(inputs, self.packing));
        let stride = strides.chain([self.stride(self.config.hidden, Packing::Dense)]).max().unwrap_or(0);
        let pass_pairs = if rows <= 2 { 64 } else { 32 };
        let gemm = WARPS * rows * pass_pairs * 2 * size_of::<f32>() + rows * stride * self.element_bytes();
        let (heads, head_dim) = (self.heads_a_tile(), self.config.head_dim);
        // Queries (16 bits: two words a lane for every 16 dims of 8 heads) and the row's new key and value.
        let queries = if self.is_f32() {
            (heads + 2) * head_dim * size_of::<f32>()
        } else {
            heads.div_ceil(8) * head_dim / 16 * 256 + 2 * head_dim * 2
        };
        gemm.max(WARPS * heads * (head_dim + 3) * size_of::<f32>() + queries)
    }

    fn plan_bytes(&self, rows: usize) -> usize {
        let tiles = self.pairs().map(|pairs| pairs.div_ceil(8 * self.multiprocessors));
        // Two f32 for each pair of q, k, v and of x.
        let kept = rows * (tiles[0] + tiles[1]) * 8 * 2 * size_of::<f32>();
        let bytes = self.config.layers * LAYER_BYTES + tiles.iter().sum::<usize>() * TILE_BYTES + PLAN_BYTES;
        (bytes + kept).next_multiple_of(LINE_BYTES)
    }

    /// Shared memory besides the rings.
    fn fixed_bytes(&self, rows: usize) -> usize {
        self.plan_bytes(rows) + self.work_bytes(rows)
    }

    /// A stage of all warps' rings: 64 bytes and the group words of sixteen rows for each warp.
    fn stage_bytes(&self) -> usize {
        WARPS * (16 * (64 + 4 * self.segments())).next_multiple_of(LINE_BYTES)
    }

    pub(super) fn shared_bytes(&self, variant: Variant) -> usize {
        self.fixed_bytes(variant.rows) + variant.depth * self.stage_bytes()
    }

    fn depth(&self, rows: usize) -> usize {
        let room = self.max_shared_bytes.saturating_sub(self.fixed_bytes(rows));
        (room / self.stage_bytes()).min(*DEPTHS.end())
    }

    /// The kernels to compile: tensor cores process eight rows as fast as one, but fewer rows leave room for a deeper ring. Where shared
    /// memory cannot hold the activations of eight rows, as many as it can.
    pub(super) fn variants(&self) -> Vec<Variant> {
        let row_counts: &[usize] = if self.is_f32() { &[1, 2, 4, MAX_ROWS] } else { &[2, MAX_ROWS] };
        let mut variants: Vec<Variant> = Vec::new();
        for most in row_counts {
            let least = variants.last().map_or(1, |variant| variant.rows + 1);
            let fits = |rows: &usize| DEPTHS.contains(&self.depth(*rows));
            let rows = (least..=*most).rev().find(fits);
            variants.extend(rows.map(|rows| Variant { rows, depth: self.depth(rows) }));
        }
        variants
    }

    pub(super) fn source(&self) -> Source {
        macro_rules! source {
            ($token:literal) => {
                concat!(
                    include_str!("../../kernels/attention.cuh"),
                    include_str!($token),
                    include_str!("../../kernels/decode_weights.cuh"),
                    include_str!("../../kernels/decode_layers.cuh"),
                    include_str!("../../kernels/decode_stream.cuh"),
                    include_str!("../../kernels/decode.cu")
                )
            };
        }
        let text = if self.is_f32() {
            source!("../../kernels/attention_decode_f32.cuh")
        } else {
            source!("../../kernels/attention_decode.cuh")
        };
        Source { name: "decode", text }
    }

    pub(super) fn options(&self, variant: Variant) -> Options {
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
            .with("RING_END", self.plan_bytes(variant.rows) + variant.depth * self.stage_bytes())
    }
}
