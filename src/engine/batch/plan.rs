//! What one step computes.

use std::ops::Range;

/// A row whose logits are read, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogitsRow {
    pub(crate) row: usize,
    pub(crate) slot: usize,
    /// The sequence that held the slot when the step was planned.
    pub(crate) id: u64,
}

/// Consecutive prefill rows of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) slot: usize,
    pub(crate) first_position: usize,
}

/// The rows of one step: a token of each sequence that decodes, then segments of prompts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct StepPlan {
    /// `[rows]`; −1 where the device knows the token: the last it sampled for this slot.
    pub(crate) tokens: Vec<i32>,
    /// `[rows]`.
    pub(crate) positions: Vec<i32>,
    /// `[rows]`.
    pub(crate) slots: Vec<i32>,
    /// Rows that decode; they come first.
    pub(crate) decode_rows: usize,
    /// Rows that prefill, sequence by sequence.
    pub(crate) segments: Vec<Segment>,
    /// Rows whose next token the host chooses: it reads their logits. Those of one sequence stand together, in their order. In a step
    /// that reads texts, the rows whose states are kept.
    pub(crate) sampled_on_host: Vec<LogitsRow>,
    /// Rows whose next token the device chooses, one a sequence at most.
    pub(crate) sampled_on_device: Vec<LogitsRow>,
    /// One more than the furthest position of a row that decodes.
    pub(crate) longest: usize,
}

impl StepPlan {
    /// Rows computed.
    pub(crate) fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Adds a row that decodes. All of them come before any segment.
    pub(crate) fn decode(&mut self, slot: usize, position: usize, token: Option<u32>) {
        self.tokens.push(token.map_or(-1, |token| token as i32));
        self.positions.push(position as i32);
        self.slots.push(slot as i32);
        self.longest = self.longest.max(position + 1);
        self.decode_rows = self.rows();
    }

    /// Adds `tokens` of a prompt from `first_position` on.
    pub(crate) fn prefill(&mut self, slot: usize, first_position: usize, tokens: &[u32]) {
        let first_row = self.rows();
        self.segments.push(Segment { first_row, rows: tokens.len(), slot, first_position });
        self.tokens.extend(tokens.iter().map(|token| *token as i32));
        self.positions.extend((first_position..first_position + tokens.len()).map(|position| position as i32));
        self.slots.extend(std::iter::repeat_n(slot as i32, tokens.len()));
    }

    /// These rows belong to a text that is read, and what their logits are computed from is kept.
    pub(crate) fn read(&mut self, rows: Range<usize>, slot: usize) {
        self.sampled_on_host.extend(rows.map(|row| LogitsRow { row, slot, id: 0 }));
    }
}
