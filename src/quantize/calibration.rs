//! The text whose activations guide the searches, as sequences of tokens.

use std::path::Path;

use super::QuantizeError;
use crate::checkpoint::CheckpointError;
use crate::engine::model::ModelSource;
use crate::files::{read_text, sha256};
use crate::hub::{DEFAULT_REVISION, Hub};
use crate::task::{ChatTemplate, Dataset, DatasetSpec, Message, Sample, Task};

/// Sequences that are taken: no fewer will do.
pub(super) const SEQUENCES: usize = 128;

/// Tokens of a sequence at most.
pub(super) const SEQUENCE_TOKENS: usize = 512;

/// A plain text is cut into shorter sequences where it has to be, but not into shorter ones than this.
const FEWEST_TOKENS: usize = 32;

/// Sequences of tokens, each to be read on its own.
pub(super) struct CalibrationText {
    /// For the state and the messages: `bundled`, or the path.
    pub(super) source: String,
    /// [`SEQUENCES`] of them, each of 1 to [`SEQUENCE_TOKENS`] tokens.
    pub(super) sequences: Vec<Vec<u32>>,
}

impl CalibrationText {
    /// Reads a file of text or of questions and answers, or the bundled problems' train split, and tokenises it for a
    /// model. Takes what it needs evenly from the whole.
    pub(super) fn open(file: Option<&Path>, model: &ModelSource, hub: &Hub) -> Result<Self, QuantizeError> {
        let source = file.map_or_else(|| crate::bundled::NAME.to_owned(), |path| path.display().to_string());
        let limit = SEQUENCE_TOKENS.min(model.config.context_tokens);
        let is_rows = |path: &Path| {
            let named = |rows: &&str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(rows));
            ["parquet", "jsonl", "json"].iter().any(named)
        };
        let sequences = match file {
            Some(path) if !is_rows(path) => from_text(path, model, limit)?,
            _ => from_rows(&source, model, hub, limit)?,
        };
        match sequences.iter().flatten().find(|token| **token as usize >= model.config.vocabulary) {
            None => Ok(Self { source, sequences }),
            Some(token) => Err(QuantizeError::invalid(
                format!("the tokenizer gives the token {token}, but the vocabulary of {} is smaller", model.name),
                "tokenizer and weights belong to different models: fetch both from one place",
            )),
        }
    }

    /// Of the tokens: the same text under another tokenizer is another calibration.
    pub(super) fn sha256(&self) -> String {
        let word = |token: u32| token.to_le_bytes();
        let bytes: Vec<u8> = self
            .sequences
            .iter()
            .flat_map(|sequence| std::iter::once(sequence.len() as u32).chain(sequence.iter().copied()))
            .flat_map(word)
            .collect();
        sha256(&bytes)
    }

    /// Tokens in all.
    pub(super) fn tokens(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }
}

/// One sequence a row, as the model meets it in use: through its chat template where it has one.
fn from_rows(source: &str, model: &ModelSource, hub: &Hub, limit: usize) -> Result<Vec<Vec<u32>>, QuantizeError> {
    let spec = DatasetSpec {
        source: source.to_owned(),
        split: "train".to_owned(),
        revision: DEFAULT_REVISION.to_owned(),
        sha256: None,
    };
    let spread = |all: &Dataset| Ok((0..SEQUENCES).map(|index| index * all.scored() / SEQUENCES).collect());
    let dataset = Dataset::pick(&Task::gsm8k()?, &spec, hub, spread)?;
    let rows = dataset.scored();
    if rows < SEQUENCES {
        return Err(too_short(source, &format!("{rows} rows"), &format!("{SEQUENCES} are needed, a sequence each")));
    }
    let tokenizer = &model.tokenizer;
    let template = tokenizer
        .chat_template
        .as_ref()
        .map(|template| ChatTemplate::new(template, &tokenizer.named_tokens))
        .transpose()?;
    let end = tokenizer.eos_token.as_deref().unwrap_or_default();
    let sequence = |sample: &Sample| -> Result<Vec<u32>, QuantizeError> {
        let mut ids = match &template {
            Some(template) => {
                let prompt = template.render(&[Message::new("user", sample.question.as_str())])?;
                let text = format!("{prompt}{}{end}", sample.answer);
                tokenizer.encode(&text, false)?
            }
            None => tokenizer.encode(&format!("{}\n{}", sample.question, sample.answer), true)?,
        };
        ids.truncate(limit);
        Ok(ids)
    };
    let sequences: Vec<_> = dataset.samples.iter().map(sequence).collect::<Result<_, _>>()?;
    if sequences.iter().any(Vec::is_empty) {
        return Err(too_short(source, "a row without tokens", "every row needs a question and an answer"));
    }
    Ok(sequences)
}

/// Pieces of a plain text, with the model's own beginning before each.
fn from_text(path: &Path, model: &ModelSource, limit: usize) -> Result<Vec<Vec<u32>>, QuantizeError> {
    let text = read_text(path).map_err(CheckpointError::io("read the calibration text", path))?;
    let tokenizer = &model.tokenizer;
    let begin: Vec<u32> = tokenizer.encode("", true)?.into_iter().filter(|id| Some(*id) == tokenizer.bos_id).collect();
    let tokens = tokenizer.encode(&text, false)?;
    let room = limit.saturating_sub(begin.len());
    let length = room.min(tokens.len() / SEQUENCES);
    if length < FEWEST_TOKENS.min(room.max(1)) {
        return Err(too_short(
            &path.display().to_string(),
            &format!("{} tokens", tokens.len()),
            &format!("{} are needed: {SEQUENCES} sequences of {FEWEST_TOKENS} or more", SEQUENCES * FEWEST_TOKENS),
        ));
    }
    let pieces = tokens.len() / length;
    let piece = |index: usize| {
        let start = index * pieces / SEQUENCES * length;
        begin.iter().chain(&tokens[start..start + length]).copied().collect()
    };
    Ok((0..SEQUENCES).map(piece).collect())
}

fn too_short(source: &str, is: &str, needed: &str) -> QuantizeError {
    QuantizeError::invalid(
        format!("the calibration text {source} is too short: it has {is}; {needed}"),
        "give a longer `--calibration` file (GSM8K's train split serves well), or leave it out for the bundled one",
    )
}
