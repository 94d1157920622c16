//! The linear layers of a step with few rows: fused matrix-vector kernels (`kernels/gemv.cu`).

use crate::engine::cuda::compile::{Options, Source};
use crate::engine::cuda::device::Device;
use crate::engine::cuda::kernel::{Argument, Grid, Kernel, Module};
use crate::engine::cuda::ops::pack::segments_a_block;
use crate::engine::model::{Activation, ModelConfig, NormKind, PositionKind};
use crate::engine::{Dtype, EngineError};

/// Rows of one step at most.
pub(crate) const MAX_ROWS: usize = 8;

const SOURCE: Source = Source {
    name: "gemv",
    text: concat!(include_str!("../kernels/gemv_weights.cuh"), include_str!("../kernels/gemv.cu")),
};
/// Warps and threads of a block; as in `gemv_weights.cuh`.
const WARPS: usize = 16;
const THREADS: usize = 32 * WARPS;
/// Blocks of weights that a warp has on their way at once; as in `gemv.cu`.
const DEPTH: usize = 4;
/// Of a block's shared memory, what the kernels have outside their launches' (a norm's sums) and the driver's own.
const STATIC_BYTES: usize = 2 * 1024;

/// Where the weights of one linear layer `[outputs, inputs]` lie on the card. They are read before the kernel in front has
/// ended, so nothing that is still under way may write them.
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
        /// Inputs that share a scale: the one that the kernels were compiled for.
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

/// Where the new keys and values go, and which rows they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheRef {
    /// `[blocks, kv_heads, 64, head_dim]` of one layer.
    pub(crate) keys: u64,
    /// The same shape.
    pub(crate) values: u64,
    /// i32 `[slots, table_stride]`.
    pub(crate) tables: u64,
    /// Entries of a slot.
    pub(crate) table_stride: usize,
    /// i32 `[rows]`; below 0 nothing is written to the cache.
    pub(crate) positions: u64,
    /// i32 `[rows]`.
    pub(crate) slots: u64,
    /// f32 `[2, context, head_dim / 2]`: cosines, then sines. Not read where positions are learned.
    pub(crate) turns: u64,
}

/// How the linear layers within blocks are packed, where they are.
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

/// The kernels of one model.
#[derive(Debug)]
pub(crate) struct Gemv {
    shape: Shape,
    dense: Kernels,
    /// For packed layers; a model's other layers use `dense`.
    packed: Option<Kernels>,
    logits: Variants,
}

/// One kernel for up to so many rows, fewest first.
type Variants = Vec<(usize, Kernel)>;

#[derive(Debug)]
struct Kernels {
    norm_qkv: Variants,
    output: Variants,
    norm_up: Variants,
    down: Variants,
}

/// Which kernel; what it reads and writes decides its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    NormQkv,
    Output,
    NormUp,
    Down,
    NormLogits,
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

/// Whether these kernels can run the model on a card whose blocks have this much shared memory; where not, the path for many
/// rows can.
pub(crate) fn supports(config: &ModelConfig, dtype: Dtype, packing: Packing, shared_bytes: usize) -> bool {
    let attention = config.heads * config.head_dim;
    let inputs = [config.hidden, attention, config.intermediate];
    let group_fits = |inputs: usize| match packing {
        Packing::Awq { group_size } => {
            let group = group_size.unwrap_or(inputs);
            group > 0 && group.is_multiple_of(8) && inputs.is_multiple_of(group)
        }
        Packing::Dense | Packing::Int8 => true,
    };
    let shape = Shape::new(config, dtype, packing, (1, shared_bytes));
    let kinds: &[Packing] = if packing == Packing::Dense { &[Packing::Dense] } else { &[Packing::Dense, packing] };
    config.head_dim.is_multiple_of(2)
        && inputs.iter().all(|inputs| inputs.is_multiple_of(8) && group_fits(*inputs))
        && kinds.iter().all(|kind| LAYERS.iter().all(|layer| shape.rows_a_launch(*layer, *kind) > 0))
}

const LAYERS: [Layer; 5] = [Layer::NormQkv, Layer::Output, Layer::NormUp, Layer::Down, Layer::NormLogits];

impl Gemv {
    /// Compiles or finds the kernels for a model that [`supports`] takes, run in `dtype`.
    pub(crate) fn load(
        device: &Device,
        config: &ModelConfig,
        dtype: Dtype,
        packing: Packing,
    ) -> Result<Self, EngineError> {
        if !supports(config, dtype, packing, device.shared_bytes) {
            return Err(EngineError::failed(
                "the kernels for few rows were asked to run a model of sizes that they cannot read",
                "this is a fault of the engine: report it; `--engine cpu` works instead",
            ));
        }
        let shape = Shape::new(config, dtype, packing, (device.multiprocessors, device.shared_bytes));
        let module = |packing| Module::load(device, SOURCE, &shape.options(packing));
        let dense = module(Packing::Dense)?;
        let packed = if packing == Packing::Dense { None } else { Some(module(packing)?) };
        Ok(Self {
            logits: shape.variants(&dense, Layer::NormLogits)?,
            dense: shape.kernels(&dense)?,
            packed: packed.map(|packed| shape.kernels(&packed)).transpose()?,
            shape,
        })
    }

