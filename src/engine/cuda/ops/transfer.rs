//! What travels between host and device with a step, by way of pinned host memory.

use crate::EngineError;
use crate::cuda::buffer::{Buffer, Pinned};
use crate::cuda::compile::{Options, Source};
use crate::cuda::device::Device;
use crate::cuda::kernel::{Grid, Kernel, Module};

const SOURCE: Source = Source { name: "transfer", text: include_str!("../kernels/transfer.cu") };
/// Threads of a block; as in `transfer.cu`.
const THREADS: usize = 512;
/// i32 that a thread reads.
pub(crate) const WORDS_A_THREAD: usize = 4;

/// A ring of arrays that go up and of tokens that come down, in host memory that the device reads and writes.
#[derive(Debug)]
pub(crate) struct Transfer {
    receive: Kernel,
    send: Kernel,
    /// i32 `[ring, up_words]`.
    up: Pinned<i32>,
    up_words: usize,
    /// i32 `[ring, down_words]`.
    down: Pinned<i32>,
    down_words: usize,
    /// i32 `[1]`: the ring slot of the step that the device computes.
    turn: Buffer,
}

impl Transfer {
    /// Compiles or finds the kernels; a ring of `ring` slots, of at least so many words each.
    pub(crate) fn new(device: &Device, ring: usize, up_words: usize, down_words: usize) -> Result<Self, EngineError> {
        let module = Module::load(device, SOURCE, &options(ring))?;
        let up_words = up_words.next_multiple_of(WORDS_A_THREAD);
        Ok(Self {
            receive: module.kernel("receive_arrays", 0)?,
            send: module.kernel("send_tokens", 0)?,
            up: Pinned::new(device, ring * up_words)?,
            up_words,
            down: Pinned::new(device, ring * down_words)?,
            down_words,
            turn: Buffer::of(device, &[0_i32])?,
        })
    }

    /// What goes up in a slot. The step that had the slot before must be done.
    pub(crate) fn up(&mut self, slot: usize) -> &mut [i32] {
        &mut self.up[slot * self.up_words..][..self.up_words]
    }

    /// What came down in a slot, once its step is done.
    pub(crate) fn down(&self, slot: usize) -> &[i32] {
        &self.down[slot * self.down_words..][..self.down_words]
    }

    /// Begins a step: `words` i32 of its slot, a multiple of [`WORDS_A_THREAD`], go to the address.
    pub(crate) fn receive(&self, device: &Device, on_device: u64, words: usize) -> Result<(), EngineError> {
        assert!(words <= self.up_words && words.is_multiple_of(WORDS_A_THREAD), "{words} words of {}", self.up_words);
        let fours = words / WORDS_A_THREAD;
        let arguments = [
            self.up.pointer().into(),
            self.turn.pointer().into(),
            (self.up_words / WORDS_A_THREAD).into(),
            on_device.into(),
            fours.into(),
        ];
        self.receive.launch(device, Grid::line(fours.div_ceil(THREADS), THREADS), &arguments)
    }

    /// Ends it: `count` of its tokens, i32, go to its slot, and the next slot has its turn.
    pub(crate) fn send(&self, device: &Device, tokens: u64, count: usize, overlaps: bool) -> Result<(), EngineError> {
        assert!(count <= self.down_words, "{count} tokens of {}", self.down_words);
        let arguments = [
            tokens.into(),
            self.down.pointer().into(),
            self.turn.pointer().into(),
            self.down_words.into(),
            count.into(),
        ];
        self.send.launch(device, Grid { overlaps, ..Grid::line(1, THREADS) }, &arguments)
    }

    /// The first slot has its turn: of whatever step follows, after one that failed.
    pub(crate) fn restart(&self, device: &Device) -> Result<(), EngineError> {
        self.turn.fill(device, 0)
    }

    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> usize {
        self.turn.bytes()
    }
}

fn options(ring: usize) -> Options {
    Options::default().with("RING", ring)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{compiles, gpu};

    #[test]
    fn the_kernels_compile() {
        compiles([(SOURCE, options(3))]);
    }

    #[test]
    fn each_step_gets_its_own_arrays_and_its_tokens_come_back_in_its_slot() {
        const RING: usize = 3;
        let Some(device) = gpu() else { return };
        for (words, tokens) in [(4, 1), (1280, 256), (2052, 0), (40_000, 9000)] {
            let mut transfer = Transfer::new(&device, RING, words, tokens).unwrap();
            let [on_device, sampled] =
                [Buffer::of(&device, &vec![-5_i32; words + 1]), Buffer::of(&device, &vec![0_i32; tokens])]
                    .map(Result::unwrap);
            // The second round meets slots that were used; the restart is in the middle of one.
            let mut slot = 0;
            for step in 0..8 {
                if step == 5 {
                    transfer.restart(&device).unwrap();
                    slot = 0;
                }
                let values = |from: i32| move |at: usize| from * 1_000_003 + step * 50_021 + at as i32;
                transfer.up(slot).iter_mut().enumerate().for_each(|(at, word)| *word = values(1)(at));
                transfer.receive(&device, on_device.pointer(), words).unwrap();
                sampled.write(&device, 0, &(0..tokens).map(values(2)).collect::<Vec<_>>()).unwrap();
                transfer.send(&device, sampled.pointer(), tokens, step % 2 == 1).unwrap();
                let got: Vec<i32> = on_device.read(&device, 0, words + 1).unwrap();
                assert_eq!(got[..words], (0..words).map(values(1)).collect::<Vec<_>>(), "{words} words, step {step}");
                assert_eq!(got[words], -5, "a write behind the arrays");
                assert_eq!(transfer.down(slot), (0..tokens).map(values(2)).collect::<Vec<_>>(), "step {step}");
                slot = (slot + 1) % RING;
            }
        }
    }
}
