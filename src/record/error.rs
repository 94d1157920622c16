//! What can go wrong with a run folder.

use std::io;
use std::path::{Path, PathBuf};

/// A run folder's failure, with the way out behind `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file system refused.
    #[error("cannot {action} {path}: {source}\nhint: {}", io_hint(source))]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the run folder is not what it should be, or the folder may not be used.
    #[error("{what}\nhint: {hint}")]
    Invalid {
        /// What is wrong, on which value.
        what: String,
        /// The way out.
        hint: String,
    },
}

impl RecordError {
    /// The folder or one of its files cannot be used.
    pub fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), hint: hint.into() }
    }

    /// For `map_err` on an operation on `path`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}

fn io_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: make room, then give the same command again; of a run what is done is kept, and `--resume` goes on"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a place that you may write to with `--out`"
        }
        io::ErrorKind::NotFound => "check the path; runs lie under `runs/` unless `--out` said otherwise",
        _ => "check the disk and the path; of a run what is done is kept, and `--resume` goes on from there",
    }
}
