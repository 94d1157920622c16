//! Attention over the paged KV cache: prefill of rows in tiles, and decode of one row a sequence.

use crate::cuda::BLOCK_TOKENS;
use crate::cuda::compile::{Options, Source};
use crate::cuda::device::Device;
use crate::cuda::element::ElementType;
use crate::cuda::kernel::{Argument, Grid, Kernel, Module};
use crate::model::ModelConfig;
use crate::text::bytes;
use crate::{Arithmetic, Dtype, EngineError};

/// Query rows of a prefill tile: positions times the query heads of a KV head.
const TILE_ROWS: usize = 64;
/// Positions of a chunk of decode attention; as in `attention.cuh`.
pub(super) const CHUNK: usize = 256;
/// Elements of a head at most: what tiles of it in shared memory leave room for.
const WIDEST_HEAD: usize = 256;
/// Counters at the start of the workspace, hence (row, head tile) pairs of a split launch; as in `attention.cuh`.
pub(super) const COUNTERS: usize = 1024;

/// A prefill tile, as the kernel reads it: `{first_row, rows, slot, first_position}`, up to [`Attention::tile`] rows.
pub(crate) type Tile = [i32; 4];

/// What a layer's attention reads beside queries, as device addresses: its KV cache, the block tables, its heads' sinks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PagedCache {
    /// `[blocks, kv_heads, 64, head_dim]` of the element type, with `RoPE` applied.
    pub(crate) keys: u64,
    /// The same shape.
    pub(crate) values: u64,
    /// i32 `[slots, table_stride]`: the block that holds positions `64 i … 64 i + 63` of a slot.
    pub(crate) tables: u64,
    /// Entries of a slot's table.
    pub(crate) table_stride: usize,
    /// Element `[heads]`, in a model that has them.
    pub(crate) sinks: u64,
}

/// Decode rows: one token of a sequence each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodeRows {
    /// i32 `[rows]`: the row's position; it attends to this one and those before. Below 0: a padding row, whose output is not
    /// written.
    pub(crate) positions: u64,
    /// i32 `[rows]`.
    pub(crate) slots: u64,
    /// Rows `first_row .. first_row + count` of all arrays are meant.
    pub(crate) first_row: usize,
    /// How many.
    pub(crate) count: usize,
    /// No row has more positions than this, its own counted. It decides the launch shape and no bits.
    pub(crate) longest: usize,
    /// Their keys and values are in `qkv` and not in the cache yet, where they are then stored too. Not in binary32.
    pub(crate) new_kv: bool,
    /// [`Attention::workspace_bytes`] bytes whose first 4096 were zero before the first launch ever; launches leave them so.
    pub(crate) workspace: u64,
    /// Programmatic dependent launch.
    pub(crate) overlaps: bool,
}

/// The kernels of one model.
#[derive(Debug)]
pub(crate) struct Attention {
    shape: Shape,
    prefill: Kernel,
    decode: Kernel,
}

/// What decides the constants.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// 0: none.
    window: usize,
    /// Factor of the scores.
    scale: f32,
    /// Of the scores, softly.
    cap: Option<f32>,
    /// Whether heads have sinks.
    sinks: bool,
    dtype: Dtype,
    /// Warps of a block of the decode kernel.
    decode_warps: usize,
    /// Blocks of it that a multiprocessor is to hold, which limits a thread's registers.
    decode_blocks_per_sm: usize,
    /// Steps of keys and values that each of its warps has in shared memory, in half precision.
    ring: usize,
}

impl Attention {
    /// Compiles or finds the kernels for the layers of `config` that have its sliding window, where it has one, with activations as a run in
    /// `dtype` stores them.
    pub(crate) fn load(device: &Device, config: &ModelConfig, dtype: Dtype) -> Result<Self, EngineError> {
        Self::of(device, Shape::of(config, dtype)?)
    }

    /// The same for the layers that see everything, in a model where others do not.
    pub(crate) fn load_unwindowed(
        device: &Device,
        config: &ModelConfig,
        dtype: Dtype,
    ) -> Result<Option<Self>, EngineError> {
        if config.features.layers.iter().all(|kind| kind.windowed) {
            return Ok(None);
        }
        Self::of(device, Shape { window: 0, ..Shape::of(config, dtype)? }).map(Some)
    }

