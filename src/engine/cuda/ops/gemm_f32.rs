//! Products of binary32 operands whose sums are binary64, on the FP64 tensor cores of Hopper.
//!
//! Those are as fast as its FP32 units, so that exact products and wider sums cost nothing, and one instruction multiplies 2,048
//! pairs, which leaves issue slots for everything else. At 1,319 rows of `TinyLlama`'s shapes this kernel makes 48–58 TFLOP/s on an
//! H100, where cuBLAS's SGEMM makes 44–48 (44–51 with the best of its algorithms) for want of balanced rounds and of issue slots.
//!
//! Tried and slower: widening by moving bits as whole numbers instead of by conversions, tiles of 128 rows, instructions of eight
//! inputs, three blocks a multiprocessor. How the compiler orders conversions and multiplications within a step decides 10 %, and
//! small changes far from the loop decide how it orders them: measure after any (`measure_f32_products`).

use crate::engine::EngineError;
use crate::engine::cuda::buffer::Buffer;
use crate::engine::cuda::compile::{Options, Source};
use crate::engine::cuda::device::Device;
use crate::engine::cuda::kernel::{Grid, Kernel, Module};

const SOURCE: Source = Source { name: "gemm_f32", text: include_str!("../kernels/gemm_f32.cu") };

/// The cards whose tensor cores multiply binary64 as fast as their other units multiply binary32. Later ones do not.
const CAPABILITY: (i32, i32) = (9, 0);
/// Outputs of a tile, inputs of a step, threads of a block; as in `gemm_f32.cu`.
const TILE: usize = 64;
const STEP: usize = 32;
const THREADS: usize = 128;
/// Rows of a tile: the first that holds all of a product's, else the last.
const TILE_ROWS: [usize; 2] = [16, 64];
/// Such blocks that a multiprocessor holds.
const RESIDENT: usize = 2;
/// A tile's sums in binary64, as a block hands them to another.
const PART_BYTES: usize = TILE_ROWS[1] * TILE * size_of::<f64>();
/// Rows of tiles that blocks go down before they go across.
const PANEL: usize = 16;
/// Sharing out the last round pays from so many idle steps a block on, for the parts have to be written and added up.
const STEPS_OF_SHARING: usize = 6;

/// Whether a row's bits may depend on how many rows share its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// One order of every sum, whatever the number of rows.
    Invariant,
    /// What is fastest for the number of rows.
    Fastest,
}

/// What becomes of a product's sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// y = x · Wᵀ (+ bias).
    Store,
    /// y += x · Wᵀ (+ bias), rounded once.
    Add,
    /// y = silu(gate) · up, where the first half of W's rows (and of the bias) give the gates: by our own kernel only.
    Gate,
}

/// One product of x and W.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) rows: usize,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// element `[outputs, inputs]`; no kernel that is still under way writes there.
    pub(crate) weights: u64,
    /// element `[outputs]`, 0 for none.
    pub(crate) bias: u64,
    /// element `[rows, inputs]`.
    pub(crate) x: u64,
    /// `[rows, outputs]`, or `[rows, outputs / 2]` behind gates; of element, or of binary32 where `wide`.
    pub(crate) y: u64,
    pub(crate) finish: Finish,
    pub(crate) wide: bool,
    /// Programmatic dependent launch, where the kernel is one of ours.
    pub(crate) overlaps: bool,
}

/// The kernels, and where their blocks meet.
#[derive(Debug)]
pub(crate) struct ProductKernel {
    /// Without gates and with, for each of [`TILE_ROWS`].
    kernels: [[Kernel; 2]; 2],
    blocks: usize,
    /// f64 `[2 · blocks][TILE_ROWS · TILE]`: what blocks add to tiles that they share.
    partial: Buffer,
    /// i32 `[2 · blocks]`: parts of a shared tile that are there, then blocks that have seen them all; launches find zeros and leave
    /// zeros.
    arrivals: Buffer,
}

impl ProductKernel {
    /// Compiles or finds the kernels; `None` on cards that they are not for.
    pub(crate) fn load(device: &Device) -> Result<Option<Self>, EngineError> {
        if device.capability != CAPABILITY {
            return Ok(None);
        }
        let load = |tile_rows: usize| -> Result<[Kernel; 2], EngineError> {
            let module = Module::load(device, SOURCE, &options(tile_rows))?;
            let kernel = |name| module.kernel(name, shared_bytes(tile_rows));
            Ok([kernel("gemm_f32_plain")?, kernel("gemm_f32_gated")?])
        };
        let (few, many) = rayon::join(|| load(TILE_ROWS[0]), || load(TILE_ROWS[1]));
        let blocks = RESIDENT * device.multiprocessors;
        let partial = Buffer::new(device, 2 * blocks * PART_BYTES)?;
        let arrivals = Buffer::new(device, 2 * blocks * size_of::<i32>())?;
        arrivals.fill(device, 0)?;
        Ok(Some(Self { kernels: [few?, many?], blocks, partial, arrivals }))
    }

