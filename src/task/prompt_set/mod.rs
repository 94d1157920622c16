//! Prompt sets: versioned data files of prompts, each with the checks that its answer must pass.

mod file;
mod tier;

use std::path::Path;

use super::{ChatTemplate, Message, Rendered, TaskError};
use crate::fault::Fault;
use crate::score::Check;

pub use tier::Tier;

/// The name that stands for the built-in set.
const BUILT_IN: &str = "prompts/quality/quality.toml";

/// Prompts that are asked under one system text.
#[derive(Debug, Clone)]
pub struct PromptSet {
    /// For tables: the set's own name, or its file's.
    pub name: String,
    /// `bundled`, or the file's path.
    pub source: String,
    /// Raised whenever a prompt, the system text, the limit or a check changes; `None` where the file gives none.
    pub version: Option<u32>,
    /// SHA-256 of the file's text.
    pub sha256: String,
    /// What the system message says, if there is one.
    pub system: Option<String>,
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// How answers are held to their golden files; `None` leaves it to whoever accepts them.
    pub tier: Option<Tier>,
    /// In the file's order; no id occurs twice.
    pub prompts: Vec<SetPrompt>,
}

/// One prompt of a set.
#[derive(Debug, Clone)]
pub struct SetPrompt {
    /// Short, and the same in every version.
    pub id: String,
    /// What it tries: `copying`, …
    pub kind: Option<String>,
    /// What the user says.
    pub text: String,
    /// What its answer must pass.
    pub checks: Vec<Check>,
    /// Instead of the set's own.
    pub tier: Option<Tier>,
}

impl PromptSet {
    /// The built-in set, or a file's: `.json`, or else TOML, with the same keys (`src/task/prompt_set/file.rs`).
    pub fn open(path: Option<&Path>) -> Result<Self, TaskError> {
        let Some(path) = path else {
            return Ok(Self {
                source: crate::bundled::NAME.to_owned(),
                ..file::parse(Path::new(BUILT_IN), crate::bundled::QUALITY)?
            });
        };
        let text = crate::files::read_text(path).map_err(|error| {
            TaskError::invalid(
                format!("cannot read the prompts in {}: {error}", path.display()),
                "give a readable .toml or .json file, or leave `--prompts` out for the built-in set",
            )
        })?;
        file::parse(path, &text)
    }

    /// Kinds in the order of their first prompts.
    pub fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = Vec::new();
        for kind in self.prompts.iter().filter_map(|prompt| prompt.kind.as_deref()) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// The rows that `names`, ids and kinds mixed, stand for, in the set's order; all of them where there is no name.
    pub fn choose(&self, names: &[String]) -> Result<Vec<usize>, TaskError> {
        let means = |name: &String, prompt: &SetPrompt| prompt.id == *name || prompt.kind.as_ref() == Some(name);
        if let Some(name) = names.iter().find(|name| !self.prompts.iter().any(|prompt| means(name, prompt))) {
            let ids = self.prompts.iter().map(|prompt| prompt.id.as_str());
            let known: Vec<&str> = self.kinds().into_iter().chain(ids).collect();
            let Fault { what, hint } = Fault::unknown("prompt or kind", name, &known);
            return Err(TaskError::invalid(format!("{what} in the set {}", self.name), hint));
        }
        let rows = self.prompts.iter().enumerate();
        let chosen = rows.filter(|(_, prompt)| names.is_empty() || names.iter().any(|name| means(name, prompt)));
        Ok(chosen.map(|(row, _)| row).collect())
    }

    /// What the model reads: system message and prompt through the chat template, or, without one, the system text, a
    /// blank line and the prompt. A template that takes no system message gets its text in front of the user's.
    pub fn render(&self, prompt: &SetPrompt, chat: Option<&ChatTemplate>) -> Result<Rendered, TaskError> {
        let joined = || match &self.system {
            Some(system) => format!("{system}\n\n{}", prompt.text),
            None => prompt.text.clone(),
        };
        let Some(template) = chat else { return Ok(Rendered { text: joined(), add_special_tokens: true }) };
        let messages = match &self.system {
            Some(system) if template.accepts_system() => {
                vec![Message::new("system", system), Message::new("user", &prompt.text)]
            }
            _ => vec![Message::new("user", joined())],
        };
        Ok(Rendered { text: template.render(&messages)?, add_special_tokens: false })
    }
}
