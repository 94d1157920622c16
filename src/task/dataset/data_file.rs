//! A data file: what it is called, and its bytes, which are read as they are needed.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::files::{Blob, BlobReader};
use crate::task::TaskError;

/// A file's bytes, and what to call it in messages. The label ends as the file's name does.
#[derive(Clone)]
pub(super) struct DataFile {
    pub(super) label: String,
    pub(super) blob: Arc<Blob>,
}

impl DataFile {
    /// Opens a file of the user's.
    pub(super) fn open(path: &Path) -> Result<Self, TaskError> {
        let label = path.display().to_string();
        let opened = std::fs::metadata(path).and_then(|metadata| match metadata.file_type() {
            kind if kind.is_file() => Blob::open(path),
            kind if kind.is_dir() => Err(io::Error::other("it is no regular file")),
            _ => spooled(path),
        });
        let blob = opened.map_err(|error| unreadable(&label, &error))?;
        Ok(Self { label, blob: Arc::new(blob) })
    }

    /// A file that is part of the program.
    pub(super) fn embedded(label: String, bytes: &'static [u8]) -> Self {
        Self { blob: Arc::new(Blob::embedded(&label, bytes)), label }
    }

    /// The bytes from the first on.
    pub(super) fn reader(&self) -> BlobReader {
        BlobReader { blob: Arc::clone(&self.blob), offset: 0 }
    }

    /// In hexadecimal.
    pub(super) fn sha256(&self) -> Result<String, TaskError> {
        self.blob.sha256().map_err(|error| unreadable(&self.label, &error))
    }
}

/// What comes out of a pipe, kept in a file without a name: the hash and the rows are each read from the beginning.
fn spooled(path: &Path) -> io::Result<Blob> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut File::open(path)?, &mut file)?;
    Ok(Blob::File { path: path.to_path_buf(), file })
}

fn unreadable(label: &str, error: &io::Error) -> TaskError {
    TaskError::invalid(format!("cannot read {label}: {error}"), "check the path and its permissions")
}

/// Enough of a text to know it by: values and reasons may run on for pages, and messages must not.
pub(super) fn shortened(text: &str) -> String {
    const LENGTH: usize = 100;
    if text.chars().count() <= LENGTH { text.to_owned() } else { text.chars().take(LENGTH).chain(['…']).collect() }
}