    fn of(device: &Device, shape: Shape) -> Result<Self, EngineError> {
        shape.check_gpu(&device.name, device.shared_bytes)?;
        let module = Module::load(device, shape.source(), &shape.options())?;
        Ok(Self {
            shape,
            prefill: module.kernel("attention_prefill", shape.prefill_shared_bytes())?,
            decode: module.kernel("attention_decode", shape.decode_shared_bytes())?,
        })
    }

    /// The longest of the lengths whose launches have the same shape.
    pub(crate) const fn bucket(longest: usize) -> usize {
        longest.next_multiple_of(CHUNK)
    }

    /// Rows that a prefill tile holds at most.
    pub(crate) fn tile(&self) -> usize {
        self.shape.tile()
    }

    /// Enqueues prefill attention. `qkv` `[R, (heads + 2 · kv_heads) · head_dim]` with `RoPE` applied, `tiles` of the rows, `out`
    /// `[R, heads · head_dim]`. The cache holds every position up to each row's own. `overlaps`: programmatic dependent launch.
    pub(crate) fn prefill(
        &self,
        device: &Device,
        qkv: u64,
        cache: PagedCache,
        tiles: (u64, usize),
        out: u64,
        overlaps: bool,
    ) -> Result<(), EngineError> {
        let (tiles, count) = tiles;
        let grid = Grid {
            blocks: (count * self.shape.kv_heads, 1, 1),
            threads: if self.shape.is_f32() { 256 } else { 128 },
            shared_bytes: self.shape.prefill_shared_bytes(),
            overlaps,
        };
        let arguments = [
            qkv.into(),
            cache.keys.into(),
            cache.values.into(),
            cache.tables.into(),
            cache.table_stride.into(),
            tiles.into(),
            out.into(),
            cache.sinks.into(),
        ];
        let count = arguments.len() - usize::from(!self.shape.sinks);
        self.prefill.launch(device, grid, &arguments[..count])
    }

    /// Enqueues decode attention; shapes as for [`Attention::prefill`].
    pub(crate) fn decode(
        &self,
        device: &Device,
        qkv: u64,
        cache: PagedCache,
        rows: &DecodeRows,
        out: u64,
    ) -> Result<(), EngineError> {
        self.decode_in(device, qkv, cache, rows, self.shape.splits(rows.count, rows.longest), out)
    }

    /// The same with a block for each of `splits` chunks of a row, or with one block (1) for all of them.
    fn decode_in(
        &self,
        device: &Device,
        qkv: u64,
        cache: PagedCache,
        rows: &DecodeRows,
        splits: usize,
        out: u64,
    ) -> Result<(), EngineError> {
        let pairs = rows.count * self.shape.tiles_a_row();
        let resident = self.shape.decode_blocks_per_sm * device.multiprocessors;
        let blocks = if self.shape.is_f32() { (pairs, splits, 1) } else { ((pairs * splits).min(resident), 1, 1) };
        let grid = Grid {
            blocks,
            threads: self.shape.decode_warps * 32,
            shared_bytes: self.shape.decode_shared_bytes(),
            overlaps: rows.overlaps,
        };
        let mut arguments: Vec<Argument> = vec![
            qkv.into(),
            cache.keys.into(),
            cache.values.into(),
            cache.tables.into(),
            cache.table_stride.into(),
            rows.positions.into(),
            rows.slots.into(),
            rows.first_row.into(),
            rows.workspace.into(),
            out.into(),
        ];
        // The kernel in binary32 takes a grid of rows and splits.
        if !self.shape.is_f32() {
            arguments.extend([rows.count, splits, usize::from(rows.new_kv)].map(Argument::from));
        }
        if self.shape.sinks {
            arguments.push(cache.sinks.into());
        }
        self.decode.launch(device, grid, &arguments)
    }

    /// Bytes of workspace for launches of up to `rows` rows and `longest` positions.
    pub(crate) fn workspace_bytes(&self, rows: usize, longest: usize) -> usize {
        self.shape.workspace_bytes(rows, longest)
    }
}

/// The most chunks that a row of up to `longest` positions touches; `window` 0: none.
pub(super) fn chunks(longest: usize, window: usize) -> usize {
    let all = longest.div_ceil(CHUNK).max(1);
    // A window may begin and end inside a chunk.
    if window == 0 { all } else { all.min(window.div_ceil(CHUNK) + 1) }
}

