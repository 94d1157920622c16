//! `journal.jsonl`: one line a completion, appended and synced as completions end.
//!
//! A torn last line, which a kill may leave, is dropped and its sample is generated again; a damaged line is an error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::RecordError;
use super::lines::{Lines, line_of, parse, read_lines};
use crate::engine::{CountedBy, Finish, Timings};
use crate::score::Extraction;

const HINT: &str = "only a last line can be torn by a kill, so this file was changed or its disk is at fault; delete that line and give \
                    `evalsuite resume RUN` to generate its sample again; of a finished run, delete record.json and answers.jsonl too";

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredCompletion {
    /// Row of the dataset.
    pub sample: usize,
    /// 0 for the first completion of the sample.
    pub repeat: usize,
    /// SHA-256 of the prompt's text.
    pub prompt_sha256: String,
    /// SHA-256 of the prompt's token ids, as little-endian words of 32 bits; `None` where the target does not tell them, and in journals
    /// of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_ids_sha256: Option<String>,
    /// Tokens that the model was fed; `None` where the target does not tell.
    pub prompt_tokens: Option<usize>,
    /// Every generated token, the ending one included; `None` where the target does not tell them.
    pub token_ids: Option<Vec<u32>>,
    /// How many they are, where only that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<usize>,
    /// Who counted them, where a server made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_by: Option<CountedBy>,
    /// Their text, cut before a stop string; without the thought, where there is one.
    pub text: String,
    /// What was thought before it, which is not scored; left out where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thought: Option<StoredThought>,
    /// Why generation ended.
    pub finish: Finish,
    /// What every rule extracted, where, and whether it is right.
    pub scores: Vec<Extraction>,
    /// How far each token's best logit lay above the second best; empty where the run did not ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub margins: Vec<f32>,
    /// When.
    pub timings: Timings,
    /// Index into the variant's sessions.
    pub session: usize,
    /// Seconds from the session's first request until this completion ended.
    pub at_seconds: f64,
}

/// A thought in a run's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredThought {
    /// Its tokens, the marks included; `None` where the target does not tell.
    pub tokens: Option<usize>,
    /// Its text, without the marks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl StoredCompletion {
    /// Output tokens, the ending one included; `None` where the target does not tell them.
    pub fn output_tokens(&self) -> Option<usize> {
        self.token_ids.as_ref().map(Vec::len).or(self.output_tokens)
    }

    /// Whether it is right by a rule; `None` where that did not score it.
    pub fn is_right(&self, rule: &str) -> Option<bool> {
        self.scores.iter().find(|score| score.rule == rule).map(|score| score.correct)
    }
}

/// Appends to a journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    synced: Instant,
    dirty: bool,
}

impl Journal {
    /// The longest that a line may stay in the page cache, however quickly others follow.
    const SYNC_EVERY: Duration = Duration::from_secs(1);

    /// Opens or creates a journal and returns its whole lines; an incomplete last line is cut off.
    pub fn open(path: &Path) -> Result<(Self, Vec<StoredCompletion>), RecordError> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(path)
            .map_err(RecordError::io("open", path))?;
        let bytes = std::fs::read(path).map_err(RecordError::io("read", path))?;
        let Lines { values, length, .. } = parse(&bytes, path, HINT)?;
        if length < bytes.len() {
            file.set_len(length as u64).map_err(RecordError::io("cut the torn last line of", path))?;
        }
        Ok((Self::from_file(file, path), values))
    }

    fn from_file(file: File, path: &Path) -> Self {
        Self { file, path: path.to_path_buf(), synced: Instant::now(), dirty: false }
    }

    /// Writes one line. It survives the process at once, and a power cut after the next [`Journal::sync`].
    pub fn append(&mut self, completion: &StoredCompletion) -> Result<(), RecordError> {
        let line = line_of(completion).map_err(|error| RecordError::io("write", &self.path)(error.into()))?;
        self.file.write_all(&line).map_err(RecordError::io("write", &self.path))?;
        self.dirty = true;
        if self.synced.elapsed() > Self::SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    /// Waits until every line is on the disk. Lines that are written together share one call.
    pub fn sync(&mut self) -> Result<(), RecordError> {
        if self.dirty {
            self.file.sync_data().map_err(RecordError::io("write", &self.path))?;
            self.dirty = false;
        }
        self.synced = Instant::now();
        Ok(())
    }
}

