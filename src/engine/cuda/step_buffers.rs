//! What travels between host and device with every step: which rows to compute, and the tokens that came of them.

use cudarc::driver::CudaEvent;

use super::buffer::Buffer;
use super::device::{Device, failed};
use super::ops::transfer::{Transfer, WORDS_A_THREAD};
use crate::EngineError;
use crate::batch::StepPlan;

/// Steps that the host may run ahead of the device, and one.
pub(crate) const RING: usize = 3;

/// Steps of up to this many rows keep their arrays at fixed addresses, so that a captured graph can read them.
pub(crate) const CAPTURED_ROWS: usize = 256;

/// What fills the arrays behind a step's rows: rows at no position, whose tokens belong to no slot. Their slot may be read, not written.
const PADDING: Padding = Padding { token: 0, position: -1, slot: 0, logits_row: 0, logits_slot: -1 };

struct Padding {
    token: i32,
    position: i32,
    slot: i32,
    logits_row: i32,
    logits_slot: i32,
}

/// Rows of the captured step that computes `rows` rows, padding rows included: few numbers of rows, so that few graphs are captured. Up
/// to eight there are none: the fused kernel takes what rows there are.
pub(crate) fn padded_rows(rows: usize) -> usize {
    match rows {
        0..=8 => rows,
        9..=64 => rows.next_multiple_of(8),
        65..=128 => rows.next_multiple_of(16),
        _ => rows.next_multiple_of(32),
    }
}

/// i32 of a tile of prefill rows: first row, rows, slot, first position.
pub(crate) const TILE_WORDS: usize = 4;

/// Where the arrays of one step lie on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepAddresses {
    /// i32 `[rows]` each.
    pub(crate) tokens: u64,
    pub(crate) positions: u64,
    pub(crate) slots: u64,
    /// i32 `[logits rows]` each: rows whose logits are computed (those for the host first) and their slots.
    pub(crate) logits_rows: u64,
    pub(crate) logits_slots: u64,
    /// i32 `[tiles][TILE_WORDS]`.
    pub(crate) tiles: u64,
    /// i32 of them all.
    words: usize,
}

/// The arrays of steps, going up and coming down.
#[derive(Debug)]
pub(crate) struct StepBuffers {
    on_device: Buffer,
    /// i32: the tokens that the device sampled, in the order of [`StepPlan::sampled_on_device`].
    pub(crate) sampled: Buffer,
    transfer: Transfer,
    /// Behind everything that the step of a ring slot does.
    done: Vec<CudaEvent>,
    /// The next step's ring slot.
    next: usize,
}

impl StepBuffers {
    /// Room for steps of `rows` rows, at `logits` of which logits are computed, and `tiles`.
    pub(crate) fn new(device: &Device, rows: usize, logits: usize, tiles: usize) -> Result<Self, EngineError> {
        let words = 3 * rows + 2 * logits + TILE_WORDS * tiles + 5 * CAPTURED_ROWS + 6 * WORDS_A_THREAD;
        let event = |_| device.context.new_event(None).map_err(|error| failed("make an event", error));
        Ok(Self {
            on_device: Buffer::new(device, words * size_of::<i32>())?,
            sampled: Buffer::new(device, logits.max(CAPTURED_ROWS) * size_of::<i32>())?,
            transfer: Transfer::new(device, RING, words, logits.max(CAPTURED_ROWS))?,
            done: (0..RING).map(event).collect::<Result<_, EngineError>>()?,
            next: 0,
        })
    }

    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> usize {
        self.on_device.bytes() + self.sampled.bytes() + self.transfer.bytes()
    }

    /// Lays out a step's arrays for [`StepBuffers::receive`]. The step that had its ring slot before must have been collected. Returns the ring slot.
    pub(crate) fn fill(&mut self, plan: &StepPlan, tiles: &[i32]) -> (usize, StepAddresses) {
        let ring_slot = self.next;
        self.next = (ring_slot + 1) % RING;
        let up = self.transfer.up(ring_slot);
        let (rows, logits) = if plan.rows() <= CAPTURED_ROWS {
            (CAPTURED_ROWS, CAPTURED_ROWS)
        } else {
            (plan.rows(), plan.sampled_on_host.len() + plan.sampled_on_device.len())
        };
        let mut at = 0;
        let mut section = |length: usize, values: &mut dyn Iterator<Item = i32>| {
            let begin = at;
            up[begin..begin + length].iter_mut().zip(values).for_each(|(to, value)| *to = value);
            at = (at + length).next_multiple_of(WORDS_A_THREAD);
            self.on_device.at(begin * size_of::<i32>())
        };
        let all_logits = || plan.sampled_on_host.iter().chain(&plan.sampled_on_device);
        let addresses = StepAddresses {
            tokens: section(rows, &mut padded(plan.tokens.iter().copied(), PADDING.token)),
            positions: section(rows, &mut padded(plan.positions.iter().copied(), PADDING.position)),
            slots: section(rows, &mut padded(plan.slots.iter().copied(), PADDING.slot)),
            logits_rows: section(logits, &mut padded(all_logits().map(|logits| logits.row as i32), PADDING.logits_row)),
            logits_slots: section(
                logits,
                &mut padded(all_logits().map(|logits| logits.slot as i32), PADDING.logits_slot),
            ),
            tiles: section(tiles.len(), &mut tiles.iter().copied()),
            words: 0,
        };
        (ring_slot, StepAddresses { words: at, ..addresses })
    }

    /// Enqueues the way of a step's arrays to the device, in front of all that the step does.
    pub(crate) fn receive(&self, device: &Device, at: &StepAddresses) -> Result<(), EngineError> {
        self.transfer.receive(device, self.on_device.pointer(), at.words)
    }

    /// Enqueues the way back of the `count` tokens that it samples, behind all that it does. `overlaps`: behind a kernel of ours.
    pub(crate) fn send_back(&self, device: &Device, count: usize, overlaps: bool) -> Result<(), EngineError> {
        self.transfer.send(device, self.sampled.pointer(), count, overlaps)
    }

    /// Marks the end of what was enqueued for the step at `ring_slot`.
    pub(crate) fn end(&self, device: &Device, ring_slot: usize) -> Result<(), EngineError> {
        self.done[ring_slot].record(&device.stream).map_err(|error| failed("record an event", error))
    }

    /// Waits for the step at `ring_slot`; the tokens that the device sampled.
    pub(crate) fn collect(&self, ring_slot: usize, count: usize) -> Result<&[i32], EngineError> {
        self.done[ring_slot].synchronize().map_err(|error| failed("compute a step", error))?;
        Ok(&self.transfer.down(ring_slot)[..count])
    }

    /// Forgets every step, after one that may have been enqueued in part: host and device agree on the next step's ring slot again.
    pub(crate) fn restart(&mut self, device: &Device) -> Result<(), EngineError> {
        self.next = 0;
        self.transfer.restart(device)
    }
}

fn padded(values: impl Iterator<Item = i32>, padding: i32) -> impl Iterator<Item = i32> {
    values.chain(std::iter::repeat(padding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_numbers_of_rows_are_captured_and_each_holds_the_rows_asked_for() {
        let all: std::collections::BTreeSet<usize> = (1..=CAPTURED_ROWS).map(padded_rows).collect();
        assert_eq!(all.len(), 8 + 7 + 4 + 4);
        for rows in 1..=CAPTURED_ROWS {
            let padded = padded_rows(rows);
            assert!(padded >= rows && padded <= CAPTURED_ROWS && padded - rows < 32, "{rows} rows became {padded}");
            assert_eq!(padded_rows(padded), padded);
        }
    }
}