    /// x `[rows, hidden]` → norm → W · h (+ bias), turned → q in `qkv` `[rows, (heads + 2 · kv_heads) · head_dim]`, k and v
    /// in the cache. The qkv row's places for k and v are left alone.
    #[expect(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub(crate) fn norm_qkv(
        &self,
        device: &Device,
        rows: usize,
        x: u64,
        norm: NormRef,
        linear: LinearRef,
        cache: CacheRef,
        qkv: u64,
        overlaps: bool,
    ) -> Result<(), EngineError> {
        let width = (self.shape.config.heads + 2 * self.shape.config.kv_heads) * self.shape.config.head_dim;
        self.launch(device, Layer::NormQkv, rows, x, linear, overlaps, |first| {
            vec![
                norm.weight.into(),
                norm.bias.unwrap_or(0).into(),
                self.shape.row(qkv, first, width).into(),
                cache.keys.into(),
                cache.values.into(),
                cache.tables.into(),
                cache.table_stride.into(),
                (cache.positions + 4 * first as u64).into(),
                (cache.slots + 4 * first as u64).into(),
                cache.turns.into(),
            ]
        })
    }

    /// x `[rows, hidden]` += W · attention (+ bias), attention `[rows, heads · head_dim]`; rounded once.
    pub(crate) fn output(
        &self,
        device: &Device,
        rows: usize,
        attention: u64,
        linear: LinearRef,
        x: u64,
        overlaps: bool,
    ) -> Result<(), EngineError> {
        let hidden = self.shape.config.hidden;
        self.launch(device, Layer::Output, rows, attention, linear, overlaps, |first| {
            vec![self.shape.row(x, first, hidden).into()]
        })
    }

    /// x `[rows, hidden]` → norm → the MLP's activation `[rows, intermediate]`. Gated: W holds the gate's rows, then up's.
    #[expect(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub(crate) fn norm_up(
        &self,
        device: &Device,
        rows: usize,
        x: u64,
        norm: NormRef,
        linear: LinearRef,
        activation: u64,
        overlaps: bool,
    ) -> Result<(), EngineError> {
        let intermediate = self.shape.config.intermediate;
        self.launch(device, Layer::NormUp, rows, x, linear, overlaps, |first| {
            let to = self.shape.row(activation, first, intermediate);
            vec![norm.weight.into(), norm.bias.unwrap_or(0).into(), to.into()]
        })
    }

    /// x `[rows, hidden]` += W · activation (+ bias), activation `[rows, intermediate]`; rounded once.
    pub(crate) fn down(
        &self,
        device: &Device,
        rows: usize,
        activation: u64,
        linear: LinearRef,
        x: u64,
        overlaps: bool,
    ) -> Result<(), EngineError> {
        let hidden = self.shape.config.hidden;
        self.launch(device, Layer::Down, rows, activation, linear, overlaps, |first| {
            vec![self.shape.row(x, first, hidden).into()]
        })
    }

    /// x `[rows, hidden]` → the last norm → logits f32 `[rows, vocabulary]`; `table` `[vocabulary, hidden]` is dense.
    #[expect(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub(crate) fn norm_logits(
        &self,
        device: &Device,
        rows: usize,
        x: u64,
        norm: NormRef,
        table: u64,
        logits: u64,
        overlaps: bool,
    ) -> Result<(), EngineError> {
        let linear = LinearRef { weights: WeightsRef::Dense(table), bias: None };
        self.launch(device, Layer::NormLogits, rows, x, linear, overlaps, |first| {
            let to = logits + (first * self.shape.config.vocabulary * 4) as u64;
            vec![norm.weight.into(), norm.bias.unwrap_or(0).into(), to.into()]
        })
    }

    /// One launch, or several of fewer rows where shared memory holds no more; `rest` gives the arguments behind the common
    /// ones, of the rows from `first` on.
    #[expect(clippy::too_many_arguments, reason = "a kernel's operands")]
    fn launch(
        &self,
        device: &Device,
        layer: Layer,
        rows: usize,
        input: u64,
        linear: LinearRef,
        overlaps: bool,
        rest: impl Fn(usize) -> Vec<Argument>,
    ) -> Result<(), EngineError> {
        assert!((1..=MAX_ROWS).contains(&rows), "{rows} rows in a step of few");
        let (packing, first, second) = match linear.weights {
            WeightsRef::Dense(weights) => (Packing::Dense, weights, 0),
            WeightsRef::Int8 { codes, scales } => (Packing::Int8, codes, scales),
            WeightsRef::Awq { codes, groups, group_size } => {
                assert_eq!(group_size, self.shape.group_size(layer), "compiled for another group size");
                (self.shape.packing, codes, groups)
            }
        };
        let variants = self.variants(layer, packing)?;
        let cut = self.shape.cut(layer, packing);
        let at_once = self.shape.rows_a_launch(layer, packing);
        for done in (0..rows).step_by(at_once) {
            let count = at_once.min(rows - done);
            let pass_shift = pass_shift(count);
            let (_, kernel) = variants.iter().find(|(most, _)| *most >= count).unwrap_or(&variants[variants.len() - 1]);
            let grid = Grid {
                blocks: (cut.blocks, 1, 1),
                threads: THREADS,
                shared_bytes: self.shape.shared_bytes(layer, packing, count),
                overlaps,
            };
            let mut arguments = vec![
                first.into(),
                second.into(),
                linear.bias.unwrap_or(0).into(),
                self.shape.row(input, done, self.shape.inputs(layer)).into(),
                count.into(),
                cut.pairs_a_block.into(),
                pass_shift.into(),
            ];
            arguments.extend(rest(done));
            kernel.launch(device, grid, &arguments)?;
        }
        Ok(())
    }

    fn variants(&self, layer: Layer, packing: Packing) -> Result<&Variants, EngineError> {
        let kernels = match (packing, &self.packed) {
            (Packing::Dense, _) => &self.dense,
            (packing, Some(packed)) if packing == self.shape.packing => packed,
            _ => {
                return Err(EngineError::failed(
                    "a layer is packed in another way than the kernels were compiled for",
                    "this is a fault of the engine: report it; `--engine cpu` works instead",
                ));
            }
        };
        Ok(match layer {
            Layer::NormQkv => &kernels.norm_qkv,
            Layer::Output => &kernels.output,
            Layer::NormUp => &kernels.norm_up,
            Layer::Down => &kernels.down,
            Layer::NormLogits => &self.logits,
        })
    }
}

