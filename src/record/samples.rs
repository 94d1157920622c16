//! `samples.jsonl`: a run's questions and prompts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::RecordError;
use super::lines::{Lines, line_of, parse, read_lines};
use crate::files::{sha256, write_atomically};

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

/// Questions of run folders, each file once however many folders hold the same one.
#[derive(Debug, Default)]
pub(crate) struct SampleFiles {
    /// By the file's hash.
    read: Mutex<HashMap<String, Arc<Vec<StoredSample>>>>,
}

impl SampleFiles {
    /// The questions in a run folder, in row order, with what the user should know of the file; none in folders of before they were kept.
    pub(crate) fn read(&self, folder: &Path) -> Result<(Arc<Vec<StoredSample>>, Option<String>), RecordError> {
        let path = folder.join(SAMPLES);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Arc::default(), None)),
            bytes => bytes.map_err(RecordError::io("read", &path))?,
        };
        let hash = sha256(&bytes);
        let known = || self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(samples) = known().get(&hash) {
            return Ok((Arc::clone(samples), None));
        }
        let lines: Lines<StoredSample> = parse(&bytes, &path, HINT)?;
        let note = lines.note(&path);
        let samples = Arc::new(lines.values);
        // A file that cannot prove itself is noted in every folder that holds it.
        if note.is_some() {
            return Ok((samples, note));
        }
        // Another thread may have read the same meanwhile: one of the two is kept.
        Ok((Arc::clone(known().entry(hash).or_insert(samples)), None))
    }
}

const HINT: &str = "the file was changed or its disk is at fault; delete it and the run's record.json, and give `evalsuite resume RUN`: \
                    it writes both anew";

/// The questions in a run folder, in row order; none in folders of before they were kept.
pub(crate) fn read_samples(folder: &Path) -> Result<Lines<StoredSample>, RecordError> {
    read_lines(&folder.join(SAMPLES), HINT)
}

pub(super) fn write_samples(folder: &Path, samples: &[StoredSample]) -> Result<(), RecordError> {
    let path = folder.join(SAMPLES);
    let mut bytes = Vec::new();
    for sample in samples {
        bytes.extend(line_of(sample).map_err(|error| RecordError::io("write", &path)(error.into()))?);
    }
    write_atomically(&path, &bytes).map_err(RecordError::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sample: usize) -> StoredSample {
        StoredSample {
            sample,
            id: None,
            question: "How many?".to_owned(),
            answer: "#### 4".to_owned(),
            reference: None,
            cluster: None,
            prompt: "Q: How many?".to_owned(),
        }
    }

    #[test]
    fn folders_with_the_same_questions_share_them_and_a_damaged_one_is_told() {
        let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        let path = |index: usize| folders[index].path();
        write_samples(path(0), &[sample(0), sample(1)]).unwrap();
        write_samples(path(1), &[sample(0), sample(1)]).unwrap();
        write_samples(path(2), &[sample(0), sample(2)]).unwrap();
        let text = std::fs::read_to_string(path(0).join(SAMPLES)).unwrap();
        let files = SampleFiles::default();
        let read: Vec<_> = (0..4).map(|index| files.read(path(index)).unwrap()).collect();
        assert!(Arc::ptr_eq(&read[0].0, &read[1].0) && !Arc::ptr_eq(&read[0].0, &read[2].0));
        assert_eq!(read[2].0[1], sample(2));
        assert!(read[3].0.is_empty(), "there is none");
        std::fs::write(path(1).join(SAMPLES), text.replacen("How", "Who", 1)).unwrap();
        assert!(files.read(path(1)).unwrap_err().to_string().contains("samples.jsonl:1: damaged line"));
        // Lines of before checksums are told in every folder.
        let unproven = format!("{}\n", serde_json::to_string(&sample(7)).unwrap());
        (0..2).for_each(|index| std::fs::write(path(index).join(SAMPLES), &unproven).unwrap());
        assert!((0..2).all(|index| files.read(path(index)).unwrap().1.is_some()));
    }
}
