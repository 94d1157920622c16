//! A run folder read back whole: what a report is made of.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Record, RecordError, RunFolder, StoredCompletion, read_journal};
use crate::engine::Dtype;
use crate::files::write_atomically;

/// A line of `samples.jsonl`: what the model was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSample {
    /// Row of the dataset.
    pub sample: usize,
    /// The dataset's question.
    pub question: String,
    /// The dataset's answer.
    pub answer: String,
    /// What the model read, as text.
    pub prompt: String,
}

/// A finished run: its results, its questions and every completion.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// The folder.
    pub path: PathBuf,
    /// The results.
    pub record: Record,
    /// The questions in row order; none in folders of before they were kept.
    pub samples: Vec<StoredSample>,
    /// The completions of each precision of the record, by sample and repeat.
    pub completions: Vec<(Dtype, Vec<StoredCompletion>)>,
}

impl StoredRun {
    /// Reads a run folder. One that is not there, has not finished, or whose journals are not those of its record is
    /// refused.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        if !path.is_dir() {
            let what = if path.exists() { "is not a folder" } else { "is not there" };
            return Err(RecordError::invalid(
                format!("the run {} {what}", path.display()),
                "give the folder of a run; they lie under `runs/` unless `--out` said otherwise",
            ));
        }
        let record = Self::read_record(path)?;
        let mut completions = Vec::new();
        for dtype in &record.dtypes {
            let journal = path.join(dtype.dtype.name()).join("journal.jsonl");
            let mut stored: Vec<StoredCompletion> = read_journal(&journal)?;
            if stored.len() != dtype.n {
                return Err(RecordError::invalid(
                    format!(
                        "{} holds {} completions, the run's record.json {}",
                        journal.display(),
                        stored.len(),
                        dtype.n
                    ),
                    "give the run's command (in plan.json) with `--resume`: it makes the record anew",
                ));
            }
            stored.sort_by_key(|completion| (completion.sample, completion.repeat));
            completions.push((dtype.dtype, stored));
        }
        let samples = read_journal(&path.join(SAMPLES))?;
        Ok(Self { path: path.to_path_buf(), record, samples, completions })
    }

    fn read_record(path: &Path) -> Result<Record, RecordError> {
        let file = path.join("record.json");
        if file.exists() {
            return Record::read(&file);
        }
        // Names the missing file where this is no run folder at all.
        RunFolder::read_plan(path)?;
        Err(RecordError::invalid(
            format!("the run in {} has not finished", path.display()),
            "finish it: give its command (in plan.json) with `--resume`",
        ))
    }
}

const SAMPLES: &str = "samples.jsonl";

pub(super) fn write_samples(folder: &Path, samples: &[StoredSample]) -> Result<(), RecordError> {
    let path = folder.join(SAMPLES);
    let mut bytes = Vec::new();
    for sample in samples {
        serde_json::to_writer(&mut bytes, sample).map_err(|error| RecordError::io("write", &path)(error.into()))?;
        bytes.push(b'\n');
    }
    write_atomically(&path, &bytes).map_err(RecordError::io("write", &path))
}