/// How the pairs of outputs are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    blocks: usize,
    pairs_a_block: usize,
}

/// The logarithm of the pairs whose sums meet in shared memory at a time: fewer for many rows, to save room.
fn pass_shift(rows: usize) -> usize {
    if rows <= 2 { 6 } else { 5 }
}

/// Which rows of the four layers in a block (q, k and v; output; gate and up, or up; down) the kernels finish together: rows p and
/// p + span of every 2 span rows. `first` and `second` of the kernels' outputs say the same.
pub(crate) fn pair_spans(config: &ModelConfig) -> [usize; 4] {
    let gated = config.activation == Activation::SiluGated;
    [(config.head_dim / 2).max(1), 1, if gated { config.intermediate } else { 1 }, 1]
}

impl Shape {
    fn new(
        config: &ModelConfig,
        dtype: Dtype,
        packing: Packing,
        (multiprocessors, shared_bytes): (usize, usize),
    ) -> Self {
        let most_shared_bytes = shared_bytes.saturating_sub(STATIC_BYTES);
        Self { config: config.clone(), dtype, packing, multiprocessors, most_shared_bytes }
    }

    fn gated(&self) -> bool {
        self.config.activation == Activation::SiluGated
    }

    fn element_bytes(&self) -> usize {
        if self.dtype == Dtype::F32 { 4 } else { 2 }
    }

    /// The address of a row.
    fn row(&self, base: u64, row: usize, width: usize) -> u64 {
        base + (row * width * self.element_bytes()) as u64
    }

    fn inputs(&self, layer: Layer) -> usize {
        match layer {
            Layer::NormQkv | Layer::NormUp | Layer::NormLogits => self.config.hidden,
            Layer::Output => self.config.heads * self.config.head_dim,
            Layer::Down => self.config.intermediate,
        }
    }

    fn group_size(&self, layer: Layer) -> usize {
        match self.packing {
            Packing::Awq { group_size: Some(group_size) } => group_size,
            _ => self.inputs(layer),
        }
    }

    fn pairs(&self, layer: Layer) -> usize {
        let config = &self.config;
        match layer {
            Layer::NormQkv => (config.heads + 2 * config.kv_heads) * config.head_dim / 2,
            Layer::Output | Layer::Down => config.hidden / 2,
            Layer::NormUp if self.gated() => config.intermediate,
            Layer::NormUp => config.intermediate / 2,
            Layer::NormLogits => config.vocabulary.div_ceil(2),
        }
    }

