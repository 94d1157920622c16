//! Which dataset is meant.

use crate::hub::DEFAULT_REVISION;
use crate::task::definition::Task;

/// Where a dataset comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetSpec {
    /// `bundled`; a hub id such as `openai/gsm8k`, with a config, `openai/gsm8k/main`, or with a file, `juletxara/mgsm:mgsm_de.tsv`;
    /// a path of a .parquet, .jsonl, .json (one object a line, or a list of them), .csv or .tsv file; or a local folder laid out
    /// like a hub dataset.
    pub source: String,
    /// `test` by default. A single file has no splits, and this only says which it is.
    pub split: String,
    /// A hub dataset's revision; empty means the one that `datasets/sources.toml` names, else `main`.
    pub revision: String,
    /// What the file's SHA-256 must be, if the user says so.
    pub sha256: Option<String>,
}

impl DatasetSpec {
    /// What a task reads: its own dataset and split unless others are named.
    pub fn of(task: &Task, source: Option<&str>, split: Option<&str>) -> Self {
        Self {
            source: source.unwrap_or(&task.dataset).to_owned(),
            split: split.unwrap_or(&task.split).to_owned(),
            revision: if source.is_none() { task.revision.clone() } else { DEFAULT_REVISION.to_owned() },
            sha256: None,
        }
    }
}
