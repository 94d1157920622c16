//! A run folder read back whole: what a report is made of.

use std::path::{Path, PathBuf};

use super::{EvalPlan, EvalRecord};
use crate::record::{RecordError, RunFolder, StoredCompletion, StoredSample, VariantName, read_journal, read_samples};

/// A finished run: its results, its questions and every completion.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// The folder.
    pub path: PathBuf,
    /// The results.
    pub record: EvalRecord,
    /// The questions in row order; none in folders of before they were kept.
    pub samples: Vec<StoredSample>,
    /// The completions of each variant of the record, by sample and repeat.
    pub completions: Vec<(VariantName, Vec<StoredCompletion>)>,
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
        for variant in &record.dtypes {
            let journal = RunFolder::journal_path(path, &variant.dtype);
            let mut stored: Vec<StoredCompletion> = read_journal(&journal)?;
            if stored.len() != variant.n {
                return Err(RecordError::invalid(
                    format!(
                        "{} holds {} completions, the run's record.json {}",
                        journal.display(),
                        stored.len(),
                        variant.n
                    ),
                    "delete its record.json and give `evalsuite resume RUN`: it makes the record anew",
                ));
            }
            stored.sort_by_key(|completion| (completion.sample, completion.repeat));
            completions.push((variant.dtype.clone(), stored));
        }
        let samples = read_samples(path)?;
        Ok(Self { path: path.to_path_buf(), record, samples, completions })
    }

    fn read_record(path: &Path) -> Result<EvalRecord, RecordError> {
        let file = path.join("record.json");
        if file.exists() {
            return EvalRecord::read(&file);
        }
        // Names the missing file where this is no run folder at all.
        RunFolder::read_plan::<EvalPlan>(path)?;
        Err(RecordError::invalid(
            format!("the run in {} has not finished", path.display()),
            "finish it with `evalsuite resume RUN`",
        ))
    }
}
