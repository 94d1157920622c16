//! Errors of writing a checkpoint.

use std::io;
use std::path::Path;

use crate::fault::{Fault, IoCause, IoFault};

/// A failure to write a checkpoint; every message ends in a `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The destination cannot be used.
    #[error(transparent)]
    Invalid(#[from] Fault),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoFault),
}

impl CheckpointError {
    /// The destination cannot be used.
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
        IoCause::Full => "the disk is full: make room, then give the same command again",
        IoCause::TooLarge => {
            "files may not grow so far: raise `ulimit -f`, or choose another disk; then give the same command again"
        }
        IoCause::Denied => "choose a folder that you may write to with `--out DIR`",
        IoCause::NotFound => "check the path",
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
