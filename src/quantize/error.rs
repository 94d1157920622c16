//! What can go wrong between a model and its quantised checkpoint.

use crate::checkpoint::CheckpointError;
use crate::engine::EngineError;
use crate::task::TaskError;

/// A quantisation's failure, with the way out behind `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// What was asked for cannot be done.
    #[error("{what}\nhint: {hint}")]
    Invalid {
        /// What is wrong, on which value.
        what: String,
        /// The way out.
        hint: String,
    },
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
    /// What was asked for cannot be done.
    pub fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), hint: hint.into() }
    }
}
