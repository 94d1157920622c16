//! A request that has been admitted.
//!
//! Where the device chooses the tokens, the host plans ahead of it: a token is decoded again before it is known here. So a sequence
//! counts the logits that steps were *planned* for, and stops at its own limit without waiting; an end of sequence is seen a step or
//! two late, and what was computed beyond it is dropped.

use super::blocks::Table;
use crate::generation::Accepted;
use crate::{Completion, EngineError, Generation};

/// A request that holds a slot.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) generation: Generation,
    /// Tells this request from others that held the slot before it; the owner of its blocks.
    pub(crate) id: u64,
    pub(crate) table: Table,
    /// Tokens that are known from the beginning: the prompt, and a continuation to be scored but for its last token.
    pub(super) prefill: Vec<u32>,
    /// Positions that are in the cache, or will be by the steps planned so far.
    pub(super) computed: usize,
    /// The first position whose logits are read.
    pub(super) first_logits: usize,
    /// Logits that were planned for.
    sampled: usize,
    /// Of these at most.
    max_sampled: usize,
    /// Whether the device chooses the tokens.
    pub(super) on_device: bool,
    /// The token to decode next, where the host chooses.
    next_token: Option<u32>,
    /// How it ended, once it has.
    pub(crate) ended: Option<Result<Completion, EngineError>>,
}

/// What a step brought for one row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sampled<'a> {
    /// The device's choice; `None` where a logit was not finite.
    Token(Option<u32>),
    /// Logits `[vocabulary]` for the host to choose from.
    Logits(&'a [f32]),
}

impl Sequence {
    /// `on_device`: the device can choose greedy tokens itself.
    pub(super) fn new(generation: Generation, id: u64, prefill: Vec<u32>, table: Table, on_device: bool) -> Self {
        Self {
            first_logits: generation.prompt_ids().len() - 1,
            max_sampled: generation.max_output_tokens(),
            on_device: on_device && generation.is_greedy(),
            computed: 0,
            sampled: 0,
            next_token: None,
            ended: None,
            generation,
            id,
            table,
            prefill,
        }
    }

    /// Takes what a step brought for one row.
    pub(crate) fn accept(&mut self, row: Sampled<'_>) {
        if self.is_over() {
            return; // computed beyond the end
        }
        let accepted = match row {
            Sampled::Token(token) => self.generation.accept_token(token),
            Sampled::Logits(logits) => self.generation.accept(logits),
        };
        match accepted {
            Ok(Accepted::Next(token)) => self.next_token = Some(token),
            Ok(Accepted::Finished(finish)) => self.ended = Some(self.generation.complete(finish)),
            Err(error) => self.ended = Some(Err(error)),
        }
    }

    /// Tokens that it has generated, the end included.
    pub(super) fn output_tokens(&self) -> usize {
        match &self.ended {
            Some(Ok(completion)) => completion.token_ids.len(),
            _ => self.generation.output_tokens(),
        }
    }

    /// Whether it is over, one way or the other.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether the next step can decode a token of it.
    pub(super) fn can_decode(&self) -> bool {
        self.computed >= self.prefill.len()
            && !self.is_over()
            && self.sampled < self.max_sampled
            && (self.on_device || self.next_token.is_some())
    }

    /// The token to decode and its position; `None` for a token that the device knows.
    pub(super) fn decode(&mut self) -> (usize, Option<u32>) {
        let position = self.computed;
        self.computed += 1;
        (position, if self.on_device { None } else { self.next_token.take() })
    }

    /// Counts logits that a step was planned for.
    pub(super) fn sample(&mut self, rows: usize) {
        self.sampled += rows;
    }

    /// Prompt tokens that came from the prefix cache.
    pub(super) fn add_cached_tokens(&mut self, tokens: usize) {
        self.computed += tokens;
        self.generation.add_cached_tokens(tokens);
    }
}
