//! What the user asked for, checked as far as that goes without opening a file.

use std::path::PathBuf;

use super::{LevelPlan, Slo};
use crate::jobs::Target;
use crate::jobs::eval::EvalJob;
use crate::report::Format;

/// One load test.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// What is asked.
    pub target: Target,
    /// One after the other.
    pub levels: Vec<LevelPlan>,
    /// Requests of each level; `None` where only the duration ends it, or a trace.
    pub requests: Option<usize>,
    /// No request is sent later than so many seconds into a level.
    pub duration_seconds: Option<f64>,
    /// Tokens of an answer at most, where the prompts do not say.
    pub max_tokens: usize,
    /// What is sent.
    pub prompts: LoadPrompts,
    /// Requests before each level, which are not counted.
    pub warm_up: usize,
    /// What an answer must keep to be of use.
    pub slo: Slo,
    /// Of prompts and arrivals.
    pub seed: u64,
    /// What others measured, or another record.
    pub vs: Option<PathBuf>,
    /// Where the record goes, if anywhere.
    pub out: Option<PathBuf>,
    /// How the tables are printed.
    pub format: Format,
}

/// Where prompts come from.
#[derive(Debug, Clone, PartialEq)]
pub enum LoadPrompts {
    /// A prompt set, the built-in one or a file's, over and over; answers as long as they come.
    Set(Option<PathBuf>),
    /// Random tokens, all of one length, and answers of exactly so many tokens.
    Lengths {
        /// In a prompt.
        prompt_tokens: usize,
        /// In an answer.
        output_tokens: usize,
    },
    /// Random tokens of a workload's lengths, or of a run's.
    Workload(PathBuf),
    /// A task's questions, whose answers are scored; the first level is the idle run.
    Questions(Box<EvalJob>),
    /// Lengths and moments, one JSON object a line.
    Trace(PathBuf),
}

impl LoadPrompts {
    /// Whether answers have exactly the tokens that are asked for.
    pub fn are_exact(&self) -> bool {
        !matches!(self, Self::Set(_) | Self::Questions(_))
    }
}
