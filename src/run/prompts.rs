//! Render: the chosen samples as prompts, with everything checked that would spoil a run silently.

use std::fmt::Write as _;
use std::sync::Arc;

use rayon::prelude::*;

use super::{Inputs, Job, RunError};
use crate::engine::Prompt;
use crate::engine::model::{ModelSource, ModelTokenizer};
use crate::files::sha256;
use crate::task::{Sample, Selection};

/// A sample that is ready for an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Row of the dataset.
    pub sample: usize,
    /// The dataset's question.
    pub question: String,
    /// The dataset's answer.
    pub answer: String,
    /// What the model reads.
    pub prompt: Arc<Prompt>,
    /// Of the prompt's text.
    pub prompt_sha256: String,
}

/// Renders and tokenises the job's samples, in row order, and checks them; the notes are for the user.
pub(super) fn prepare(inputs: &Inputs, job: &Job) -> Result<(Vec<Prepared>, Vec<String>), RunError> {
    let chosen = inputs.chosen(&job.selection)?;
    let prepared: Vec<Prepared> = chosen.par_iter().map(|sample| render(inputs, sample)).collect::<Result<_, _>>()?;
    for one in &prepared {
        check(&format!("sample {}", one.sample), &one.prompt, &inputs.model, inputs.chat.is_some())?;
    }
    let mut notes = stop_strings_inside(&prepared, &inputs.stop_strings(job));
    notes.extend(little_room(&prepared, inputs.model.config.context_tokens, inputs.max_tokens(job)));
    Ok((prepared, notes))
}

/// The prompt of one row as text, token ids and tokens, and what a run would say of it: what `--show-prompt` prints.
pub fn show_prompt(inputs: &Inputs, job: &Job, row: usize) -> Result<String, RunError> {
    let mut text = String::new();
    for sample in inputs.chosen(&Selection { limit: None, indices: vec![row] })? {
        let one = render(inputs, sample)?;
        let ids = &one.prompt.token_ids;
        let tokens: Vec<String> = ids.iter().map(|id| shown_token(&inputs.model.tokenizer, *id)).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", one.prompt.text);
        let _ = writeln!(text, "\n--- sample {row}, {} tokens, sha256 {}", ids.len(), one.prompt_sha256);
        let _ = writeln!(text, "token ids: {ids:?}");
        let _ = writeln!(text, "tokens: {}", tokens.join(" "));
        let _ = writeln!(text, "stop strings: {:?}", inputs.stop_strings(job));
        let _ = writeln!(text, "reference answer: {:?}", one.answer);
        if let Err(error) = check(&format!("sample {row}"), &one.prompt, &inputs.model, inputs.chat.is_some()) {
            let _ = writeln!(text, "a run would refuse it: {error}");
        }
        for note in inputs.notes.iter().chain(&stop_strings_inside(&[one], &inputs.stop_strings(job))) {
            let _ = writeln!(text, "note: {note}");
        }
    }
    Ok(text)
}

fn shown_token(tokenizer: &ModelTokenizer, id: u32) -> String {
    tokenizer.tokenizer.id_to_token(id).map_or_else(|| format!("<{id}>"), |token| format!("{token:?}"))
}

fn render(inputs: &Inputs, sample: &Sample) -> Result<Prepared, RunError> {
    let rendered = inputs.protocol.render(sample, &inputs.fewshot, inputs.chat.as_ref())?;
    let token_ids = inputs.model.tokenizer.encode(&rendered.text, rendered.add_special_tokens)?;
    Ok(Prepared {
        sample: sample.index,
        question: sample.question.clone(),
        answer: sample.answer.clone(),
        prompt_sha256: sha256(rendered.text.as_bytes()),
        prompt: Arc::new(Prompt { text: rendered.text, token_ids }),
    })
}

/// Refuses a prompt that would spoil a run silently; `name` stands for it in messages.
pub(super) fn check(name: &str, prompt: &Prompt, model: &ModelSource, chat: bool) -> Result<(), RunError> {
    let ids = &prompt.token_ids;
    let tokenizer = &model.tokenizer;
    let context = model.config.context_tokens;
    if ids.is_empty() {
        return Err(RunError::invalid(
            format!("the prompt of {name} is empty"),
            "look at it with `--show-prompt`, and at the protocol's prompt",
        ));
    }
    if let (Some(bos), [first, second, ..]) = (tokenizer.bos_id, ids.as_slice())
        && (*first, *second) == (bos, bos)
    {
        return Err(RunError::invalid(
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
    if ids.len() >= context {
        return Err(RunError::invalid(
            format!("the prompt of {name} has {} tokens, but the model's context holds {context}", ids.len()),
            "choose a protocol with fewer examples, or a model with a longer context",
        ));
    }
    Ok(())
}

/// Answers that the context may cut before the token limit does.
pub(super) fn little_room(prepared: &[Prepared], context_tokens: usize, max_tokens: usize) -> Option<String> {
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

/// Few-shot prompts hold their own stop strings by design, and a prompt never ends a generation; but a stop string in
/// an unexpected place explains answers that end too early, so it is said once a string.
fn stop_strings_inside(prepared: &[Prepared], stop_strings: &[String]) -> Vec<String> {
    let note = |stop: &String| {
        let mut with = prepared.iter().filter(|one| one.prompt.text.contains(stop.as_str()));
        let first = with.next()?.sample;
        Some(format!(
            "the stop string {stop:?} stands in {} of {} prompts (first in sample {first}): no harm there, but a model \
             that writes it stops",
            with.count() + 1,
            prepared.len()
        ))
    };
    stop_strings.iter().filter_map(note).collect()
}
