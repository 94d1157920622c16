//! What can go wrong between a model's files and its tokens.

use std::ops::Range;

use crate::fault::{Fault, FaultKind, IoFault};
use crate::hub::HubError;

/// An engine's or a model's failure; every message ends in a `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A file of the model could not be read.
    #[error(transparent)]
    Read(#[from] IoFault),
    /// What was found is not what a model needs. The commonest variant: the user's files are at fault.
    #[error(transparent)]
    Invalid(#[from] Fault),
    /// The hub could not give what was asked of it.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The engine has no room for another request now.
    #[error(transparent)]
    Busy(Fault),
    /// The engine itself failed: not the user's mistake.
    #[error(transparent)]
    Failed(Fault),
    /// The model computed what is no finite number.
    #[error(transparent)]
    NotFinite(Fault),
}

impl EngineError {
    /// Who can put it right.
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Read(_) | Self::Invalid(_) | Self::Busy(_) => FaultKind::User,
            Self::Hub(_) => FaultKind::Hub,
            Self::Failed(_) | Self::NotFinite(_) => FaultKind::Engine,
        }
    }

    /// The user's files or flags are at fault.
    pub fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid(Fault::new(what, hint))
    }

    /// Too much was asked for at once.
    pub fn busy(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Busy(Fault::new(what, hint))
    }

    /// The same words again, for another one who waits for the same.
    #[must_use]
    pub fn repeated(&self) -> Self {
        match self {
            Self::Read(fault) => Self::Invalid(fault.to_fault()),
            Self::Invalid(fault) => Self::Invalid(fault.clone()),
            Self::Hub(HubError(fault)) => Self::Hub(HubError(fault.clone())),
            Self::Busy(fault) => Self::Busy(fault.clone()),
            Self::Failed(fault) => Self::Failed(fault.clone()),
            Self::NotFinite(fault) => Self::NotFinite(fault.clone()),
        }
    }

    /// The same, said of one of several: `who` stands before it.
    #[must_use]
    pub fn of(&self, who: &str) -> Self {
        let mut error = self.repeated();
        match &mut error {
            Self::Invalid(fault)
            | Self::Hub(HubError(fault))
            | Self::Busy(fault)
            | Self::Failed(fault)
            | Self::NotFinite(fault) => {
                fault.what = format!("{who}: {}", fault.what);
            }
            Self::Read(_) => (), // no repetition is one
        }
        error
    }

    /// An engine without work has not told how requests ended.
    pub(crate) fn lost_requests() -> Self {
        Self::failed(
            "the engine has nothing left to do, and requests without an end",
            "this is a fault of the engine: report it, and take another with `--engine`",
        )
    }

    /// Rows of texts that are not there: so many were read.
    pub(crate) fn not_read(rows: &Range<usize>, read: usize) -> Self {
        Self::failed(
            format!("rows {rows:?} were asked for, and {read} were read"),
            "this is a fault of the suite: report it",
        )
    }

    /// The model computed `what`, which is no finite number.
    pub fn not_finite(what: &str) -> Self {
        Self::NotFinite(Fault::new(
            format!("the model computed {what}"),
            "values overflowed in f16, for which `--dtype bf16` has room, or the checkpoint itself is at fault: fetch it again, or take another",
        ))
    }

    /// The same of an engine that computes in f32, which has room for all that a sound checkpoint computes.
    #[must_use]
    pub fn in_f32(self) -> Self {
        match self {
            Self::NotFinite(Fault { what, .. }) => {
                Self::invalid(format!("{what}, in f32"), "the checkpoint is at fault: fetch it again, or take another")
            }
            other => other,
        }
    }

    /// The system gives no thread.
    pub(crate) fn no_thread(error: &std::io::Error) -> Self {
        Self::failed(
            format!("cannot start the engine's thread: {error}"),
            "end other programs, or raise the limit of threads (`ulimit -u`)",
        )
    }

    /// The engine is at fault.
    pub fn failed(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed(Fault::new(what, hint))
    }
}

impl From<candle_core::Error> for EngineError {
    fn from(error: candle_core::Error) -> Self {
        Self::failed(
            format!("candle: {error}"),
            "run with `--engine cpu`, which computes the same without candle's operators",
        )
    }
}
