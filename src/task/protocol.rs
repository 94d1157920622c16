//! Protocols: versioned data files that say how a sample becomes a prompt and how a completion is scored.

use super::{ChatTemplate, Sample, TaskError};
use crate::score::Rule;

/// Whether a protocol's prompt goes through the model's chat template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatUse {
    /// Plain text, whatever the model.
    Never,
    /// Through the template where the model has one, else plain, and the run says so.
    Auto,
    /// The model must have one.
    Required,
}

/// Worked examples that stand in front of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fewshot {
    /// None.
    None,
    /// The same ones for every sample: (question, target).
    Fixed(Vec<(String, String)>),
    /// Each sample's own, by row of the dataset: (question, target) lists.
    PerSample(Vec<Vec<(String, String)>>),
}

/// A protocol, checked and compiled.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// `gsm8k-cot`, …
    pub name: String,
    /// Raised whenever any prompt or score could change.
    pub version: u32,
    /// SHA-256 of the file's text.
    pub sha256: String,
    /// One line for `--help` and for tables.
    pub description: String,
    /// Chat template or not.
    pub chat: ChatUse,
    /// Strings that end a generation.
    pub stop_strings: Vec<String>,
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Examples it needs in front of a question.
    pub fewshot_count: usize,
    /// Extraction rules; the first is the one that `--min-accuracy` reads.
    pub rules: Vec<Rule>,
}

/// A prompt's text, and whether the tokenizer must still add its own special tokens (BOS) in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// False after a chat template, which writes them itself.
    pub add_special_tokens: bool,
}

impl Protocol {
    /// Names of the built-in protocols.
    pub fn names() -> Vec<&'static str> {
        crate::bundled::PROTOCOLS.iter().map(|(name, _)| *name).collect()
    }

    /// A built-in protocol by name, or a file's by path (anything with a `/` or ending in `.toml`).
    pub fn open(name_or_path: &str) -> Result<Self, TaskError> {
        let _ = name_or_path;
        todo!()
    }

    /// The prompt of a sample. `fewshot` must offer [`Protocol::fewshot_count`] examples.
    pub fn render(
        &self,
        sample: &Sample,
        fewshot: &Fewshot,
        chat: Option<&ChatTemplate>,
    ) -> Result<Rendered, TaskError> {
        let _ = (sample, fewshot, chat);
        todo!()
    }
}
