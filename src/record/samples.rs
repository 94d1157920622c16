//! `samples.jsonl`: a run's questions and prompts.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::RecordError;
use super::lines::{Lines, line_of, read_lines};
use crate::files::write_atomically;

const SAMPLES: &str = "samples.jsonl";

/// A line of `samples.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSample {
    /// Row of the dataset.
    pub sample: usize,
    /// What the file of completions made elsewhere calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The dataset's question.
    pub question: String,
    /// The dataset's answer.
    pub answer: String,
    /// The reference value, if it is not what follows the answer's last `####`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Samples of the same cluster are not independent of one another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What the model read, as text; empty where completions were made elsewhere, for it is not known.
    pub prompt: String,
}

/// The questions in a run folder, in row order; none in folders of before they were kept.
pub(crate) fn read_samples(folder: &Path) -> Result<Lines<StoredSample>, RecordError> {
    let hint = "the file was changed or its disk is at fault; delete it and the run's record.json, and give `evalsuite resume RUN`: \
                it writes both anew";
    read_lines(&folder.join(SAMPLES), hint)
}

pub(super) fn write_samples(folder: &Path, samples: &[StoredSample]) -> Result<(), RecordError> {
    let path = folder.join(SAMPLES);
    let mut bytes = Vec::new();
    for sample in samples {
        bytes.extend(line_of(sample).map_err(|error| RecordError::io("write", &path)(error.into()))?);
    }
    write_atomically(&path, &bytes).map_err(RecordError::io("write", &path))
}
