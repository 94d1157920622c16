//! Datasets: bundled, from the hub, or from a parquet or jsonl file or a folder of them.

mod jsonl;
mod locate;
mod names;
mod parquet;
mod sources;

use super::{Sample, TaskError};
use crate::hub::Hub;

pub(super) use jsonl::read_examples;
pub(super) use locate::train_split;

/// Where a dataset comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetSpec {
    /// `bundled`; a hub id such as `openai/gsm8k`, or with a config, `openai/gsm8k/main`; a path of a .parquet, .jsonl
    /// or .json (one object a line) file; or a local folder laid out like a hub dataset.
    pub source: String,
    /// `test` by default. A single file has no splits, and this only says which it is.
    pub split: String,
    /// A hub dataset's revision; empty means the one that `datasets/sources.toml` names, else `main`.
    pub revision: String,
    /// What the file's SHA-256 must be, if the user says so.
    pub sha256: Option<String>,
}

/// Rows with their provenance.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// A short name for tables: `bundled`, `openai/gsm8k`, the file's name.
    pub name: String,
    /// `bundled`, the hub address with commit and file, or the absolute path.
    pub source: String,
    /// The split.
    pub split: String,
    /// SHA-256 of the file; of several shards, that of their hashes in hexadecimal, one after the other.
    pub sha256: String,
    /// Every row, in order.
    pub samples: Vec<Sample>,
}

impl Dataset {
    /// Opens a dataset; an empty one, or a row without a question or an answer, is an error that names the row.
    pub fn open(spec: &DatasetSpec, hub: &Hub) -> Result<Self, TaskError> {
        let located = locate::locate(spec, hub)?;
        let sha256 = located.sha256();
        located.check(&sha256)?;
        let mut samples = Vec::new();
        for file in &located.files {
            let rows = if names::is_parquet(&file.label) { parquet::read(file)? } else { jsonl::read(file)? };
            for row in rows {
                samples.push(row.into_sample(samples.len())?);
            }
        }
        if samples.is_empty() {
            return Err(TaskError::invalid(
                format!("{} holds no rows", located.source),
                "give a file with at least one `question` and `answer`",
            ));
        }
        Ok(Self { name: located.name, source: located.source, split: spec.split.clone(), sha256, samples })
    }
}

/// A file's bytes, and what to call it in messages. The label ends as the file's name does.
struct DataFile {
    label: String,
    bytes: Vec<u8>,
}

/// A row as read, before it is checked.
struct Row {
    /// Where it stands: `line 3 of a.jsonl`.
    place: String,
    question: Option<String>,
    answer: Option<String>,
}

impl Row {
    fn into_sample(self, index: usize) -> Result<Sample, TaskError> {
        let Self { place, question, answer } = self;
        let lacks = |what: &str| {
            TaskError::invalid(
                format!("{place} {what}"),
                "every row needs a `question` and an `answer` that ends in a line `#### N`, as in GSM8K",
            )
        };
        let question = question.filter(|text| !text.trim().is_empty()).ok_or_else(|| lacks("has no question"))?;
        let answer = answer.filter(|text| !text.trim().is_empty()).ok_or_else(|| lacks("has no answer"))?;
        let marked = answer.rsplit_once("#### ").is_some_and(|(_, value)| !value.trim().is_empty());
        if marked { Ok(Sample { index, question, answer }) } else { Err(lacks("has an answer without `#### N`")) }
    }
}

/// Enough of a text to know it by: values and reasons may run on for pages, and messages must not.
fn shortened(text: &str) -> String {
    const LENGTH: usize = 100;
    if text.chars().count() <= LENGTH { text.to_owned() } else { text.chars().take(LENGTH).chain(['…']).collect() }
}
