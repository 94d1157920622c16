//! A GPU that fails while it generates: other programs took its memory, it was lost, its driver was restarted.

use crate::engine::{EngineError, EngineInfo};

/// What becomes of the completions that a GPU leaves when it fails in mid-run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnGpuFailure {
    /// The variant ends there; what is done is kept, and a resumed run asks the rest.
    #[default]
    Stop,
    /// The CPU goes on with them. The record says whose answers are whose.
    Cpu,
}

impl OnGpuFailure {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stop, Self::Cpu];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Cpu => "cpu",
        }
    }
}

/// Whether this is a GPU's failure, and no mistake in what it was given: an engine on a GPU notes the kind of it, and no other does.
pub(super) fn is_one(engine: &EngineInfo, error: &EngineError) -> bool {
    engine.arithmetic.is_some() && matches!(error, EngineError::Failed(_))
}
