//! Tasks: data files that say where problems come from, which columns hold what, and what counts as the right answer.

mod file;
mod layout;
mod open;
mod reference;

use std::path::PathBuf;

pub(super) use layout::Layout;
pub(super) use reference::Found;

/// A task, checked and compiled.
#[derive(Debug, Clone)]
pub struct Task {
    /// `gsm8k`, `mgsm-de`; of a file, its name without `.toml`.
    pub name: String,
    /// For tables and pages: `GSM8K`.
    pub title: String,
    /// One line for `--help` and for lists.
    pub description: String,
    /// Of the data.
    pub licence: String,
    /// The user's file, by its absolute path; `None` of a built-in task.
    pub file: Option<PathBuf>,
    /// SHA-256 of the file's text.
    pub sha256: String,
    /// The dataset unless the user names another: `bundled`, a hub id, or a path.
    pub dataset: String,
    /// A hub dataset's revision.
    pub revision: String,
    /// The split unless the user names another.
    pub split: String,
    /// The protocol unless the user names another.
    pub protocol: String,
    /// Where worked examples are drawn from; `None` means the train split of the dataset itself.
    pub fewshot: Option<FewshotSource>,
    pub(super) layout: Layout,
}

/// Tasks are the same when their texts and variants are.
impl PartialEq for Task {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.sha256) == (&other.name, &other.sha256)
    }
}

/// Another dataset that worked examples are drawn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FewshotSource {
    /// As [`Task::dataset`]; `None` means the dataset itself.
    pub dataset: Option<String>,
    /// Its split.
    pub split: String,
}
