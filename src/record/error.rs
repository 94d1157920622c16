//! Errors of run folders.

use std::io;
use std::path::Path;

use crate::fault::{Fault, IoCause, IoFault};

/// A run folder's failure; every message ends in a `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoFault),
    /// A file of the run folder is not what it should be, or the folder may not be used.
    #[error(transparent)]
    Invalid(#[from] Fault),
}

impl RecordError {
    /// The folder or one of its files cannot be used.
    pub fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid(Fault::new(what, hint))
    }

    /// For `map_err` on an operation on `path`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io(IoFault::new(action, path, source, hint))
    }
}

fn hint(cause: IoCause) -> &'static str {
    match cause {
        IoCause::Full => {
            "the disk is full: make room, then give the same command again; of a run what is done is kept, and `--resume` goes on"
        }
        IoCause::TooLarge => {
            "files may not grow so far: raise `ulimit -f`, or choose another disk; of a run what is done is kept, and `--resume` goes on"
        }
        IoCause::Denied => "choose a place that you may write to with `--out`",
        IoCause::NotFound => "check the path; runs lie under `runs/` unless `--out` said otherwise",
        _ => "check the disk and the path; of a run what is done is kept, and `--resume` goes on from there",
    }
}