    /// Enqueues a product of binary32 operands that [`supports`] takes.
    pub(crate) fn multiply(&self, device: &Device, product: &Product, reduction: Reduction) -> Result<(), EngineError> {
        assert!(supports(product), "{product:?} is not for this kernel");
        let Product { rows, outputs, inputs, .. } = *product;
        let size = size(rows);
        let tile_rows = TILE_ROWS[size];
        let schedule = Schedule::new((rows, outputs, inputs), tile_rows, self.blocks, reduction);
        let overlaps = product.overlaps;
        let grid = Grid { shared_bytes: shared_bytes(tile_rows), overlaps, ..Grid::line(self.blocks, THREADS) };
        let arguments = [
            product.x.into(),
            product.weights.into(),
            product.bias.into(),
            product.y.into(),
            rows.into(),
            outputs.into(),
            inputs.into(),
            usize::from(product.finish == Finish::Add).into(),
            schedule.rounds.into(),
            schedule.share.into(),
            schedule.panel.into(),
            self.partial.pointer().into(),
            self.arrivals.pointer().into(),
        ];
        self.kernels[size][usize::from(product.finish == Finish::Gate)].launch(device, grid, &arguments)
    }
}

/// Which of [`TILE_ROWS`] a product takes.
fn size(rows: usize) -> usize {
    usize::from(rows > TILE_ROWS[0])
}

fn options(tile_rows: usize) -> Options {
    Options::default().with("TILE_ROWS", tile_rows)
}

/// Stages of a step of the tile's rows of x and of W, as many as `gemm_f32.cu` has.
fn shared_bytes(tile_rows: usize) -> usize {
    let stages = if tile_rows == TILE_ROWS[1] { 3 } else { 6 };
    stages * (tile_rows + TILE) * STEP * size_of::<f32>()
}

/// Whether the kernel can read lines of so many inputs: 16 bytes at a time.
pub(crate) fn reads(inputs: usize) -> bool {
    inputs.is_multiple_of(4)
}

/// Whether the kernel can read the operands: 16 bytes at a time, by offsets of 32 bits.
pub(crate) fn supports(product: &Product) -> bool {
    let addressed = |lines: usize| lines * product.inputs < 1 << 32;
    reads(product.inputs)
        && (product.finish != Finish::Gate || product.outputs.is_multiple_of(2))
        && (product.x | product.weights).is_multiple_of(16)
        && addressed(product.rows)
        && addressed(product.outputs)
}

/// How the blocks of a launch share out its tiles, and the steps of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Schedule {
    /// Whole tiles of a block at most.
    rounds: usize,
    /// Steps of a block in the tiles behind the rounds, of which there may be none.
    share: usize,
    /// Rows of tiles that blocks go down before they go across.
    panel: usize,
}

impl Schedule {
    /// Of a product `(rows, outputs, inputs)`.
    ///
    /// Where blocks take whole tiles, every sum runs in the order of its inputs, wherever its row lies. Where the last round
    /// would leave many blocks idle, its tiles are shared out by steps ("stream-K"): then the order of a sum depends on the
    /// number of tiles, hence of rows.
    fn new(
        (rows, outputs, inputs): (usize, usize, usize),
        tile_rows: usize,
        blocks: usize,
        reduction: Reduction,
    ) -> Self {
        let (down, steps) = (rows.div_ceil(tile_rows), inputs.div_ceil(STEP));
        let tiles = down * outputs.div_ceil(TILE);
        let panel = down.div_ceil(down.div_ceil(PANEL));
        let rounds = tiles.div_ceil(blocks);
        let idle = (rounds * blocks - tiles) * steps;
        if reduction == Reduction::Invariant || idle <= STEPS_OF_SHARING * blocks {
            return Self { rounds, share: 1, panel };
        }
        let rounds = tiles / blocks;
        let left = (tiles - rounds * blocks) * steps;
        Self { rounds, share: left.div_ceil(blocks), panel }
    }
}

#[cfg(test)]
#[path = "gemm_f32_tests.rs"]
mod tests;