/// Cuts rows `first_row .. first_row + rows`, positions `first_position ..` of the sequence in `slot`, into tiles of up to
/// `tile` rows.
pub(crate) fn cut(first_row: usize, rows: usize, slot: usize, first_position: usize, tile: usize) -> Vec<Tile> {
    let piece = |done: usize| {
        let count = tile.min(rows - done);
        [(first_row + done) as i32, count as i32, slot as i32, (first_position + done) as i32]
    };
    (0..rows).step_by(tile).map(piece).collect()
}

impl Shape {
    fn of(config: &ModelConfig, dtype: Dtype) -> Result<Self, EngineError> {
        let &ModelConfig { heads, kv_heads, head_dim, .. } = config;
        let refused =
            |what: String| Err(EngineError::invalid(what, "run with `--engine cpu`, which reads every shape"));
        let multiple = if dtype.arithmetic == Arithmetic::F32 { 4 } else { 16 };
        if head_dim == 0 || head_dim % multiple != 0 || head_dim > WIDEST_HEAD {
            return refused(format!(
                "heads of {head_dim} elements: the GPU engine reads multiples of {multiple} up to {WIDEST_HEAD} in this precision"
            ));
        }
        if kv_heads == 0 || heads % kv_heads != 0 || heads / kv_heads > TILE_ROWS {
            return refused(format!(
                "{heads} query heads on {kv_heads} KV heads: the GPU engine reads 1 to 64 a KV head"
            ));
        }
        let usual = Self::new(heads, kv_heads, head_dim, config.sliding_window.unwrap_or(0), dtype);
        let cap = config.features.attention_cap.map(|cap| cap as f32);
        Ok(Self { scale: config.attention_scale(), cap, sinks: config.features.attention_sinks, ..usual })
    }

    fn new(heads: usize, kv_heads: usize, head_dim: usize, window: usize, dtype: Dtype) -> Self {
        let is_f32 = dtype.arithmetic == Arithmetic::F32;
        // Measured on an H200 in half precision: with two steps a warp, three blocks of four warps come closest to the memory's bandwidth;
        // two blocks with three steps are slower, above all where rows are short. Wide heads in large groups need more registers. Heads beyond
        // 128 elements were not measured: one block is what fits, in binary32 of two warps.
        let wide = head_dim > 128;
        let (decode_warps, ring) = (if is_f32 && wide { 2 } else { 4 }, 2);
        let (scale, cap, sinks, decode_blocks_per_sm) = (1.0 / (head_dim as f32).sqrt(), None, false, 1);
        let shape = Self {
            heads,
            kv_heads,
            head_dim,
            window,
            scale,
            cap,
            sinks,
            dtype,
            decode_warps,
            decode_blocks_per_sm,
            ring,
        };
        let decode_blocks_per_sm = match (is_f32 || wide, head_dim > 64 && shape.heads_a_tile() > 8) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        Self { decode_blocks_per_sm, ..shape }
    }

    /// Refuses a GPU whose thread blocks have less shared memory than the kernels take: 99 KiB on compute capability 8.6, 8.9 and
    /// 12, where 8.0 has 163 and 9.0 has 227.
    fn check_gpu(self, gpu: &str, shared_bytes: usize) -> Result<(), EngineError> {
        let need = self.prefill_shared_bytes().max(self.decode_shared_bytes());
        if need <= shared_bytes {
            return Ok(());
        }
        let (head_dim, dtype) = (self.head_dim, self.dtype);
        let (need, have) = (bytes(need as u64), bytes(shared_bytes as u64));
        Err(EngineError::invalid(
            format!("heads of {head_dim} elements in {dtype} need {need} of a block's shared memory; {gpu} has {have}"),
            "run this precision with `--engine cpu`, or use another precision on this GPU, such as `--dtype f16`",
        ))
    }

    fn is_f32(self) -> bool {
        self.dtype.arithmetic == Arithmetic::F32
    }

    fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    fn tile(self) -> usize {
        TILE_ROWS / self.group()
    }

