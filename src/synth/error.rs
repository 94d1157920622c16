//! Errors of making a random checkpoint.

use crate::checkpoint::CheckpointError;
use crate::engine::EngineError;
use crate::fault::{Fault, FaultKind};

/// A synthesis's failure; every message ends in a `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// The request is invalid.
    #[error(transparent)]
    Invalid(#[from] Fault),
    /// The folder that the checkpoint is written to.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The shape.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl SynthError {
    /// Who can put it right.
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Invalid(_) | Self::Checkpoint(_) => FaultKind::User,
            Self::Engine(error) => error.kind(),
        }
    }

    /// The request is invalid.
    pub fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid(Fault::new(what, hint))
    }
}
