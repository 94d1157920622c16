//! Texts that are read: prefill steps of up to 8,192 rows, behind which the normalised hidden states stay on the device. Logits are computed
//! from these, some rows at a time, so that no text's are ever held whole, whatever its length and the vocabulary.

use std::ops::Range;

use super::BLOCK_TOKENS;
use super::buffer::Buffer;
use super::cache::{Cache, READ_TEXTS};
use super::device::Device;
use super::model::Model;
use super::ops::token_scores::TokenScores;
use crate::EngineError;
use crate::batch::{BlockPool, StepPlan};
use crate::reading::{READ_ROWS, Text, TokenScore};

/// What the last texts left.
pub(super) struct Held {
    /// element `[rows, hidden]`.
    states: Buffer,
    rows: usize,
    scores: TokenScores,
}

/// Logits f32 `[rows, vocabulary]` in an engine's memory on a GPU.
pub struct DeviceLogits<'a> {
    device: &'a Device,
    scores: &'a TokenScores,
    logits: &'a Buffer,
    rows: usize,
    vocabulary: usize,
}

impl std::fmt::Debug for DeviceLogits<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "logits [{}, {}] on {}", self.rows, self.vocabulary, self.device.name)
    }
}

impl DeviceLogits<'_> {
    /// A copy.
    pub fn to_host(&self) -> Result<Vec<f32>, EngineError> {
        self.device.bind()?;
        self.logits.read(self.device, 0, self.rows * self.vocabulary)
    }

    /// Whether both lie on one GPU and have the same shape.
    pub fn is_beside(&self, other: &Self) -> bool {
        let place = |logits: &Self| (logits.device.context.ordinal(), logits.rows, logits.vocabulary);
        place(self) == place(other)
    }

    /// Scores of the `tokens` that the rows predict, against `reference`'s of the same, which lie beside these. `None` where a logit is not
    /// finite.
    pub fn scores(
        &self,
        reference: Option<&DeviceLogits<'_>>,
        tokens: &[u32],
    ) -> Result<Option<Vec<TokenScore>>, EngineError> {
        self.device.bind()?;
        // Both have been computed: `Held::logits` waits.
        let reference = reference.map_or(0, |reference| reference.logits.pointer());
        self.scores.of(self.device, self.logits.pointer(), reference, tokens)
    }
}

impl Held {
    /// Reads texts that the engine's limits allow, in blocks of `pool`; what others left is gone.
    pub(super) fn read(
        held: &mut Option<Self>,
        model: &mut Model,
        cache: &Cache,
        pool: &mut BlockPool,
        texts: &[Text],
    ) -> Result<(), EngineError> {
        let held = Self::with_room(held, model, texts.iter().map(Text::rows).sum())?;
        let mut left = texts;
        while !left.is_empty() {
            let (now, later) = left.split_at(together(left, model.limits.prefill_rows, pool.available()));
            let counts: Vec<usize> = now.iter().map(blocks_of).collect();
            let blocks = pool.take(counts.iter().sum()).ok_or_else(|| {
                EngineError::invalid(
                    format!("{} tokens have no room beside the requests that are being worked on", computed(now)),
                    "wait until some have ended, or cancel them",
                )
            })?;
            let ended = held.read_in(model, cache, (&blocks, &counts), now);
            pool.give_back(&blocks);
            ended?;
            left = later;
        }
        Ok(())
    }

