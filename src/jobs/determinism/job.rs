//! What is asked.

use std::path::PathBuf;

use crate::jobs::eval::EvalJob;

/// The prompts and the generation of an evaluation, asked at several batch sizes.
#[derive(Debug, Clone)]
pub struct DeterminismJob {
    /// Model, prompts, generation and format; its destination is not used.
    pub asked: EvalJob,
    /// Where the record goes.
    pub out: Option<PathBuf>,
    /// Go on where an interrupted one of the same `out` ended.
    pub resume: bool,
}
