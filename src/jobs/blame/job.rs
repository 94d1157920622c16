//! What the user asked for, checked as far as that goes without opening a file.

use std::path::PathBuf;

use crate::jobs::Target;
use crate::report::Format;

/// One search for what a variant's answers were lost by.
#[derive(Debug, Clone, PartialEq)]
pub struct BlameJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// The run's model and variants, and the engine.
    pub target: Target,
    /// A finished run's folder.
    pub run: PathBuf,
    /// Which of its variants is explained.
    pub variant: String,
    /// The rule that says which answers are right, if not the run's headline.
    pub rule: Option<String>,
    /// How many answers are looked at, at most.
    pub limit: usize,
    /// Where the record goes, if anywhere.
    pub out: Option<PathBuf>,
    /// How the report is printed.
    pub format: Format,
}
