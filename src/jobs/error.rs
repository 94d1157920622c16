//! Errors of jobs: those of the layers below, and invalid requests.

use crate::engine::EngineError;
use crate::fault::{Fault, FaultKind};
use crate::hub::HubError;
use crate::quantize::QuantizeError;
use crate::record::RecordError;
use crate::report::ReportError;
use crate::synth::SynthError;
use crate::task::TaskError;

/// A job's failure; every message ends in a `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The request is invalid.
    #[error(transparent)]
    Invalid(#[from] Fault),
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
    /// The request is invalid.
    pub fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid(Fault::new(what, hint))
    }

    /// Who can put it right.
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Invalid(_) | Self::Record(_) | Self::Report(_) => FaultKind::User,
            Self::Hub(_) => FaultKind::Hub,
            Self::Task(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Quantize(error) => error.kind(),
            Self::Synth(error) => error.kind(),
        }
    }

    /// Whether something could not be had from the hub.
    pub fn is_hub_failure(&self) -> bool {
        self.kind() == FaultKind::Hub
    }

    /// Whether the engine failed, rather than the user's files, flags or disk.
    pub fn is_engine_failure(&self) -> bool {
        self.kind() == FaultKind::Engine
    }
}
