//! A text to read: a plain file, or a dataset's questions and answers.

use std::path::Path;

use super::{Dataset, DatasetSpec, Sample, TaskError};
use crate::bundled;
use crate::files::sha256;
use crate::hub::Hub;

/// One text with its provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// A short name for tables: `bundled`, the file's name.
    pub name: String,
    /// `bundled`, the hub address with commit and file, or the absolute path.
    pub source: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// What it holds.
    pub content: Content,
}

/// What a corpus holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A text, never blank.
    Plain(String),
    /// Questions and answers, at least one.
    Rows(Vec<Sample>),
}

impl Corpus {
    /// Opens a text. A plain file is taken as it is, to the last byte; `bundled`, a .jsonl or .parquet file, a folder of
    /// them and a dataset on the hub are read as problems, the rows of their `split`.
    pub fn open(source: &str, split: &str, hub: &Hub) -> Result<Self, TaskError> {
        let path = Path::new(source);
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let is_data = ["jsonl", "json", "parquet"].contains(&extension);
        let looks_like_a_hub_id = source.contains('/') && extension.is_empty() && !source.starts_with(['.', '/', '~']);
        if source == bundled::NAME || is_data || path.is_dir() || (!path.exists() && looks_like_a_hub_id) {
            return Self::rows(source, split, hub);
        }
        Self::read(path)
    }

    fn read(path: &Path) -> Result<Self, TaskError> {
        let place = path.display();
        let bytes = std::fs::read(path).map_err(|error| {
            TaskError::invalid(
                format!("cannot read the text {place}: {error}"),
                "give `--text` a plain text file, a .jsonl or .parquet file of problems, or `bundled`",
            )
        })?;
        let sha256 = sha256(&bytes);
        let text = String::from_utf8(bytes).map_err(|error| {
            let bytes = error.as_bytes();
            let at = error.utf8_error().valid_up_to();
            let line = 1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
            TaskError::invalid(
                format!("the text {place} is not UTF-8 from byte {at} on, in line {line}"),
                "write it in UTF-8, for instance with `iconv -t UTF-8 FILE`",
            )
        })?;
        if text.trim().is_empty() {
            return Err(TaskError::invalid(
                format!("the text {place} is empty"),
                "give a file with some hundred words or more: the longer, the smaller the standard error",
            ));
        }
        let name = path.file_name().map_or_else(|| place.to_string(), |name| name.to_string_lossy().into_owned());
        let source = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string();
        Ok(Self { name, source, sha256, content: Content::Plain(text) })
    }

    fn rows(source: &str, split: &str, hub: &Hub) -> Result<Self, TaskError> {
        let spec =
            DatasetSpec { source: source.to_owned(), split: split.to_owned(), revision: String::new(), sha256: None };
        let dataset = Dataset::open(&spec, hub)?;
        Ok(Self {
            name: dataset.name,
            source: dataset.source,
            sha256: dataset.sha256,
            content: Content::Rows(dataset.samples),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::HubSettings;

    fn hub() -> Hub {
        let endpoint = "http://127.0.0.1:9".to_owned();
        Hub::new(HubSettings { endpoint, cache: "/nonexistent".into(), token: None, offline: true })
    }

    fn open(name: &str, bytes: &[u8]) -> Result<Corpus, TaskError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Corpus::open(path.to_str().unwrap(), "test", &hub())
    }

    fn refusal(name: &str, bytes: &[u8]) -> String {
        let message = open(name, bytes).unwrap_err().to_string();
        assert!(message.contains("\nhint: "), "{message}");
        message
    }

    #[test]
    fn a_plain_text_stays_as_it_is() {
        let corpus = open("a.txt", b"\n one \r\n").unwrap();
        assert_eq!((corpus.name.as_str(), corpus.content), ("a.txt", Content::Plain("\n one \r\n".to_owned())));
        assert_eq!(corpus.sha256, crate::files::sha256(b"\n one \r\n"));
    }

    #[test]
    fn problems_are_rows() {
        let rows =
            "{\"question\": \"1+1?\", \"answer\": \"2.\\n#### 2\"}\n{\"question\": \"Q\", \"answer\": \"#### 3\"}";
        let Content::Rows(rows) = open("a.jsonl", rows.as_bytes()).unwrap().content else { panic!("a plain text") };
        assert_eq!((rows.len(), rows[0].answer.as_str()), (2, "2.\n#### 2"));
        let bundled = Corpus::open(bundled::NAME, "test", &hub()).unwrap();
        assert_eq!(bundled.source, bundled::NAME);
        assert!(matches!(bundled.content, Content::Rows(rows) if rows.len() > 100));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(refusal("a.txt", b"").contains("is empty"));
        assert!(refusal("a.txt", b" \n\t\n").contains("is empty"));
        assert!(refusal("a.txt", b"one\ntwo \xff").contains("byte 8 on, in line 2"));
        assert!(refusal("a.jsonl", b"").contains("no rows"));
        for missing in ["/no/such/text.txt", "no-such-text", "no/such.txt"] {
            let message = Corpus::open(missing, "test", &hub()).unwrap_err().to_string();
            assert!(message.contains(missing) && message.contains("--text"), "{message}");
        }
    }
}
