//! Prompts that are ready for an engine, and what would spoil a run silently.

use std::sync::Arc;

use super::{JobError, Model};
use crate::engine::Prompt;
use crate::files::sha256;
use crate::score::Answer;

/// A sample that is ready for an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Row of the dataset.
    pub sample: usize,
    /// The dataset's question.
    pub question: String,
    /// The dataset's answer.
    pub answer: String,
    /// What of it a completion is compared with.
    pub reference: String,
    /// Samples of the same cluster are not independent of one another.
    pub cluster: Option<String>,
    /// What the model reads.
    pub prompt: Arc<Prompt>,
    /// Of the prompt's text.
    pub prompt_sha256: String,
    /// Of its token ids; `None` where the target does not tell them.
    pub prompt_ids_sha256: Option<String>,
}

impl Prepared {
    /// What a completion is compared with.
    pub fn expected(&self) -> Answer<'_> {
        Answer { full: &self.answer, value: &self.reference }
    }
}

/// SHA-256 of token ids, as little-endian words of 32 bits: a prompt's text is one thing, what a tokenizer makes of it another. `None` for
/// no ids.
pub(super) fn ids_sha256(ids: &[u32]) -> Option<String> {
    (!ids.is_empty()).then(|| sha256(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>()))
}

/// Where a prompt comes from, for messages.
pub(super) struct Row<'a> {
    /// From 0.
    pub(super) number: usize,
    pub(super) dataset: &'a str,
    /// Whether worked examples stand before its question.
    pub(super) has_examples: bool,
}

/// Refuses a prompt that would spoil a run silently; `name` stands for it in messages.
pub(super) fn check(name: &str, prompt: &Prompt, model: &Model, chat: bool, row: Option<&Row>) -> Result<(), JobError> {
    let ids = &prompt.token_ids;
    let tokenizer = model.reads_tokens();
    if tokenizer.map_or(prompt.text.is_empty(), |_| ids.is_empty()) {
        return Err(JobError::invalid(
            format!("the prompt of {name} is empty"),
            "look at it with `--show-prompt`, and at the protocol's prompt",
        ));
    }
    if let Some(tokenizer) = tokenizer
        && let (Some(bos), [first, second, ..]) = (tokenizer.bos_id, ids.as_slice())
        && (*first, *second) == (bos, bos)
    {
        return Err(JobError::invalid(
            format!(
                "the prompt of {name} begins with the token {} (id {bos}) twice",
                tokenizer.bos_token.as_deref().unwrap_or("BOS")
            ),
            format!(
                "the tokenizer adds it by itself: take it out of the {}, or give `--chat {}`",
                if chat { "model's chat template" } else { "protocol's prompt" },
                if chat { "never" } else { "required" },
            ),
        ));
    }
    if let Some(context) = model.context_tokens().filter(|context| ids.len() >= *context) {
        return Err(JobError::invalid(
            format!(
                "the prompt of {name} has {} tokens, but the model's context holds {context}{}",
                ids.len(),
                row.map_or_else(String::new, |row| format!("; it is row {} of {}", row.number, row.dataset))
            ),
            match row {
                Some(Row { has_examples: true, .. }) => {
                    "choose a protocol with fewer examples, or a model with a longer context"
                }
                Some(_) => "leave the row out with `--samples` or `--limit`, or choose a model with a longer context",
                None => "leave the prompt out with `--only`, or choose a model with a longer context",
            },
        ));
    }
    Ok(())
}

/// Answers that the context may cut before the token limit does.
pub(super) fn little_room(prepared: &[Prepared], context_tokens: Option<usize>, max_tokens: usize) -> Option<String> {
    let context_tokens = context_tokens?;
    let longest = prepared.iter().max_by_key(|one| one.prompt.token_ids.len())?;
    let room = context_tokens.saturating_sub(longest.prompt.token_ids.len());
    (room < max_tokens).then(|| {
        format!(
            "the model's context of {context_tokens} tokens leaves room for {room} behind the longest prompt (sample {}), \
             not for the limit of {max_tokens}: what it cuts is counted as cut",
            longest.sample
        )
    })
}
