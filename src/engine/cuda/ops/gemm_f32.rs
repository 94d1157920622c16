//! GEMM of binary32 operands with binary64 sums, on the FP64 tensor cores of Hopper, and the types that describe any GEMM.
//!
//! Those tensor cores are as fast as Hopper's FP32 units, so that exact products and wider sums cost nothing, and one instruction
//! multiplies 2,048 pairs, which leaves issue slots for everything else. At 1,319 rows of `TinyLlama`'s shapes this kernel reaches
//! 48–58 TFLOP/s on an H100, where cuBLAS's SGEMM reaches 44–48 (44–51 with the best of its algorithms) for want of balanced waves
//! and of issue slots. How the compiler orders conversions and multiplications within a step decides 10 %, and small changes far
//! from the loop decide how it orders them: measure after any (`measure_f32_gemms`).

use crate::EngineError;
use crate::cuda::buffer::Buffer;
use crate::cuda::compile::{Options, Source};
use crate::cuda::device::Device;
use crate::cuda::kernel::{Grid, Kernel, Module};

const SOURCE: Source = Source { name: "gemm_f32", text: include_str!("../kernels/gemm_f32.cu") };

/// The compute capability whose tensor cores multiply binary64 as fast as its other units multiply binary32. Later ones do not.
const CAPABILITY: (i32, i32) = (9, 0);
/// Outputs of a tile, inputs of a step, threads of a block; as in `gemm_f32.cu`.
const TILE: usize = 64;
const STEP: usize = 32;
const THREADS: usize = 128;
/// Rows of a tile: the first number that holds all rows of a GEMM, else the last.
const TILE_ROWS: [usize; 2] = [16, 64];
/// Blocks that are resident on a multiprocessor.
const RESIDENT: usize = 2;
/// Bytes of a tile's partial sums in binary64, which blocks exchange.
const PART_BYTES: usize = TILE_ROWS[1] * TILE * size_of::<f64>();
/// Row tiles that are numbered before the next column of tiles; see `Tiles` in `gemm_f32.cu`.
const PANEL: usize = 16;
/// The last round is shared out from so many idle steps a block on, because partial sums have to be written and added up.
const STEPS_OF_SHARING: usize = 6;

/// Whether a row's bits may depend on how many rows share its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// One order of every sum, whatever the number of rows.
    Invariant,
    /// What is fastest for the number of rows.
    Fastest,
}

/// What is done with the sums of a GEMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Epilogue {
    /// y = x · Wᵀ (+ bias).
    Store,
    /// y += x · Wᵀ (+ bias), rounded once.
    Add,
    /// y = max(x · Wᵀ (+ bias), 0): not by [`GemmF32`].
    Relu,
    /// y = silu(gate) · up, where the first half of W's rows (and of the bias) are the gates: not by cuBLASLt.
    Gate,
    /// y, u64 `[rows]`, takes the key (`highest.cuh`) of the row's highest of x · Wᵀ (+ bias) where it is higher: only by
    /// [`super::gemm_few::GemmFew`], of what would be stored in binary32.
    Highest,
}

/// One GEMM: y = x · Wᵀ with an epilogue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gemm {
    pub(crate) rows: usize,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// element `[outputs, inputs]`; no kernel that may still run writes there.
    pub(crate) weights: u64,
    /// element `[outputs]`, 0 for none.
    pub(crate) bias: u64,
    /// element `[rows, inputs]`.
    pub(crate) x: u64,
    /// `[rows, outputs]`, or `[rows, outputs / 2]` where gated; of element, or of binary32 where `f32_output`.
    pub(crate) y: u64,
    pub(crate) epilogue: Epilogue,
    pub(crate) f32_output: bool,
    /// Programmatic dependent launch, where the kernel is one of ours.
    pub(crate) overlaps: bool,
}

/// The kernels, and the workspace through which their blocks exchange partial sums.
#[derive(Debug)]
pub(crate) struct GemmF32 {
    /// Without gates and with, for each of [`TILE_ROWS`].
    kernels: [[Kernel; 2]; 2],
    blocks: usize,
    /// f64 `[2 · blocks, TILE_ROWS · TILE]`: partial sums of shared tiles.
    partial: Buffer,
    /// i32 `[2 · blocks]`: arrivals at shared tiles; zero before and after a launch.
    arrivals: Buffer,
}

