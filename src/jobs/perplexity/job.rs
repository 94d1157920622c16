//! What the user asked for, checked as far as that goes without opening a file.

use std::path::PathBuf;

use crate::jobs::Target;
use crate::report::Format;
use crate::task::ChatUse;

/// One reading of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct PerplexityJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// What it runs.
    pub target: Target,
    /// `bundled`, a plain text file, or a dataset.
    pub text: String,
    /// Which rows, where the text is a dataset with splits.
    pub split: String,
    /// Whether a dataset's rows go through the model's chat template.
    pub chat: ChatUse,
    /// Tokens in a window; `None` is 512, or the model's context where that is shorter.
    pub window: Option<usize>,
    /// Tokens from a window's begin to the next one's; `None` is half a window.
    pub stride: Option<usize>,
    /// Only the first tokens of the text.
    pub limit_tokens: Option<usize>,
    /// A finished run's folder: its reference's own answers are read in the place of a text.
    pub run: Option<PathBuf>,
    /// Only the answers to that run's first samples.
    pub limit: Option<usize>,
    /// Where the record goes, if anywhere.
    pub out: Option<PathBuf>,
    /// Worst tokens that the report shows.
    pub worst: usize,
    /// How the report is printed.
    pub format: Format,
}
