//! What the user asked for, checked as far as that goes without opening a file.

use std::path::PathBuf;

use crate::jobs::Target;
use crate::report::Format;

/// One benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// What it runs.
    pub target: Target,
    /// The workload's file; `None` is the one built in.
    pub workload: Option<PathBuf>,
    /// The first requests of the workload and of the concurrent part only.
    pub requests: Option<usize>,
    /// Which parts, by their names, in their order.
    pub parts: Vec<String>,
    /// Repetitions of loading and of the single request.
    pub repeats: usize,
    /// Tokens that all prompts of the workload begin with, instead of what its file says.
    pub shared_prefix_tokens: Option<usize>,
    /// Of the prompts' token ids.
    pub seed: u64,
    /// What others measured.
    pub peers: Option<PathBuf>,
    /// Where the record goes, if anywhere.
    pub out: Option<PathBuf>,
    /// How the tables are printed.
    pub format: Format,
}

impl BenchJob {
    /// Whether a part was asked for.
    pub(super) fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|name| name == part)
    }
}
