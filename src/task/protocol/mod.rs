//! Protocols: versioned data files that say how a sample becomes a prompt and how a completion is scored.

mod explain;
mod file;
mod headline;
mod keys;
mod render;

use std::path::Path;

use serde::Deserialize;

use super::TaskError;
use crate::fault::Fault;
use crate::score::Rule;
pub use explain::new_protocol;

/// Whether a protocol's prompt goes through the model's chat template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatUse {
    /// Plain text, whatever the model.
    Never,
    /// Through the template where the model has one, else plain, and the run says so.
    Auto,
    /// The model must have one.
    Required,
}

/// Where worked examples come from. A file given by `--fewshot` takes the place of either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FewshotKind {
    /// Drawn for each row in turn, from the dataset's train split, as Python's `random.Random(seed).sample` would.
    Train {
        /// Of the one generator that draws for all rows.
        seed: u32,
    },
    /// The user's file alone: the examples are not ours to give.
    File {
        /// Where such examples are published.
        found_in: String,
    },
}

/// A protocol, checked and compiled.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// `gsm8k-cot`, …
    pub name: String,
    /// Raised whenever a score could change.
    pub version: u32,
    /// SHA-256 of the file's text.
    pub sha256: String,
    /// One line for `--help` and for tables.
    pub description: String,
    /// The published task that it follows, with its version, or `our own`.
    pub source: String,
    /// Chat template or not; `--chat` may set it.
    pub chat: ChatUse,
    /// Strings that end a generation.
    pub stop_strings: Vec<String>,
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Examples that it needs in front of a question.
    pub fewshot_count: usize,
    /// Where these come from, if any.
    pub fewshot_kind: Option<FewshotKind>,
    /// Extraction rules.
    pub rules: Vec<Rule>,
    /// The rule that verdicts and gates read; `--rule` may set it.
    pub headline: String,
    /// A system message; `--system` may set it.
    pub system: Option<String>,
    prompt: String,
    target: String,
    target_delimiter: String,
    shot_separator: String,
}

/// A prompt's text, and whether the tokenizer must still add its own special tokens (BOS) in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// False after a chat template.
    pub add_special_tokens: bool,
}

impl Protocol {
    /// Names of the built-in protocols.
    pub fn names() -> Vec<&'static str> {
        crate::bundled::PROTOCOLS.iter().map(|(name, _)| *name).collect()
    }

    /// Every built-in protocol's name and one-line description.
    pub fn list() -> Vec<(&'static str, String)> {
        let description = |name| Self::open(name).map(|protocol| protocol.description).unwrap_or_default();
        Self::names().into_iter().map(|name| (name, description(name))).collect()
    }

    /// A built-in protocol by name, or a file's by path (anything with a `/` or ending in `.toml`).
    pub fn open(name_or_path: &str) -> Result<Self, TaskError> {
        let path = Path::new(name_or_path);
        if name_or_path.contains('/') || path.extension().is_some_and(|extension| extension == "toml") {
            let text = crate::files::read_text(path).map_err(|error| {
                TaskError::invalid(
                    format!("cannot read the protocol file {name_or_path}: {error}"),
                    format!("give a readable TOML file, or one of the built-in: {}", Self::names().join(", ")),
                )
            })?;
            return file::parse(name_or_path, &text);
        }
        let built_in = crate::bundled::PROTOCOLS.iter().find(|(name, _)| *name == name_or_path);
        let (name, text) = built_in.ok_or_else(|| {
            let Fault { what, hint } = Fault::unknown("protocol", name_or_path, &Self::names());
            TaskError::invalid(what, format!("{hint}; a file of your own ends in `.toml`"))
        })?;
        file::parse(name, text)
    }
}
