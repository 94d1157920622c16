//! Which tokens the next step feeds: pure bookkeeping, known before the card has computed anything.
//!
//! The host runs ahead of the card: a sequence whose next token the card chooses itself is fed again before that token is known
//! here. So a sequence counts what was *asked* of the card, and ends by its own limit without waiting; an end of sequence is seen a
//! step or two late, and what was computed beyond it is dropped.

use super::BLOCK_TOKENS;
use crate::engine::{Completion, EngineError, Generation};

/// A request that holds a slot.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) generation: Generation,
    /// Tells this request from others that held the slot before it.
    pub(crate) id: u64,
    /// Blocks of its own, behind the shared prefix.
    pub(crate) blocks: Vec<u32>,
    /// What is fed without asking: the prompt, and a given continuation but for its last token.
    tokens: Vec<u32>,
    /// Positions that the card was told to compute, or has from the shared prefix.
    fed: usize,
    /// The first position whose logits are wanted.
    first_logits: usize,
    /// Logits rows that the card was asked for.
    asked: usize,
    /// Of these at most.
    most: usize,
    /// Whether the card chooses the tokens.
    greedy: bool,
    /// The token to feed next, where the host chooses.
    chosen: Option<u32>,
    /// What came of it, once it has ended.
    pub(crate) ended: Option<Completion>,
    /// What went wrong, if anything did.
    pub(crate) failed: Option<EngineError>,
}

impl Sequence {
    /// `given` is the continuation to be scored, empty for a generation; `prefix` positions are in the cache already.
    pub(crate) fn new(generation: Generation, id: u64, given: &[u32], prefix: usize, blocks: Vec<u32>) -> Self {
        let prompt = generation.prompt_ids();
        let given = given.split_last().map_or(&[][..], |(_, all_but_last)| all_but_last);
        Self {
            tokens: [prompt, given].concat(),
            first_logits: prompt.len() - 1,
            most: generation.most_output_tokens(),
            greedy: generation.is_greedy(),
            fed: prefix,
            asked: 0,
            chosen: None,
            ended: None,
            failed: None,
            generation,
            id,
            blocks,
        }
    }

    /// Takes what the card computed for one row: the token it chose, or the logits for the host to choose from.
    pub(crate) fn accept(&mut self, row: Chosen<'_>) {
        if self.ended.is_some() || self.failed.is_some() {
            return; // computed beyond the end
        }
        let accepted = match row {
            Chosen::ByCard(token) => self.generation.accept_token(token),
            Chosen::ByHost(logits) => self.generation.accept(logits),
        };
        match accepted {
            Ok(Ok(token)) => self.chosen = Some(token),
            Ok(Err(finish)) => match self.generation.complete(finish) {
                Ok(completion) => self.ended = Some(completion),
                Err(error) => self.failed = Some(error),
            },
            Err(error) => self.failed = Some(error),
        }
    }

    /// Whether it is over, one way or the other.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.is_some() || self.failed.is_some()
    }

    /// Whether it can generate another token in the next step.
    fn can_continue(&self) -> bool {
        self.fed >= self.tokens.len()
            && !self.is_over()
            && self.asked < self.most
            && (self.greedy || self.chosen.is_some())
    }
}

/// What a step brought for one row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chosen<'a> {
    /// `None`: a logit was not finite.
    ByCard(Option<u32>),
    /// `[vocabulary]`.
    ByHost(&'a [f32]),
}

/// A row whose logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) row: usize,
    pub(crate) slot: usize,
    pub(crate) id: u64,
}

/// Consecutive rows of one prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) slot: usize,
    pub(crate) first_position: usize,
}

/// What the card computes in one go. Rows that generate come first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// −1 where the card knows the token.
    pub(crate) tokens: Vec<i32>,
    pub(crate) positions: Vec<i32>,
    pub(crate) slots: Vec<i32>,
    /// Rows that generate: one token of each sequence.
    pub(crate) generating: usize,
    /// Rows that read prompts.
    pub(crate) segments: Vec<Segment>,
    /// Rows whose logits the host reads.
    pub(crate) to_host: Vec<Wanted>,
    /// Rows whose next token the card chooses.
    pub(crate) to_card: Vec<Wanted>,
    /// One more than the furthest position of a generating row.
    pub(crate) longest: usize,
}

