//! Greedy sampling: the highest logit of every row.

use crate::EngineError;
use crate::cuda::buffer::Buffer;
use crate::cuda::compile::{Options, Source};
use crate::cuda::device::Device;
use crate::cuda::kernel::{Grid, Kernel, Module};

const SOURCE: Source = Source {
    name: "argmax",
    text: concat!(include_str!("../kernels/highest.cuh"), include_str!("../kernels/argmax.cu")),
};
/// Threads of a block; as in `argmax.cu`.
const THREADS: usize = 256;
/// Logits that a thread reads at least before a row is split over more blocks.
const LOGITS_A_THREAD: usize = 8;
/// Rows of one launch at most.
pub(crate) const MAX_ROWS: usize = 2048;

/// The kernels of one vocabulary, and their workspace.
#[derive(Debug)]
pub(crate) struct Argmax {
    of_logits: Kernel,
    of_keys: Kernel,
    vocabulary: usize,
    multiprocessors: usize,
    /// u64 `[MAX_ROWS]` and u32 `[MAX_ROWS]`; zero before and after a launch.
    workspace: Buffer,
}

impl Argmax {
    /// Compiles or finds the kernel.
    pub(crate) fn load(device: &Device, vocabulary: usize) -> Result<Self, EngineError> {
        let module = Module::load(device, SOURCE, &options(vocabulary))?;
        let workspace = Buffer::new(device, MAX_ROWS * 12)?;
        workspace.fill(device, 0)?;
        device.synchronize()?;
        Ok(Self {
            of_logits: module.kernel("argmax", 0)?,
            of_keys: module.kernel("take_highest", 0)?,
            vocabulary,
            multiprocessors: device.multiprocessors,
            workspace,
        })
    }

    /// Where a GEMM may leave its rows' highest keys, u64 `[MAX_ROWS]`, for [`Argmax::take`].
    pub(crate) fn highest(&self) -> u64 {
        self.workspace.pointer()
    }

    /// What [`Argmax::launch`] does, of rows whose highest keys are at [`Argmax::highest`].
    pub(crate) fn take(
        &self,
        device: &Device,
        rows: usize,
        out_tokens: u64,
        (next_tokens, slots): (u64, u64),
        overlaps: bool,
    ) -> Result<(), EngineError> {
        assert!(rows <= MAX_ROWS, "{rows} rows of keys in one launch");
        let grid = Grid { overlaps, ..Grid::line(rows.div_ceil(THREADS), THREADS) };
        let arguments =
            [self.workspace.pointer().into(), out_tokens.into(), next_tokens.into(), slots.into(), rows.into()];
        self.of_keys.launch(device, grid, &arguments)
    }

    /// Of `logits` f32 `[rows, vocabulary]`, up to [`MAX_ROWS`] rows, the lowest index of the highest: `out_tokens` i32
    /// `[rows]`, −1 where any of the row's logits is not finite; and `next_tokens[slots[row]]`, 0 in that case, left alone
    /// where the slot is below 0.
    pub(crate) fn launch(
        &self,
        device: &Device,
        logits: u64,
        rows: usize,
        out_tokens: u64,
        (next_tokens, slots): (u64, u64),
        overlaps: bool,
    ) -> Result<(), EngineError> {
        assert!(rows <= MAX_ROWS, "{rows} rows of logits in one launch");
        let parts = parts(self.vocabulary, rows, self.multiprocessors);
        let grid = Grid { overlaps, blocks: (parts, rows, 1), ..Grid::line(0, THREADS) };
        let arguments = [
            logits.into(),
            self.workspace.pointer().into(),
            self.workspace.at(MAX_ROWS * 8).into(),
            out_tokens.into(),
            next_tokens.into(),
            slots.into(),
        ];
        self.of_logits.launch(device, grid, &arguments)
    }
}

fn options(vocabulary: usize) -> Options {
    Options::default().with("VOCABULARY", vocabulary)
}

