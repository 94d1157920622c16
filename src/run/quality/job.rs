//! What the user asked for, checked as far as that goes without opening a file.

use std::path::PathBuf;

use crate::engine::model::ModelSpec;
use crate::engine::{Batching, Dtype, EngineKind};
use crate::report::Format;
use crate::run::Destination;
use crate::run::precisions::Wanted;
use crate::task::ChatUse;

/// One quality run.
#[derive(Debug, Clone, PartialEq)]
pub struct QualityJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// The model.
    pub model: ModelSpec,
    /// The prompts' file; `None` is the built-in set.
    pub prompts: Option<PathBuf>,
    /// Ids and kinds of the prompts to ask; empty means all.
    pub only: Vec<String>,
    /// Whether prompts go through the model's chat template.
    pub chat: ChatUse,
    /// The AWQ form of the model, if the user named it.
    pub awq: Option<ModelSpec>,
    /// Precisions, the ground truth first, none twice; empty means every one that the model offers.
    pub dtypes: Vec<Dtype>,
    /// The engine.
    pub engine: EngineKind,
    /// Which GPU, where the engine runs on one.
    pub device: usize,
    /// Whether a request's tokens may depend on its batch.
    pub batching: Batching,
    /// Requests that advance together at most.
    pub batch: Option<usize>,
    /// Instead of the set's own limit.
    pub max_tokens: Option<usize>,
    /// Where the results go.
    pub destination: Destination,
    /// Go on with what is there.
    pub resume: bool,
    /// How the report is printed.
    pub format: Format,
    /// Answers whose word diffs a table shows at most, those that differ most.
    pub diffs: usize,
}

/// One comparison of answers made elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// The answers.
    pub file: PathBuf,
    /// The column that counts as the truth.
    pub ground_truth: String,
    /// The prompts that were asked, for their texts and checks; `None` where they are not known.
    pub prompts: Option<PathBuf>,
    /// Where the record goes, if anywhere.
    pub out: Option<PathBuf>,
    /// How the report is printed.
    pub format: Format,
    /// Answers whose word diffs a table shows at most, those that differ most.
    pub diffs: usize,
}

impl QualityJob {
    /// What of it decides the precisions.
    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted {
            command: &self.command,
            model: &self.model,
            awq: self.awq.as_ref(),
            dtypes: &self.dtypes,
            engine: self.engine,
        }
    }
}
