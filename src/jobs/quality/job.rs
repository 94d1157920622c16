//! What the user asked for, checked as far as that goes without opening a file.

use std::path::PathBuf;

use crate::jobs::{Destination, Target};
use crate::report::Format;
use crate::task::ChatUse;

/// One quality run.
#[derive(Debug, Clone, PartialEq)]
pub struct QualityJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// What it runs.
    pub target: Target,
    /// The prompts' file; `None` is the built-in set.
    pub prompts: Option<PathBuf>,
    /// Ids and kinds of the prompts to ask; empty means all.
    pub only: Vec<String>,
    /// Whether prompts go through the model's chat template.
    pub chat: ChatUse,
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