    /// One block a multiprocessor, each with as many pairs as another, as far as that goes; four-bit weights in whole tiles of
    /// eight pairs.
    fn cut(&self, layer: Layer, packing: Packing) -> Cut {
        let pairs = self.pairs(layer);
        let least = if matches!(packing, Packing::Awq { .. }) { 8 } else { 1 };
        let pairs_a_block = pairs.div_ceil(self.multiprocessors.max(1)).next_multiple_of(least);
        Cut { blocks: pairs.div_ceil(pairs_a_block), pairs_a_block }
    }

    /// Elements between two rows of activations in shared memory; as `Layout::STRIDE` has it.
    fn stride(&self, layer: Layer, packing: Packing) -> usize {
        let block = match packing {
            Packing::Dense => 64 / self.element_bytes(),
            Packing::Int8 => 64,
            Packing::Awq { .. } => 128,
        };
        let blocks = self.inputs(layer).div_ceil(block);
        let padding = match packing {
            Packing::Dense if self.dtype == Dtype::F32 || blocks % 2 == 1 => 0,
            Packing::Dense => 32,
            Packing::Int8 | Packing::Awq { .. } => 8,
        };
        blocks * block + padding
    }

    /// Dynamic shared memory: the blocks of weights on their way, the warps' sums, the activations.
    fn shared_bytes(&self, layer: Layer, packing: Packing, rows: usize) -> usize {
        // Sixteen rows' 64 bytes, and the words of their groups: one or more for each in a block of 128 inputs.
        let segments = match packing {
            Packing::Awq { .. } => segments_a_block(self.group_size(layer)),
            Packing::Dense | Packing::Int8 => 0,
        };
        WARPS * DEPTH * 16 * (64 + 4 * segments)
            + WARPS * rows * (8 << pass_shift(rows))
            + rows * self.stride(layer, packing) * self.element_bytes()
    }

    /// The most rows that shared memory holds.
    fn rows_a_launch(&self, layer: Layer, packing: Packing) -> usize {
        let fits = |rows: &usize| self.shared_bytes(layer, packing, *rows) <= self.most_shared_bytes;
        (0..=MAX_ROWS).rev().find(fits).unwrap_or(0)
    }

    fn options(&self, packing: Packing) -> Options {
        let config = &self.config;
        let (weights, group_size) = match packing {
            Packing::Dense => (0, 0),
            Packing::Int8 => (1, 0),
            Packing::Awq { group_size } => (2, group_size.unwrap_or(0)),
        };
        let element = match self.dtype {
            Dtype::F32 => 0,
            Dtype::F16 | Dtype::Int8 | Dtype::Awq => 1,
            Dtype::Bf16 => 2,
        };
        Options::default()
            .with("ELEMENT", element)
            .with("WEIGHTS", weights)
            .with("GROUP_SIZE", group_size)
            .with("HIDDEN", config.hidden)
            .with("INTERMEDIATE", config.intermediate)
            .with("HEADS", config.heads)
            .with("KV_HEADS", config.kv_heads)
            .with("HEAD_DIM", config.head_dim)
            .with("QKV", (config.heads + 2 * config.kv_heads) * config.head_dim)
            .with("VOCABULARY", config.vocabulary)
            .with("CONTEXT", config.context_tokens)
            .with("EPSILON", format!("{:?}f", config.norm_epsilon as f32))
            .with("LAYER_NORM", u8::from(config.norm == NormKind::Layer))
            .with("GATED", u8::from(self.gated()))
            .with("ROTARY", u8::from(matches!(config.position, PositionKind::Rotary { .. })))
    }

    /// The row counts that a kernel is compiled for. Tensor cores take eight rows as fast as one.
    fn compiled_rows(&self) -> &'static [usize] {
        if self.dtype == Dtype::F32 { &[1, 2, 4, 8] } else { &[8] }
    }

    fn variants(&self, module: &Module, layer: Layer) -> Result<Variants, EngineError> {
        let name = match layer {
            Layer::NormQkv => "norm_qkv",
            Layer::Output => "output",
            Layer::NormUp => "norm_up",
            Layer::Down => "down",
            Layer::NormLogits => "norm_logits",
        };
        let variant = |rows: &usize| Ok((*rows, module.kernel(&format!("{name}_{rows}"), self.most_shared_bytes)?));
        self.compiled_rows().iter().map(variant).collect()
    }

    fn kernels(&self, module: &Module) -> Result<Kernels, EngineError> {
        Ok(Kernels {
            norm_qkv: self.variants(module, Layer::NormQkv)?,
            output: self.variants(module, Layer::Output)?,
            norm_up: self.variants(module, Layer::NormUp)?,
            down: self.variants(module, Layer::Down)?,
        })
    }
}

#[cfg(test)]
#[path = "gemv_measure.rs"]
mod measure;
#[cfg(test)]
#[path = "gemv_tests.rs"]
mod tests;
