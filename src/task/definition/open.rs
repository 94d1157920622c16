//! Tasks by name, and from files.

use std::path::Path;

use super::{Task, file};
use crate::bundled::TASKS;
use crate::fault::Fault;
use crate::task::TaskError;

/// The task that a dataset is read as where nobody names one.
const DEFAULT: &str = "gsm8k";

impl Task {
    /// Every built-in task's name and one-line description, variants one by one.
    pub fn list() -> Vec<(String, String)> {
        let described = |name: String| {
            let description = Self::open(&name).map(|task| task.description).unwrap_or_default();
            (name, description)
        };
        Self::names().into_iter().map(described).collect()
    }

    /// Names of the built-in tasks.
    pub fn names() -> Vec<String> {
        let names = |(name, text): &(&str, &str)| {
            let variants = file::variants(text);
            if variants.is_empty() {
                vec![(*name).to_owned()]
            } else {
                variants.into_iter().map(|(variant, _)| format!("{name}-{variant}")).collect()
            }
        };
        TASKS.iter().flat_map(names).collect()
    }

    /// The task that a dataset is read as where nobody names one: GSM8K's columns and answers.
    pub fn gsm8k() -> Result<Self, TaskError> {
        Self::open(DEFAULT)
    }

    /// Whether this is the built-in `gsm8k`.
    pub fn is_gsm8k(&self) -> bool {
        TASKS.iter().any(|(name, text)| {
            *name == DEFAULT && self.name == DEFAULT && crate::files::sha256(text.as_bytes()) == self.sha256
        })
    }

    /// A built-in task by name, or a file's by path (anything with a `/` or ending in `.toml`).
    pub fn open(name_or_path: &str) -> Result<Self, TaskError> {
        let path = Path::new(name_or_path);
        if name_or_path.contains('/') || path.extension().is_some_and(|extension| extension == "toml") {
            return Self::read(path, None);
        }
        let built_in = TASKS.iter().find_map(|(name, text)| {
            let rest = behind_stem(name_or_path, name)?;
            // `mgsm-xx` is of the file `mgsm`, and `gsm8k-platinum` is not of `gsm8k`.
            (rest.is_empty() || !file::variants(text).is_empty()).then_some((*name, *text, rest))
        });
        let Some((name, text, rest)) = built_in else {
            let names = Self::names();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let Fault { what, hint } = Fault::unknown("task", name_or_path, &names);
            return Err(TaskError::invalid(what, format!("{hint}; a file of your own is given by `--task FILE`")));
        };
        file::parse(name, name, text, rest.strip_prefix('-'))
    }

    /// A task's file; `name` chooses one of its variants, as `mgsm-de` does of `mgsm.toml`.
    pub fn read(path: &Path, name: Option<&str>) -> Result<Self, TaskError> {
        let label = path.display().to_string();
        let text = crate::files::read_text(path).map_err(|error| {
            TaskError::invalid(
                format!("cannot read the task file {label}: {error}"),
                format!("give a readable TOML file, or one of the built-in: {}", Self::names().join(", ")),
            )
        })?;
        let stem = path.file_stem().map_or_else(|| label.clone(), |stem| stem.to_string_lossy().into_owned());
        let name = name.unwrap_or(&stem);
        let rest = behind_stem(name, &stem).ok_or_else(|| {
            TaskError::invalid(
                format!("`{name}` is not the task of {label}"),
                format!("leave the name out, or write `{stem}`, and `{stem}-VARIANT` where the file has variants"),
            )
        })?;
        let file = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        Ok(Self { file: Some(file), ..file::parse(&label, &stem, &text, rest.strip_prefix('-'))? })
    }
}

/// `-de` of `mgsm-de` in the file `mgsm`, nothing of `mgsm`; `None` where the name is another file's.
fn behind_stem<'a>(name: &'a str, stem: &str) -> Option<&'a str> {
    name.strip_prefix(stem).filter(|rest| rest.is_empty() || rest.starts_with('-'))
}