    /// With room for so many rows, of which none is there yet.
    fn with_room<'a>(held: &'a mut Option<Self>, model: &Model, rows: usize) -> Result<&'a mut Self, EngineError> {
        let bytes = rows * row_bytes(model);
        let ready = match held.take() {
            Some(Self { states, scores, .. }) if states.bytes() >= bytes => Self { states, rows: 0, scores },
            Some(Self { scores, .. }) => Self { states: Buffer::new(&model.device, bytes)?, rows: 0, scores },
            None => {
                let scores = TokenScores::load(&model.device, model.config.vocabulary, READ_ROWS)?;
                Self { states: Buffer::new(&model.device, bytes)?, rows: 0, scores }
            }
        };
        Ok(held.insert(ready))
    }

    /// Computes texts that fit one step, or one that does not, in `blocks`: as many as `counts` says for each.
    fn read_in(
        &mut self,
        model: &mut Model,
        cache: &Cache,
        (blocks, counts): (&[u32], &[usize]),
        texts: &[Text],
    ) -> Result<(), EngineError> {
        let (mut begin, first_slot) = (0, cache.slots);
        for (index, count) in counts.iter().enumerate() {
            cache.assign(&model.device, first_slot + index, &blocks[begin..begin + count])?;
            begin += count;
        }
        let (longest, step) = (texts.iter().map(computed_of).max().unwrap_or(0), model.limits.prefill_rows);
        for start in (0..longest).step_by(step) {
            let mut plan = StepPlan::default();
            for (index, text) in texts.iter().enumerate() {
                let end = computed_of(text).min(start + step);
                let first_row = plan.rows();
                plan.prefill(first_slot + index, start, &text.tokens[start..end]);
                let wanted = (text.from - 1).clamp(start, end);
                plan.read(first_row + wanted - start..first_row + end - start, first_slot + index);
            }
            let to = self.states.at(self.rows * row_bytes(model));
            self.rows += plan.sampled_on_host.len();
            let ring_slot = model.enqueue_reading(&plan, cache, to)?;
            model.step_buffers.collect(ring_slot, 0)?;
        }
        Ok(())
    }

    /// Logits of rows of what was read; waits for them.
    pub(super) fn logits<'a>(
        held: Option<&'a Self>,
        model: &'a Model,
        rows: Range<usize>,
    ) -> Result<DeviceLogits<'a>, EngineError> {
        // Logits have room for more rows than that unless the vocabulary is larger than any is.
        let most = READ_ROWS.min(model.activations.logits_rows);
        let Some(held) = held.filter(|held| rows.end <= held.rows && rows.len() <= most) else {
            return Err(EngineError::not_read(&rows, held.map_or(0, |held| held.rows)));
        };
        model.logits_from(held.states.at(rows.start * row_bytes(model)), rows.len())?;
        model.device.synchronize()?;
        Ok(DeviceLogits {
            device: &model.device,
            scores: &held.scores,
            logits: &model.activations.logits,
            rows: rows.len(),
            vocabulary: model.config.vocabulary,
        })
    }
}

fn row_bytes(model: &Model) -> usize {
    model.config.hidden * model.element().bytes()
}

/// The logits at a token predict the next; nothing is left to be predicted at the last.
fn computed_of(text: &Text) -> usize {
    text.tokens.len() - 1
}

fn computed(texts: &[Text]) -> usize {
    texts.iter().map(computed_of).sum()
}

fn blocks_of(text: &Text) -> usize {
    computed_of(text).div_ceil(BLOCK_TOKENS)
}

/// Texts that one step of so many rows computes in so many blocks, or 1.
fn together(texts: &[Text], rows: usize, blocks: usize) -> usize {
    let fits = |count: &usize| {
        let texts = &texts[..*count];
        computed(texts) <= rows && texts.iter().map(blocks_of).sum::<usize>() <= blocks
    };
    (1..=texts.len().min(READ_TEXTS)).take_while(fits).last().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_holds_as_many_texts_as_fit_and_a_long_one_alone() {
        let tokens = vec![0; 102];
        let text = |length: usize| Text { tokens: &tokens[..length], from: 1 };
        assert_eq!(together(&[text(51), text(51), text(2)], 100, 1000), 2);
        assert_eq!(together(&[text(102), text(2)], 100, 1000), 1);
        assert_eq!(together(&[text(2); READ_TEXTS + 5], 1000, 1000), READ_TEXTS);
        assert_eq!(together(&[text(2)], 100, 1000), 1);
        assert_eq!(together(&[text(65), text(66), text(2)], 1000, 3), 2);
        assert_eq!(together(&[text(66), text(2)], 1000, 1), 1);
    }
}
