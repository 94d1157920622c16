//! What the user asked for, checked as far as that goes without opening a file.

use std::path::PathBuf;

use super::{BenchPart, Lengths};
use crate::jobs::Target;
use crate::report::Format;

/// One request alone: 128 tokens after the first.
pub(super) const SINGLE: Lengths = Lengths { requests: 1, prompt_tokens: 128, output_tokens: 129 };

/// Many requests of one length at once.
pub(super) const CONCURRENT: Lengths = Lengths { requests: 500, prompt_tokens: 128, output_tokens: 64 };

/// One benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// What it runs.
    pub subject: Target,
    /// The workload's file; `None` is the one built in.
    pub workload: Option<PathBuf>,
    /// The first requests of the workload and of the concurrent part only.
    pub requests: Option<usize>,
    /// Which parts, in their order.
    pub parts: Vec<BenchPart>,
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
    /// What of it decides the precisions.
    pub(super) fn has(&self, part: BenchPart) -> bool {
        self.parts.contains(&part)
    }

    /// The concurrent part's requests.
    pub(super) fn concurrent(&self) -> Lengths {
        Lengths { requests: self.requests.unwrap_or(usize::MAX).min(CONCURRENT.requests), ..CONCURRENT }
    }
}