    fn source(self) -> Source {
        if self.is_f32() {
            Source {
                name: "attention_f32",
                text: concat!(include_str!("../kernels/attention.cuh"), include_str!("../kernels/attention_f32.cu")),
            }
        } else {
            Source {
                name: "attention",
                text: concat!(
                    include_str!("../kernels/attention.cuh"),
                    include_str!("../kernels/attention_decode.cuh"),
                    include_str!("../kernels/attention.cu")
                ),
            }
        }
    }

    fn options(self) -> Options {
        let mut options = Options::default()
            .with("ELEMENT", ElementType::of(self.dtype.arithmetic).code())
            .with("HEADS", self.heads)
            .with("KV_HEADS", self.kv_heads)
            .with("HEAD_DIM", self.head_dim)
            .with("QKV", (self.heads + 2 * self.kv_heads) * self.head_dim)
            .with("WINDOW", self.window)
            .with("BLOCK_TOKENS", BLOCK_TOKENS)
            .with("DECODE_WARPS", self.decode_warps)
            .with("DECODE_BLOCKS_PER_SM", self.decode_blocks_per_sm)
            .with("RING", self.ring)
            .with("SCALE", format!("{:?}f", self.scale));
        if let Some(cap) = self.cap {
            options = options.with("CAP", format!("{cap:?}f"));
        }
        if self.sinks {
            options = options.with("SINKS", 1);
        }
        options
    }

    /// Query, key and value tiles, and in binary32 the softmax weights; rows padded by 16 bytes.
    fn prefill_shared_bytes(self) -> usize {
        let rows = TILE_ROWS + 2 * BLOCK_TOKENS;
        if self.is_f32() {
            rows * (self.head_dim + 4) * 4 + TILE_ROWS * (BLOCK_TOKENS + 4) * 4
        } else {
            rows * (self.head_dim + 8) * 2
        }
    }

    /// Tiles into which the decode kernel splits the query heads of one KV head.
    fn head_tiles(self) -> usize {
        self.group().div_ceil(if self.is_f32() { 8 } else { 16 })
    }

    fn heads_a_tile(self) -> usize {
        self.group().div_ceil(self.head_tiles())
    }

    /// Thread blocks of a row that is not split.
    fn tiles_a_row(self) -> usize {
        self.kv_heads * self.head_tiles()
    }

    /// The warps' partial results and the queries; in binary32 also softmax weights, and a key and a value tile a warp; in half precision
    /// each warp's ring.
    fn decode_shared_bytes(self) -> usize {
        const STEP: usize = 32;
        let (warps, heads, head_dim) = (self.decode_warps, self.heads_a_tile(), self.head_dim);
        let mut floats = warps * heads * (head_dim + 3);
        if self.is_f32() {
            floats += heads * head_dim + warps * STEP * (heads.next_multiple_of(4) + (head_dim + 4) + head_dim);
        } else {
            // For every 16 dims of 8 heads, two words for each lane; keys and values of a step, two elements to a float.
            floats += heads.div_ceil(8) * head_dim / 16 * 64;
            floats += warps * self.ring * self.decode_step() * head_dim;
        }
        floats * 4
    }

    /// Keys of a warp's step; as in `attention_decode.cuh`.
    fn decode_step(self) -> usize {
        if self.head_dim <= 64 && self.heads_a_tile() <= 8 { 32 } else { 16 }
    }

    /// Thread blocks that share a row: one a chunk while that helps to fill the GPU, else one for all chunks.
    fn splits(self, rows: usize, longest: usize) -> usize {
        // Three blocks on each of some 130 multiprocessors. The number decides speed, not bits.
        const ENOUGH: usize = 390;
        if rows * self.tiles_a_row() >= ENOUGH { 1 } else { self.chunks(longest) }
    }

    /// The most chunks that a row of up to `longest` positions touches.
    fn chunks(self, longest: usize) -> usize {
        chunks(longest, self.window)
    }

    fn workspace_bytes(self, rows: usize, longest: usize) -> usize {
        let max_rows = (COUNTERS / self.tiles_a_row()).min(rows);
        let chunk_bytes = self.heads_a_tile() * (self.head_dim + 2) * 4;
        COUNTERS * 4 + max_rows * self.tiles_a_row() * self.chunks(longest) * chunk_bytes
    }
}

#[cfg(test)]
#[path = "attention_tests.rs"]
pub(crate) mod tests;
