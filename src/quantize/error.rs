//! Errors of quantisation.

use crate::checkpoint::CheckpointError;
use crate::engine::EngineError;
use crate::fault::{Fault, FaultKind};
use crate::task::TaskError;

/// A quantisation's failure; every message ends in a `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The request is invalid.
    #[error(transparent)]
    Invalid(#[from] Fault),
    /// The folder that the checkpoint is written to.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The calibration text.
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl QuantizeError {
    /// Who can put it right.
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Invalid(_) | Self::Checkpoint(_) => FaultKind::User,
            Self::Engine(error) => error.kind(),
            Self::Task(error) => error.kind(),
        }
    }

    /// The request is invalid.
    pub fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid(Fault::new(what, hint))
    }
}
