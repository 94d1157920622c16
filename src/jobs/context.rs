//! What surrounds a job, and how it ends.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::{Event, JobError, Model, Target, Variant};
use crate::engine::{Engine, EngineError};
use crate::record::VariantName;

/// Loads a variant into an engine: [`open_engine`], or a test's own.
pub type OpenEngine<'a> = dyn FnMut(&Variant, &Target) -> Result<Box<dyn Engine>, EngineError> + 'a;

/// What surrounds a job: who listens, who interrupts, where engines come from.
pub struct JobContext<'a> {
    /// Opens an engine.
    pub open_engine: &'a mut OpenEngine<'a>,
    /// Takes every event as it happens.
    pub emit: &'a mut dyn FnMut(Event),
    /// Set from outside to end the run after the engine's next step.
    pub interrupted: &'a AtomicBool,
}

/// How a run with a folder ended.
#[derive(Debug)]
pub struct Finished<R> {
    /// The run folder.
    pub folder: PathBuf,
    /// The results, and the report of them in the job's format; `None` when interrupted.
    pub results: Option<(R, String)>,
    /// Variants that did not finish, and why.
    pub failures: Failures,
}

/// Variants that did not finish, and why.
pub type Failures = Vec<(VariantName, JobError)>;

/// Loads a variant into the engine that the target asks for.
pub fn open_engine(variant: &Variant, target: &Target) -> Result<Box<dyn Engine>, EngineError> {
    match (&variant.model, variant.precision) {
        (Model::Local(source), Some(precision)) => crate::engine::open(source, &target.open_options(precision)),
        (Model::Endpoint(endpoint), _) => endpoint.engine(),
        (Model::Local(source), None) => {
            Err(EngineError::invalid(format!("{} is to run in no precision", source.name), "name one by `--dtype`"))
        }
    }
}