impl GemmF32 {
    /// Compiles or finds the kernels; `None` on GPUs that they are not for.
    pub(crate) fn load(device: &Device) -> Result<Option<Self>, EngineError> {
        if device.capability != CAPABILITY {
            return Ok(None);
        }
        let load = |tile_rows: usize| -> Result<[Kernel; 2], EngineError> {
            let module = Module::load(device, SOURCE, &options(tile_rows))?;
            let kernel = |name| module.kernel(name, shared_bytes(tile_rows));
            Ok([kernel("gemm_f32_plain")?, kernel("gemm_f32_gated")?])
        };
        let (small, large) = rayon::join(|| load(TILE_ROWS[0]), || load(TILE_ROWS[1]));
        let blocks = RESIDENT * device.multiprocessors;
        let partial = Buffer::new(device, 2 * blocks * PART_BYTES)?;
        let arrivals = Buffer::new(device, 2 * blocks * size_of::<i32>())?;
        arrivals.fill(device, 0)?;
        Ok(Some(Self { kernels: [small?, large?], blocks, partial, arrivals }))
    }

    /// Enqueues a GEMM of binary32 operands that [`supports`] accepts.
    pub(crate) fn launch(&self, device: &Device, gemm: &Gemm, reduction: Reduction) -> Result<(), EngineError> {
        assert!(supports(gemm), "{gemm:?} is not supported by this kernel");
        let Gemm { rows, outputs, inputs, .. } = *gemm;
        let size = size(rows);
        let tile_rows = TILE_ROWS[size];
        let schedule = Schedule::new((rows, outputs, inputs), tile_rows, self.blocks, reduction);
        let overlaps = gemm.overlaps;
        let grid = Grid { shared_bytes: shared_bytes(tile_rows), overlaps, ..Grid::line(self.blocks, THREADS) };
        let arguments = [
            gemm.x.into(),
            gemm.weights.into(),
            gemm.bias.into(),
            gemm.y.into(),
            rows.into(),
            outputs.into(),
            inputs.into(),
            usize::from(gemm.epilogue == Epilogue::Add).into(),
            schedule.rounds.into(),
            schedule.share.into(),
            schedule.panel.into(),
            self.partial.pointer().into(),
            self.arrivals.pointer().into(),
        ];
        self.kernels[size][usize::from(gemm.epilogue == Epilogue::Gate)].launch(device, grid, &arguments)
    }
}

/// Which of [`TILE_ROWS`] a GEMM takes.
fn size(rows: usize) -> usize {
    usize::from(rows > TILE_ROWS[0])
}

fn options(tile_rows: usize) -> Options {
    Options::default().with("TILE_ROWS", tile_rows)
}

/// Bytes of the pipeline stages: as in `gemm_f32.cu`.
fn shared_bytes(tile_rows: usize) -> usize {
    let stages = if tile_rows == TILE_ROWS[1] { 3 } else { 6 };
    stages * (tile_rows + TILE) * STEP * size_of::<f32>()
}

/// Whether the kernel can read rows of so many inputs, which it does 16 bytes at a time.
pub(crate) fn reads(inputs: usize) -> bool {
    inputs.is_multiple_of(4)
}

/// Whether the kernel can read the operands: 16 bytes at a time, by offsets of 32 bits.
pub(crate) fn supports(gemm: &Gemm) -> bool {
    let addressed = |lines: usize| lines * gemm.inputs < 1 << 32;
    reads(gemm.inputs)
        && !matches!(gemm.epilogue, Epilogue::Relu | Epilogue::Highest)
        && (gemm.epilogue != Epilogue::Gate || gemm.outputs.is_multiple_of(2))
        && (gemm.x | gemm.weights).is_multiple_of(16)
        && addressed(gemm.rows)
        && addressed(gemm.outputs)
}

/// How the blocks of a launch share out its tiles, and the steps of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Schedule {
    /// Whole tiles of a block at most.
    rounds: usize,
    /// Steps of a block in the tiles after the rounds, of which there may be none.
    share: usize,
    /// Row tiles that are numbered before the next column of tiles; see `Tiles` in `gemm_f32.cu`.
    panel: usize,
}

impl Schedule {
    /// Of a GEMM `(rows, outputs, inputs)`.
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
