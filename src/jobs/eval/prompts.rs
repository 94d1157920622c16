//! Render: the chosen samples as prompts, with everything checked that would spoil a run silently.

use std::fmt::Write as _;
use std::sync::Arc;

use rayon::prelude::*;

use super::{EvalInputs, EvalJob};
use crate::engine::Prompt;
use crate::files::sha256;
use crate::jobs::prepared::{check, little_room};
use crate::jobs::{JobError, Model, Prepared};
use crate::task::{Sample, Selection};

/// Renders and tokenises the job's samples, in row order, and checks them; the notes are for the user.
pub(super) fn prepare(inputs: &EvalInputs, job: &EvalJob) -> Result<(Vec<Prepared>, Vec<String>), JobError> {
    let chosen = inputs.chosen(&job.selection)?;
    let prepared: Vec<Prepared> = chosen.par_iter().map(|sample| render(inputs, sample)).collect::<Result<_, _>>()?;
    for one in &prepared {
        check(&format!("sample {}", one.sample), &one.prompt, inputs.model(), inputs.chat.is_some())?;
    }
    let mut notes = stop_strings_inside(&prepared, &inputs.stop_strings(job));
    notes.extend(little_room(&prepared, inputs.model().context_tokens(), inputs.max_tokens(job)));
    Ok((prepared, notes))
}

/// The prompt of one row as text, token ids and tokens, and what a run would say of it: what `--show-prompt` prints.
pub fn show_prompt(inputs: &EvalInputs, job: &EvalJob, row: usize) -> Result<String, JobError> {
    let mut text = String::new();
    for sample in inputs.chosen(&Selection { limit: None, indices: vec![row] })? {
        let one = render(inputs, sample)?;
        let ids = &one.prompt.token_ids;
        let tokens: Vec<String> = ids.iter().map(|id| shown_token(inputs.model(), *id)).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", one.prompt.text);
        let _ = writeln!(text, "\n--- sample {row}, {} tokens, sha256 {}", ids.len(), one.prompt_sha256);
        let _ = writeln!(text, "token ids: {ids:?}");
        let _ = writeln!(text, "tokens: {}", tokens.join(" "));
        let _ = writeln!(text, "stop strings: {:?}", inputs.stop_strings(job));
        let _ = writeln!(text, "reference answer: {:?}", one.answer);
        if !inputs.task.is_gsm8k() {
            let _ = writeln!(text, "reference value: {:?}", one.reference);
        }
        if let Err(error) = check(&format!("sample {row}"), &one.prompt, inputs.model(), inputs.chat.is_some()) {
            let _ = writeln!(text, "a run would refuse it: {error}");
        }
        for note in inputs
            .notes
            .iter()
            .chain(&inputs.checkpoints.notes)
            .chain(&stop_strings_inside(&[one], &inputs.stop_strings(job)))
        {
            let _ = writeln!(text, "note: {note}");
        }
    }
    Ok(text)
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
