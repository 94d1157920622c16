//! What every error of this program says: what failed, on which value, and the way out; and why a file system refuses.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

use crate::text::nearest;

/// A failure and the way out of it, printed as two lines: `{what}` and `hint: {hint}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}\nhint: {hint}")]
pub struct Fault {
    /// What failed, on which value.
    pub what: String,
    /// The way out.
    pub hint: String,
}

impl Fault {
    /// What failed, and the way out.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    /// A word that names nothing: the hint has the nearest of the known names, and all of them.
    pub fn unknown(kind: &str, word: &str, known: &[&str]) -> Self {
        let all = known.join(", ");
        let hint = match nearest(word, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`? Known are: {all}"),
            None => format!("known are: {all}"),
        };
        Self { what: format!("unknown {kind} `{word}`"), hint }
    }
}

/// Who can put a failure right, which decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The user: flags, files, disk.
    User,
    /// The user too, once the hub answers: something could not be had from it.
    Hub,
    /// The engine failed on what it should be able to do.
    Engine,
}

/// An operation on a file or folder that the file system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}\nhint: {hint}")]
pub struct IoFault {
    /// `read`, `write`, …
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
    /// The way out.
    pub hint: &'static str,
}

impl IoFault {
    /// `hint` chooses the way out by the cause.
    pub fn new(action: &'static str, path: &Path, source: io::Error, hint: fn(IoCause) -> &'static str) -> Self {
        let hint = hint(IoCause::of(&source));
        Self { action, path: path.to_path_buf(), source, hint }
    }

    /// The same two lines.
    pub fn to_fault(&self) -> Fault {
        Fault::new(format!("cannot {} {}: {}", self.action, self.path.display(), self.source), self.hint)
    }
}

/// Why a file system refuses, as far as the way out depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoCause {
    /// No space, or no quota, is left.
    Full,
    /// The file may not grow: `ulimit -f`, or the most that the file system takes.
    TooLarge,
    /// The user may not.
    Denied,
    /// Nothing is there.
    NotFound,
    /// The file is shorter than expected.
    TooShort,
    /// A folder is where a file is needed.
    Folder,
    /// Any other reason.
    Other,
}

impl IoCause {
    /// The cause of an error.
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::FileTooLarge => Self::TooLarge,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Denied,
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::UnexpectedEof => Self::TooShort,
            io::ErrorKind::IsADirectory => Self::Folder,
            _ => Self::Other,
        }
    }
}

/// What `work` returns; `None` where it panics, and no message is printed then. For libraries that panic on what a file
/// says.
pub fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    thread_local!(static SILENT: Cell<bool> = const { Cell::new(false) });
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !SILENT.get() {
                usual(info);
            }
        }));
    });
    let before = SILENT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    SILENT.set(before);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_two_lines() {
        assert_eq!(Fault::new("no model", "give one").to_string(), "no model\nhint: give one");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let near = Fault::unknown("dtype", "f-16", &["f32", "f16"]);
        assert_eq!(near.to_string(), "unknown dtype `f-16`\nhint: did you mean `f16`? Known are: f32, f16");
        assert_eq!(Fault::unknown("dtype", "zzz", &["f32", "f16"]).hint, "known are: f32, f16");
    }

    #[test]
    fn the_hint_of_an_io_fault_fits_its_cause() {
        let hint = |cause| if cause == IoCause::Full { "make room" } else { "check the path" };
        let fault = |kind: io::ErrorKind| IoFault::new("write", Path::new("out/a"), kind.into(), hint).to_string();
        assert_eq!(fault(io::ErrorKind::QuotaExceeded), "cannot write out/a: quota exceeded\nhint: make room");
        assert_eq!(fault(io::ErrorKind::NotFound), "cannot write out/a: entity not found\nhint: check the path");
        let fault = IoFault::new("read", Path::new("a"), io::ErrorKind::NotFound.into(), hint);
        assert_eq!(fault.to_fault().to_string(), fault.to_string());
    }
}