/// All whole lines of a journal, in order; none if the file does not exist.
pub fn read_journal(path: &Path) -> Result<Lines<StoredCompletion>, RecordError> {
    read_lines(path, HINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(sample: usize) -> StoredCompletion {
        StoredCompletion {
            sample,
            repeat: 0,
            prompt_sha256: "00".repeat(32),
            prompt_ids_sha256: Some("11".repeat(32)),
            prompt_tokens: Some(12),
            token_ids: Some(vec![5, 6, 70_000]),
            output_tokens: None,
            counted_by: None,
            text: "So:\n\"4\" é\u{2028}".to_owned(),
            thought: Some(StoredThought { tokens: Some(2), text: "two and two".to_owned() }),
            finish: Finish::EndOfSequence,
            scores: vec![Extraction {
                rule: "strict".to_owned(),
                value: Some("4".to_owned()),
                span: Some([5, 6]),
                correct: true,
            }],
            margins: vec![0.5, 1.25],
            timings: Timings { queued_seconds: 0.1, first_token_seconds: 0.2, total_seconds: 0.3 },
            session: 0,
            at_seconds: 0.5,
        }
    }

    #[test]
    fn a_journal_cut_at_any_byte_gives_its_whole_lines_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (mut journal, done) = Journal::open(&path).unwrap();
        assert!(done.is_empty());
        (0..3).for_each(|sample| journal.append(&completion(sample)).unwrap());
        journal.sync().unwrap();
        let full = std::fs::read(&path).unwrap();
        let line = full.len() / 3;
        for length in 0..=full.len() {
            std::fs::write(&path, &full[..length]).unwrap();
            let (mut journal, done) = Journal::open(&path).unwrap();
            assert_eq!(done, (0..length / line).map(completion).collect::<Vec<_>>(), "cut at {length}");
            (done.len()..3).for_each(|sample| journal.append(&completion(sample)).unwrap());
            assert_eq!(std::fs::read(&path).unwrap(), full, "cut at {length}");
        }
    }

    #[test]
    fn a_damaged_line_in_the_middle_names_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let good = serde_json::to_string(&completion(0)).unwrap();
        std::fs::write(&path, format!("{good}\n{}\n{good}\n", &good[..40])).unwrap();
        let message = Journal::open(&path).unwrap_err().to_string();
        assert!(message.contains("journal.jsonl:2: damaged line"), "{message}");
        assert!(message.contains("hint: "), "{message}");
        assert!(read_journal(&path).is_err());
    }

    #[test]
    fn a_line_counts_its_tokens() {
        let line = serde_json::to_vec(&completion(7)).unwrap();
        let read: StoredCompletion = serde_json::from_slice(&line).unwrap();
        assert_eq!((read.sample, read.output_tokens(), read.prompt_tokens), (7, Some(3), Some(12)));
        assert_eq!(read.text, completion(7).text);
        assert_eq!(read, completion(7));
    }

    #[test]
    fn what_a_target_does_not_tell_is_unknown() {
        let unknown =
            StoredCompletion { prompt_ids_sha256: None, prompt_tokens: None, token_ids: None, ..completion(7) };
        let line = serde_json::to_vec(&unknown).unwrap();
        let read: StoredCompletion = serde_json::from_slice(&line).unwrap();
        assert_eq!(read, unknown);
        assert_eq!((read.output_tokens(), read.prompt_tokens), (None, None));
        let counted = StoredCompletion { output_tokens: Some(9), counted_by: Some(CountedBy::Usage), ..unknown };
        let read: StoredCompletion = serde_json::from_slice(&serde_json::to_vec(&counted).unwrap()).unwrap();
        assert_eq!((read.output_tokens(), read.counted_by), (Some(9), Some(CountedBy::Usage)));
    }

    #[test]
    fn a_full_disk_is_said_and_keeps_what_is_done() {
        let path = Path::new("/dev/full");
        let Ok(file) = OpenOptions::new().write(true).open(path) else {
            crate::skip::skip("/dev/full", "no /dev/full on this system");
            return;
        };
        let message = Journal::from_file(file, path).append(&completion(0)).unwrap_err().to_string();
        assert!(message.contains("/dev/full") && message.contains("what is done is kept"), "{message}");
    }
}
