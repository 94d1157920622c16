//! Render: the chosen samples as prompts, with everything checked that would spoil a run silently.

use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use super::{EvalInputs, EvalJob};
use crate::engine::Prompt;
use crate::files::sha256;
use crate::jobs::prepared::{Row, check, ids_sha256, little_room};
use crate::jobs::{JobError, Model, Prepared};
use crate::task::{Fewshot, Sample, Selection};

/// Renders and tokenises the job's samples, in row order, and checks them; the notes are for the user.
pub(in crate::jobs) fn prepare(inputs: &EvalInputs, job: &EvalJob) -> Result<(Vec<Prepared>, Vec<String>), JobError> {
    let chosen = inputs.chosen(&job.selection)?;
    let prepared: Vec<Prepared> = chosen.par_iter().map(|sample| render(inputs, sample)).collect::<Result<_, _>>()?;
    for one in &prepared {
        refuse(inputs, one)?;
    }
    let mut notes = stop_strings_inside(&prepared, &inputs.stop_strings(job));
    notes.extend(little_room(&prepared, inputs.model().context_tokens(), inputs.max_tokens(job)));
    Ok((prepared, notes))
}

/// Refuses a prompt that would spoil a run.
fn refuse(inputs: &EvalInputs, one: &Prepared) -> Result<(), JobError> {
    let (number, has_examples) = (one.sample, inputs.fewshot != Fewshot::None);
    let row = Row { number, dataset: &inputs.dataset.name, has_examples };
    check(&format!("sample {number}"), &one.prompt, inputs.model(), inputs.chat.is_some(), Some(&row))
}

/// The prompt of one row, and what a run would say of it: what `--show-prompt` prints, as text by its `Display`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownPrompt {
    /// Row of the dataset.
    pub sample: usize,
    /// What the model reads.
    pub text: String,
    /// Of the text.
    pub sha256: String,
    /// The same as the model's tokens.
    pub token_ids: Vec<u32>,
    /// The tokens' texts.
    pub tokens: Vec<String>,
    /// Strings that end a generation.
    pub stop_strings: Vec<String>,
    /// The dataset's answer.
    pub answer: String,
    /// The value that is right, where the task's answers hold more than a value.
    pub reference: Option<String>,
    /// Why a run would refuse the prompt, if it would.
    pub refusal: Option<String>,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl fmt::Display for ShownPrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        writeln!(f, "\n--- sample {}, {} tokens, sha256 {}", self.sample, self.token_ids.len(), self.sha256)?;
        writeln!(f, "token ids: {:?}", self.token_ids)?;
        writeln!(f, "tokens: {}", self.tokens.join(" "))?;
        writeln!(f, "stop strings: {:?}", self.stop_strings)?;
        writeln!(f, "reference answer: {:?}", self.answer)?;
        if let Some(reference) = &self.reference {
            writeln!(f, "reference value: {reference:?}")?;
        }
        if let Some(refusal) = &self.refusal {
            writeln!(f, "a run would refuse it: {refusal}")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

/// The prompt of one row; runs nothing.
pub fn show_prompt(inputs: &EvalInputs, job: &EvalJob, row: usize) -> Result<ShownPrompt, JobError> {
    let chosen = inputs.chosen(&Selection { limit: None, indices: vec![row] })?;
    let sample = chosen.first().ok_or_else(|| JobError::invalid(format!("there is no row {row}"), "name another"))?;
    let one = render(inputs, sample)?;
    let stop_strings = inputs.stop_strings(job);
    let refusal = refuse(inputs, &one).err();
    Ok(ShownPrompt {
        sample: row,
        text: one.prompt.text.clone(),
        sha256: one.prompt_sha256.clone(),
        token_ids: one.prompt.token_ids.clone(),
        tokens: one.prompt.token_ids.iter().map(|id| shown_token(inputs.model(), *id)).collect(),
        answer: one.answer.clone(),
        reference: (!inputs.task.is_gsm8k()).then(|| one.reference.clone()),
        refusal: refusal.map(|error| error.to_string()),
        notes: [&inputs.notes[..], &inputs.checkpoints.notes, &stop_strings_inside(&[one], &stop_strings)].concat(),
        stop_strings,
    })
}

fn shown_token(model: &Model, id: u32) -> String {
    let token = model.tokenizer().and_then(|tokenizer| tokenizer.id_to_token(id));
    token.map_or_else(|| format!("<{id}>"), |token| format!("{token:?}"))
}

fn render(inputs: &EvalInputs, sample: &Sample) -> Result<Prepared, JobError> {
    let rendered = inputs.protocol.render(sample, &inputs.fewshot, inputs.chat.as_ref())?;
    let token_ids = inputs.model().encode(&rendered.text, rendered.add_special_tokens)?;
    Ok(Prepared {
        sample: sample.index,
        question: sample.question.clone(),
        answer: sample.answer.clone(),
        reference: sample.reference.clone(),
        cluster: sample.cluster.clone(),
        prompt_sha256: sha256(rendered.text.as_bytes()),
        prompt_ids_sha256: ids_sha256(&token_ids),
        prompt: Arc::new(Prompt { text: rendered.text, token_ids }),
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