/// Blocks a row: enough for few rows to fill the GPU, and no more than have something to do.
fn parts(vocabulary: usize, rows: usize, multiprocessors: usize) -> usize {
    let useful = vocabulary.div_ceil(THREADS * LOGITS_A_THREAD);
    let filling = (2 * multiprocessors).div_ceil(rows.max(1));
    useful.min(filling).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{Random, compiles, gpu};

    #[test]
    fn the_kernel_compiles() {
        compiles([2049, 32_000, 151_936].map(|vocabulary| (SOURCE, options(vocabulary))));
    }

    #[test]
    fn few_rows_are_cut_into_parts_and_many_are_not() {
        assert_eq!(parts(32_000, 1, 132), 16);
        assert_eq!(parts(32_000, 8, 132), 16);
        assert_eq!(parts(32_000, 264, 132), 1);
        assert_eq!(parts(100, 1, 132), 1);
    }

    /// The definition, in words: the first of the highest, and none where a number is not finite.
    fn expected(logits: &[f32]) -> i32 {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return -1;
        }
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        logits.iter().position(|logit| *logit == top).map_or(-1, |index| index as i32)
    }

    #[test]
    fn it_takes_the_first_of_the_highest() {
        let Some(device) = gpu() else { return };
        for vocabulary in [5, 2049, 32_000, 50_272, 151_936] {
            let argmax = Argmax::load(&device, vocabulary).unwrap();
            for rows in [1, 2, 7, 300, MAX_ROWS] {
                if rows * vocabulary > 40_000_000 {
                    continue;
                }
                let mut random = Random::new((vocabulary * 31 + rows) as u64);
                let mut logits: Vec<f32> =
                    (0..rows * vocabulary).map(|_| (random.normal() * 8.0).round() / 8.0).collect();
                for (row, logits) in logits.chunks_mut(vocabulary).enumerate() {
                    let last = vocabulary - 1;
                    match row % 11 {
                        1 => logits.fill(-3.5),
                        2 => logits[last] = f32::NAN,
                        3 => logits[random.below(vocabulary)] = f32::INFINITY,
                        4 => logits[0] = f32::NEG_INFINITY,
                        5 => logits[last] = 1e30,
                        6 => logits[0] = 1e30,
                        // Both zeros are one number: the first wins, whichever it is.
                        7 => {
                            logits.fill(-1.0);
                            logits[vocabulary / 2] = -0.0;
                            logits[last] = 0.0;
                        }
                        8 => logits.iter_mut().for_each(|logit| *logit = -1e-38 - logit.abs()),
                        _ => (),
                    }
                }
                let wanted: Vec<i32> = logits.chunks(vocabulary).map(expected).collect();
                // Every third row has no slot; the others' slots run backwards.
                let slots: Vec<i32> =
                    (0..rows).map(|row| if row % 3 == 2 { -1 } else { (rows - 1 - row) as i32 }).collect();
                let mut next: Vec<i32> = vec![-77; rows];
                for (slot, token) in slots.iter().zip(&wanted) {
                    if *slot >= 0 {
                        next[*slot as usize] = (*token).max(0);
                    }
                }
                let [logits, slots, tokens, next_tokens] = [
                    Buffer::of(&device, &logits),
                    Buffer::of(&device, &slots),
                    Buffer::of(&device, &vec![-99_i32; rows + 1]),
                    Buffer::of(&device, &vec![-77_i32; rows]),
                ]
                .map(Result::unwrap);
                // Twice: the second finds what the first left in the workspace.
                for overlaps in [false, true] {
                    tokens.fill(&device, 0x9d).unwrap();
                    let next_pointers = (next_tokens.pointer(), slots.pointer());
                    argmax.launch(&device, logits.pointer(), rows, tokens.pointer(), next_pointers, overlaps).unwrap();
                    let got: Vec<i32> = tokens.read(&device, 0, rows + 1).unwrap();
                    assert_eq!(got[..rows], wanted, "{rows} rows of {vocabulary}");
                    assert_eq!(got[rows].to_ne_bytes(), [0x9d; 4], "a write behind the rows");
                    assert_eq!(next_tokens.read::<i32>(&device, 0, rows).unwrap(), next, "{rows} rows of {vocabulary}");
                }
            }
        }
    }

    #[test]
    #[ignore = "a measurement"]
    fn measure_argmax() {
        let Some(device) = gpu() else { return };
        for (vocabulary, rows) in [(32_000, 1), (32_000, 8), (151_936, 1), (32_000, 1319)] {
            let argmax = Argmax::load(&device, vocabulary).unwrap();
            let sets = (1 << 28) / (rows * vocabulary * 4) + 1;
            let logits = Buffer::new(&device, sets * rows * vocabulary * 4).unwrap();
            logits.fill(&device, 0x3f).unwrap();
            let slots = Buffer::of(&device, &(0..rows as i32).collect::<Vec<_>>()).unwrap();
            let [tokens, next] = [(); 2].map(|()| Buffer::new(&device, rows * 4).unwrap());
            let launch = |set: usize| {
                let logits = logits.at(set % sets * rows * vocabulary * 4);
                argmax
                    .launch(&device, logits, rows, tokens.pointer(), (next.pointer(), slots.pointer()), true)
                    .unwrap();
            };
            let name = format!("argmax, {rows} rows of {vocabulary}");
            crate::cuda::testing::report(&device, &name, rows * vocabulary * 4, launch);
        }
    }
}
