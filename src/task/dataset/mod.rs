//! Datasets: bundled, from the hub, or from a parquet or jsonl file.

use super::{Sample, TaskError};
use crate::hub::Hub;

/// Where a dataset comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetSpec {
    /// `bundled`, a hub id such as `openai/gsm8k`, or a path of a .parquet or .jsonl file.
    pub source: String,
    /// `test` by default.
    pub split: String,
    /// A hub dataset's revision.
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
    /// SHA-256 of the file.
    pub sha256: String,
    /// Every row, in order.
    pub samples: Vec<Sample>,
}

impl Dataset {
    /// Opens a dataset; an empty one, or a row without a question or an answer, is an error that names the row.
    pub fn open(spec: &DatasetSpec, hub: &Hub) -> Result<Self, TaskError> {
        let _ = (spec, hub);
        todo!()
    }
}
