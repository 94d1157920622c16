//! What travels between host and card with every step: which rows to feed, and the tokens that came of them.

use cudarc::driver::CudaEvent;

use super::buffer::{Buffer, Pinned};
use super::device::{Device, failed};
use super::schedule::Step;
use crate::engine::EngineError;

/// Steps that the host may run ahead of the card, and one.
pub(crate) const RING: usize = 3;

/// Steps of up to this many rows keep their arrays at fixed addresses, so that a captured graph can read them.
pub(crate) const SMALL_ROWS: usize = 8;

/// Arrays begin at multiples of 16 bytes, for some are read in words of that size.
const ALIGNED_WORDS: usize = 4;

/// i32 of a tile of prompt rows: first row, rows, slot, first position.
pub(crate) const TILE_WORDS: usize = 4;

/// Where the arrays of one step lie on the card.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepAddresses {
    /// i32 `[rows]` each.
    pub(crate) tokens: u64,
    pub(crate) positions: u64,
    pub(crate) slots: u64,
    /// i32 `[wanted]` each: rows whose logits are wanted (those for the host first) and their slots.
    pub(crate) wanted_rows: u64,
    pub(crate) wanted_slots: u64,
    /// i32 `[tiles][TILE_WORDS]`.
    pub(crate) tiles: u64,
}

/// The arrays of steps, going up and coming down.
#[derive(Debug)]
pub(crate) struct StepBuffers {
    on_card: Buffer,
    /// i32: the card's choices, in the order of the wanted rows that it chose for.
    pub(crate) chosen: Buffer,
    ring: Vec<Turn>,
    turn: usize,
}

#[derive(Debug)]
struct Turn {
    up: Pinned<i32>,
    down: Pinned<i32>,
    done: CudaEvent,
}

impl StepBuffers {
    /// Room for steps of `rows` rows, `wanted` of which want logits, and `tiles`.
    pub(crate) fn new(device: &Device, rows: usize, wanted: usize, tiles: usize) -> Result<Self, EngineError> {
        let words = 3 * rows + 2 * wanted + TILE_WORDS * tiles + 5 * SMALL_ROWS + 6 * ALIGNED_WORDS;
        let turn = |_| {
            Ok(Turn {
                up: Pinned::new(device, words)?,
                down: Pinned::new(device, wanted)?,
                done: device.context.new_event(None).map_err(|error| failed("make an event", error))?,
            })
        };
        Ok(Self {
            on_card: Buffer::new(device, words * size_of::<i32>())?,
            chosen: Buffer::new(device, wanted * size_of::<i32>())?,
            ring: (0..RING).map(turn).collect::<Result<_, EngineError>>()?,
            turn: 0,
        })
    }

    /// Bytes on the card.
    pub(crate) fn bytes(&self) -> usize {
        self.on_card.bytes() + self.chosen.bytes()
    }

    /// Enqueues the copy of a step's arrays. The turn that it takes must have been collected.
    pub(crate) fn send(
        &mut self,
        device: &Device,
        step: &Step,
        tiles: &[i32],
    ) -> Result<(usize, StepAddresses), EngineError> {
        let turn = self.turn;
        self.turn = (turn + 1) % RING;
        let up = &mut self.ring[turn].up;
        let rows = if step.rows() <= SMALL_ROWS { SMALL_ROWS } else { step.rows() };
        let wanted = if step.rows() <= SMALL_ROWS { SMALL_ROWS } else { step.to_host.len() + step.to_card.len() };
        let mut at = 0;
        let mut section = |length: usize, values: &mut dyn Iterator<Item = i32>| {
            let begin = at;
            up[begin..begin + length].iter_mut().zip(values).for_each(|(to, value)| *to = value);
            at = (at + length).next_multiple_of(ALIGNED_WORDS);
            self.on_card.at(begin * size_of::<i32>())
        };
        let all_wanted = || step.to_host.iter().chain(&step.to_card);
        let addresses = StepAddresses {
            tokens: section(rows, &mut step.tokens.iter().copied()),
            positions: section(rows, &mut step.positions.iter().copied()),
            slots: section(rows, &mut step.slots.iter().copied()),
            wanted_rows: section(wanted, &mut all_wanted().map(|wanted| wanted.row as i32)),
            wanted_slots: section(wanted, &mut all_wanted().map(|wanted| wanted.slot as i32)),
            tiles: section(tiles.len(), &mut tiles.iter().copied()),
        };
        self.on_card.write(device, 0, &self.ring[turn].up[..at])?;
        Ok((turn, addresses))
    }

    /// Enqueues the way back of the `count` choices of the step that took `turn`, and the mark behind everything it does.
    pub(crate) fn send_back(&mut self, device: &Device, turn: usize, count: usize) -> Result<(), EngineError> {
        let turn = &mut self.ring[turn];
        if count > 0 {
            self.chosen.read_later(device, 0, &mut turn.down[..count])?;
        }
        turn.done.record(&device.stream).map_err(|error| failed("record an event", error))
    }

    /// Waits for a step; the card's choices.
    pub(crate) fn collect(&self, turn: usize, count: usize) -> Result<&[i32], EngineError> {
        let turn = &self.ring[turn];
        turn.done.synchronize().map_err(|error| failed("compute a step", error))?;
        Ok(&turn.down[..count])
    }
}
