//! GEMM in half precision for the few rows of a decode step, which begins to read its weights while the kernel before it ends.

use super::gemm_f32::{Epilogue, Gemm, Reduction};
use crate::EngineError;
use crate::cuda::compile::{Options, Source};
use crate::cuda::device::Device;
use crate::cuda::element::ElementType;
use crate::cuda::kernel::{Grid, Kernel, Module};

const SOURCE: Source = Source {
    name: "gemm_few",
    text: concat!(include_str!("../kernels/highest.cuh"), include_str!("../kernels/gemm_few.cu")),
};

/// Threads of a block; as in `gemm_few.cu`.
const THREADS: usize = 256;
/// Rows of a GEMM at most: with more, x is read more often than the caches are fast.
pub(crate) const MAX_ROWS: usize = 64;
/// Shared memory of which a multiprocessor holds one block: a launch that has no more blocks than multiprocessors takes so much, or the next
/// launch's would be put in pairs beside those of this one that end first.
const ALONE_BYTES: usize = 116 << 10;

/// What a block computes at a time; as in `gemm_few.cu`.
#[derive(Debug)]
struct Tile {
    kernel: &'static str,
    rows: usize,
    /// Of W, both halves where gated.
    outputs: usize,
    step: usize,
    stages: usize,
    gated: bool,
    /// Blocks that share a tile's inputs.
    parts: usize,
}

/// Those that split no sums first.
const TILES: [Tile; 12] = [
    Tile { kernel: "gemm_16_16", rows: 16, outputs: 16, step: 128, stages: 12, gated: false, parts: 1 },
    Tile { kernel: "gemm_16_32", rows: 16, outputs: 32, step: 128, stages: 8, gated: false, parts: 1 },
    Tile { kernel: "gemm_16_64", rows: 16, outputs: 64, step: 128, stages: 5, gated: false, parts: 1 },
    Tile { kernel: "gemm_32_32", rows: 32, outputs: 32, step: 128, stages: 6, gated: false, parts: 1 },
    Tile { kernel: "gemm_32_64", rows: 32, outputs: 64, step: 64, stages: 8, gated: false, parts: 1 },
    Tile { kernel: "gemm_64_32", rows: 64, outputs: 32, step: 64, stages: 8, gated: false, parts: 1 },
    Tile { kernel: "gemm_64_64", rows: 64, outputs: 64, step: 64, stages: 6, gated: false, parts: 1 },
    Tile { kernel: "gemm_16_32_gated", rows: 16, outputs: 32, step: 128, stages: 8, gated: true, parts: 1 },
    Tile { kernel: "gemm_16_64_gated", rows: 16, outputs: 64, step: 128, stages: 5, gated: true, parts: 1 },
    Tile { kernel: "gemm_16_32_split_4", rows: 16, outputs: 32, step: 128, stages: 6, gated: false, parts: 4 },
    Tile { kernel: "gemm_32_32_split_2", rows: 32, outputs: 32, step: 128, stages: 6, gated: false, parts: 2 },
    Tile { kernel: "gemm_32_32_split_4", rows: 32, outputs: 32, step: 128, stages: 6, gated: false, parts: 4 },
];

/// The compute capability that has clusters of blocks, for split sums.
const CLUSTERS: (i32, i32) = (9, 0);
/// Steps that a block has to sum at least where it sums a part.
const LEAST_STEPS: usize = 4;

impl Tile {
    fn shared_bytes(&self) -> usize {
        let sums = if self.parts > 1 { self.rows * self.outputs * size_of::<f32>() } else { 0 };
        (self.rows + self.outputs) * self.step * size_of::<u16>() * self.stages + sums
    }

    fn takes(&self, gemm: &Gemm) -> bool {
        // More tiles of rows than one pay where x is small; of gated ones never.
        self.gated == (gemm.epilogue == Epilogue::Gate)
            && (!self.gated || gemm.rows <= self.rows)
            && (self.parts == 1
                || gemm.inputs / self.step >= self.parts * LEAST_STEPS && gemm.epilogue != Epilogue::Highest)
    }
}

