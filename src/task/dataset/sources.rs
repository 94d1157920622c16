//! `datasets/sources.toml`: what is known beforehand about datasets of the hub.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::fault::Fault;
use crate::task::TaskError;

#[derive(Debug, Deserialize)]
struct Sources {
    source: Vec<Source>,
}

/// One config of a dataset of the hub.
#[derive(Debug, Deserialize)]
pub(super) struct Source {
    repository: String,
    config: String,
    /// The revision whose files the hashes are of.
    pub(super) revision: String,
    splits: BTreeMap<String, Split>,
}

/// One split's only file.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Split {
    /// In the repository.
    pub(super) file: String,
    /// Any of these.
    pub(super) sha256: Vec<String>,
}

impl Source {
    /// What is known about a dataset; without a config, its first one.
    pub(super) fn find(repository: &str, config: Option<&str>) -> Result<Option<Self>, TaskError> {
        let sources: Sources = toml::from_str(crate::bundled::SOURCES).map_err(|error| {
            TaskError::invalid(
                format!("datasets/sources.toml of this build cannot be read: {error}"),
                "correct the file and build again, or give the dataset as a file",
            )
        })?;
        let is_meant = |source: &Source| source.repository == repository && config.is_none_or(|c| c == source.config);
        Ok(sources.source.into_iter().find(is_meant))
    }

    pub(super) fn split(&self, split: &str) -> Result<&Split, TaskError> {
        self.splits.get(split).ok_or_else(|| {
            let known: Vec<&str> = self.splits.keys().map(String::as_str).collect();
            let Fault { what, hint } = Fault::unknown("split", split, &known);
            TaskError::invalid(format!("{what} of {}", self.repository), hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gsm8k_is_known_by_its_main_config_alone() {
        let source = Source::find("openai/gsm8k", None).unwrap().unwrap();
        assert_eq!(source.split("test").unwrap().file, "main/test-00000-of-00001.parquet");
        assert!(source.split("tset").unwrap_err().to_string().contains("did you mean `test`"));
        assert!(Source::find("openai/gsm8k", Some("socratic")).unwrap().is_none());
        assert!(Source::find("openai/gsm9k", None).unwrap().is_none());
    }
}