impl Step {
    /// Rows fed.
    pub(crate) fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Adds `tokens` of a prompt from `first_position` on.
    pub(crate) fn read(&mut self, slot: usize, first_position: usize, tokens: &[u32]) {
        let first_row = self.rows();
        self.segments.push(Segment { first_row, rows: tokens.len(), slot, first_position });
        self.tokens.extend(tokens.iter().map(|token| *token as i32));
        self.positions.extend((first_position..first_position + tokens.len()).map(|position| position as i32));
        self.slots.extend(std::iter::repeat_n(slot as i32, tokens.len()));
    }

    /// Wants the logits of these rows on the host, for nobody's generation.
    pub(crate) fn want_for_host(&mut self, rows: std::ops::Range<usize>, slot: usize) {
        self.to_host.extend(rows.map(|row| Wanted { row, slot, id: 0 }));
    }

    fn want(&mut self, row: usize, slot: usize, sequence: &mut Sequence) {
        sequence.asked += 1;
        let wanted = Wanted { row, slot, id: sequence.id };
        if sequence.greedy { self.to_card.push(wanted) } else { self.to_host.push(wanted) }
    }
}

/// What a step may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Rows of prompts.
    pub(crate) prompt_rows: usize,
    /// Rows whose logits go to the host.
    pub(crate) host_rows: usize,
}

/// The next step: a token of every sequence that generates, then as much of the prompts as fits, first come first served.
pub(crate) fn next_step(sequences: &mut [Option<Sequence>], order: &[usize], limits: Limits) -> Step {
    let mut step = Step::default();
    for slot in order {
        let Some(sequence) = sequences[*slot].as_mut() else { continue };
        let host_full = !sequence.greedy && step.to_host.len() >= limits.host_rows;
        if !sequence.can_continue() || host_full {
            continue;
        }
        let (row, position) = (step.rows(), sequence.fed);
        let token = if sequence.greedy { None } else { sequence.chosen.take() };
        step.tokens.push(token.map_or(-1, |token| token as i32));
        step.positions.push(position as i32);
        step.slots.push(*slot as i32);
        step.longest = step.longest.max(position + 1);
        sequence.fed += 1;
        step.want(row, *slot, sequence);
    }
    step.generating = step.rows();
    let mut room = limits.prompt_rows;
    for slot in order {
        let Some(sequence) = sequences[*slot].as_mut() else { continue };
        let left = sequence.tokens.len().saturating_sub(sequence.fed);
        let mut length = left.min(room);
        if !sequence.greedy {
            // Every row from `first_logits` on goes to the host.
            let host_room = limits.host_rows - step.to_host.len();
            length = length.min(sequence.first_logits.max(sequence.fed) + host_room - sequence.fed);
        }
        if length == 0 || sequence.is_over() {
            continue;
        }
        let (first_row, first_position) = (step.rows(), sequence.fed);
        let tokens = sequence.tokens[first_position..first_position + length].to_vec();
        step.read(*slot, first_position, &tokens);
        sequence.fed += length;
        for position in sequence.first_logits.max(first_position)..sequence.fed {
            step.want(first_row + position - first_position, *slot, sequence);
        }
        room -= length;
    }
    step
}

/// Positions that every prompt shares, in whole blocks: computed once, read by all. The last token of a prompt is never shared,
/// for its own request wants the logits behind it.
pub(crate) fn shared_prefix<'a>(mut prompts: impl Iterator<Item = &'a [u32]>) -> usize {
    let Some(first) = prompts.next() else { return 0 };
    let mut length = first.len().saturating_sub(1);
    let mut others = 0;
    for prompt in prompts {
        let same = prompt.iter().zip(&first[..length]).take_while(|(a, b)| a == b).count();
        length = same.min(prompt.len().saturating_sub(1));
        others += 1;
    }
    if others == 0 { 0 } else { length / BLOCK_TOKENS * BLOCK_TOKENS }
}