/// The kernels.
#[derive(Debug)]
pub(crate) struct GemmFew {
    /// In the order of [`TILES`]; only the first where a GPU has no clusters.
    kernels: Vec<Kernel>,
}

impl GemmFew {
    /// Compiles or finds the kernels; `None` on GPUs whose blocks have less shared memory than they take.
    pub(crate) fn load(device: &Device, element: ElementType) -> Result<Option<Self>, EngineError> {
        if element == ElementType::F32 || device.shared_bytes < ALONE_BYTES {
            return Ok(None);
        }
        let module = Module::load(device, SOURCE, &options(element))?;
        let tiles = TILES.iter().filter(|tile| tile.parts == 1 || device.capability >= CLUSTERS);
        let kernels: Result<_, _> = tiles.map(|tile| module.kernel(tile.kernel, ALONE_BYTES)).collect();
        Ok(Some(Self { kernels: kernels? }))
    }

    /// The numbers of the tiles by which the kernels can compute a GEMM; in invariant mode of those that split no sums.
    pub(crate) fn tiles(&self, gemm: &Gemm, reduction: Reduction) -> impl Iterator<Item = usize> + use<> {
        let gemm = *gemm;
        (0..self.kernels.len()).filter(move |tile| {
            let tile = &TILES[*tile];
            supports(&gemm) && tile.takes(&gemm) && (tile.parts == 1 || reduction == Reduction::Fastest)
        })
    }

    /// Enqueues a GEMM by one of its [`GemmFew::tiles`].
    pub(crate) fn launch(&self, device: &Device, gemm: &Gemm, tile: usize) -> Result<(), EngineError> {
        let (kernel, tile) = (&self.kernels[tile], &TILES[tile]);
        assert!(supports(gemm) && tile.takes(gemm), "{gemm:?} is not supported by {tile:?}");
        let (columns, down) = (gemm.outputs.div_ceil(tile.outputs), gemm.rows.div_ceil(tile.rows));
        let alone = columns * down * tile.parts <= device.multiprocessors;
        let grid = Grid {
            blocks: (columns, down, tile.parts),
            threads: THREADS,
            shared_bytes: if alone { ALONE_BYTES } else { tile.shared_bytes() },
            overlaps: gemm.overlaps,
        };
        let epilogue = match gemm.epilogue {
            Epilogue::Store | Epilogue::Gate => 0_usize,
            Epilogue::Add => 1,
            Epilogue::Relu => 2,
            Epilogue::Highest => 3,
        };
        let arguments = [
            gemm.x.into(),
            gemm.weights.into(),
            gemm.bias.into(),
            gemm.y.into(),
            gemm.rows.into(),
            gemm.outputs.into(),
            gemm.inputs.into(),
            epilogue.into(),
            usize::from(gemm.f32_output).into(),
        ];
        kernel.launch(device, grid, &arguments)
    }
}

fn options(element: ElementType) -> Options {
    Options::default().with("ELEMENT", element.code())
}

/// Whether the kernels can read the operands, 16 bytes at a time, and write pairs of outputs.
fn supports(gemm: &Gemm) -> bool {
    let outputs = if gemm.epilogue == Epilogue::Gate { 4 } else { 2 };
    gemm.rows <= MAX_ROWS
        && gemm.inputs.is_multiple_of(8)
        && gemm.outputs.is_multiple_of(outputs)
        && (gemm.x | gemm.weights).is_multiple_of(16)
        && (gemm.y | gemm.bias).is_multiple_of(4)
        && match gemm.epilogue {
            Epilogue::Store => !gemm.f32_output || gemm.y.is_multiple_of(8),
            Epilogue::Highest => gemm.f32_output && gemm.y.is_multiple_of(8),
            _ => !gemm.f32_output,
        }
}

#[cfg(test)]
#[path = "gemm_few_tests.rs"]
mod tests;
