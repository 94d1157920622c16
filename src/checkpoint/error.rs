//! What can go wrong while a checkpoint is written.

use std::io;
use std::path::{Path, PathBuf};

/// A failure to write a checkpoint, with the way out behind `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The destination cannot be used.
    #[error("{what}\nhint: {hint}")]
    Invalid {
        /// What is wrong, on which value.
        what: String,
        /// The way out.
        hint: String,
    },
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
}

impl CheckpointError {
    /// The destination cannot be used.
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
            "the disk is full: make room, then give the same command again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a folder that you may write to with `--out DIR`"
        }
        io::ErrorKind::NotFound => "check the path",
        _ => "check the disk and the path, then give the same command again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_what_to_do() {
        let error = CheckpointError::io("write", Path::new("out/model.safetensors"))(io::ErrorKind::StorageFull.into());
        let text = error.to_string();
        assert!(text.starts_with("cannot write out/model.safetensors: "), "{text}");
        assert!(text.contains("\nhint: the disk is full: make room"), "{text}");
    }
}
