//! The highest logit of each row.

use crate::engine::EngineError;
use crate::engine::cuda::compile::{Options, Source};
use crate::engine::cuda::device::Device;
use crate::engine::cuda::kernel::{Grid, Kernel, Module};

const SOURCE: Source = Source { name: "argmax", text: include_str!("../kernels/argmax.cu") };

/// As in the kernel.
const THREADS: usize = 1024;

/// The kernel, compiled for one vocabulary.
#[derive(Debug)]
pub(crate) struct Argmax {
    kernel: Kernel,
    /// Whether NVRTC had to compile it.
    pub(crate) compiled: bool,
}

impl Argmax {
    /// Compiles or finds the kernel.
    pub(crate) fn load(device: &Device, vocabulary: usize) -> Result<Self, EngineError> {
        let module = Module::load(device, SOURCE, &options(vocabulary))?;
        Ok(Self { kernel: module.kernel("argmax", 0)?, compiled: module.compiled })
    }

    /// `chosen` i32 `[rows]` = the lowest index of the highest of `logits` f32 `[rows, vocabulary]`, −1 where one is not finite;
    /// `next_tokens[slots[row]]` the same.
    pub(crate) fn choose(
        &self,
        device: &Device,
        logits: u64,
        rows: usize,
        chosen: u64,
        next_tokens: u64,
        slots: u64,
    ) -> Result<(), EngineError> {
        let arguments = [logits, chosen, next_tokens, slots].map(Into::into);
        self.kernel.launch(device, Grid::line(rows, THREADS), &arguments)
    }
}

fn options(vocabulary: usize) -> Options {
    Options::default().with("VOCABULARY", vocabulary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cuda::buffer::Buffer;
    use crate::engine::cuda::testing::{card, compiles, values};

    #[test]
    fn the_kernel_compiles_without_a_card() {
        for vocabulary in [515, 32_000, 151_936] {
            compiles(SOURCE, &options(vocabulary), (8, 0));
            compiles(SOURCE, &options(vocabulary), (9, 0));
        }
    }

    #[test]
    fn the_first_of_the_highest_wins_and_what_is_not_finite_is_told() {
        let Some(device) = card() else { return };
        for vocabulary in [1, 31, 515, 32_000] {
            let kernel = Argmax::load(&device, vocabulary).unwrap();
            let rows = 9;
            let mut logits = values(rows * vocabulary, 3);
            // Equals: the highest stands at two places, in whatever threads they fall.
            for row in 0..rows {
                let (first, second) = (row * 7 % vocabulary, (row * 1031 + 5) % vocabulary);
                logits[row * vocabulary + first] = 50.0;
                logits[row * vocabulary + second] = 50.0;
            }
            logits[3 * vocabulary + vocabulary / 2] = f32::NAN;
            logits[4 * vocabulary] = f32::INFINITY;
            logits[5 * vocabulary + vocabulary - 1] = f32::NEG_INFINITY;
            let expected: Vec<i32> = logits
                .chunks(vocabulary)
                .map(|row| {
                    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let finite = row.iter().all(|value| value.is_finite());
                    if finite { row.iter().position(|value| *value == highest).unwrap() as i32 } else { -1 }
                })
                .collect();
            let on_card = Buffer::of(&device, &logits).unwrap();
            let slots: Vec<i32> = (0..rows as i32).map(|row| (row + 2) % rows as i32).collect();
            let slots_on_card = Buffer::of(&device, &slots).unwrap();
            let [chosen, next] = [0, 1].map(|_| Buffer::of(&device, &vec![-7_i32; rows]).unwrap());
            kernel
                .choose(&device, on_card.pointer(), rows, chosen.pointer(), next.pointer(), slots_on_card.pointer())
                .unwrap();
            assert_eq!(chosen.read::<i32>(&device, 0, rows).unwrap(), expected);
            let next = next.read::<i32>(&device, 0, rows).unwrap();
            for (row, slot) in slots.iter().enumerate() {
                assert_eq!(next[*slot as usize], expected[row].max(0));
            }
        }
    }
}
