//! What can go wrong in a run: the errors of the floors below, and the user's own.

use crate::engine::EngineError;
use crate::hub::HubError;
use crate::quantize::QuantizeError;
use crate::record::RecordError;
use crate::report::ReportError;
use crate::synth::SynthError;
use crate::task::TaskError;

/// A run's failure, with the way out behind `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// What was asked for cannot be done.
    #[error("{what}\nhint: {hint}")]
    Invalid {
        /// What is wrong, on which value.
        what: String,
        /// The way out.
        hint: String,
    },
    /// Dataset, protocol or template.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Model or engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Run folder.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Quantisation.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// Random checkpoints.
    #[error(transparent)]
    Synth(#[from] SynthError),
    /// Report template.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The hub.
    #[error(transparent)]
    Hub(#[from] HubError),
}

impl JobError {
    /// What was asked for cannot be done.
    pub fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), hint: hint.into() }
    }

    /// Whether something could not be had from the hub.
    pub const fn is_hub_failure(&self) -> bool {
        matches!(
            self,
            Self::Hub(_)
                | Self::Task(TaskError::Hub(_))
                | Self::Engine(EngineError::Hub(_))
                | Self::Quantize(QuantizeError::Engine(EngineError::Hub(_)) | QuantizeError::Task(TaskError::Hub(_)))
        )
    }

    /// Whether the engine failed, rather than the user's files, flags or disk.
    pub const fn is_engine_failure(&self) -> bool {
        matches!(
            self,
            Self::Engine(EngineError::Failed { .. })
                | Self::Quantize(QuantizeError::Engine(EngineError::Failed { .. }))
        )
    }
}
