//! Errors of datasets, protocols and prompts.

use crate::fault::{Fault, FaultKind};

/// A dataset's, protocol's or template's failure; every message ends in a `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The user's file or name is at fault.
    #[error(transparent)]
    Invalid(#[from] Fault),
    /// The hub could not give what was asked of it.
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
}

impl TaskError {
    /// Who can put it right.
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Invalid(_) => FaultKind::User,
            Self::Hub(_) => FaultKind::Hub,
        }
    }

    /// The user's file or name is at fault.
    pub fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid(Fault::new(what, hint))
    }
}
