//! What surrounds a job, and how it ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Event, JobError};
use crate::engine::model::ModelSource;
use crate::engine::{Dtype, Engine, EngineError, OpenOptions};

/// Loads a model into an engine: [`crate::engine::open`], or a test's own.
pub type OpenEngine<'a> = dyn FnMut(&Arc<ModelSource>, &OpenOptions) -> Result<Box<dyn Engine>, EngineError> + 'a;

/// What surrounds a job: who listens, who interrupts, where engines come from.
pub struct JobContext<'a, E = Event> {
    /// Opens an engine.
    pub open_engine: &'a mut OpenEngine<'a>,
    /// Is told everything as it happens.
    pub tell: &'a mut dyn FnMut(E),
    /// Set from outside to end the run after the engine's next step.
    pub interrupted: &'a AtomicBool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished<R> {
    /// The run folder.
    pub folder: PathBuf,
    /// The results, and the report of them in the job's format; `None` when interrupted.
    pub results: Option<(R, String)>,
    /// Precisions that did not finish, and why.
    pub failures: Vec<(Dtype, JobError)>,
}
