//! The Hugging Face hub: one client for models and datasets.

use std::path::PathBuf;

/// A hub failure, with the way out behind `hint:`.
#[derive(Debug, thiserror::Error)]
#[error("{what}\nhint: {hint}")]
pub struct HubError {
    /// What failed, for which repository and file.
    pub what: String,
    /// The way out.
    pub hint: String,
}

/// Model or dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryKind {
    /// A model.
    Model,
    /// A dataset.
    Dataset,
}

/// The client: cache folder, endpoint and token from the environment, offline or not.
#[derive(Debug, Clone)]
pub struct Hub {}

/// A file that the hub gave.
#[derive(Debug, Clone)]
pub struct HubFile {
    /// In the local cache.
    pub path: PathBuf,
    /// The commit it belongs to.
    pub commit: String,
}

impl Hub {
    /// From `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`; `offline` forces the cache only.
    pub fn from_environment(offline: bool) -> Result<Self, HubError> {
        let _ = offline;
        todo!()
    }

    /// A file of a repository at a revision: from the cache, else downloaded (resumed where it broke off).
    pub fn file(
        &self,
        kind: RepositoryKind,
        repository: &str,
        revision: &str,
        file: &str,
    ) -> Result<HubFile, HubError> {
        let _ = (kind, repository, revision, file);
        todo!()
    }

    /// Names of all files in a repository at a revision (of the cached ones when offline).
    pub fn list(&self, kind: RepositoryKind, repository: &str, revision: &str) -> Result<Vec<String>, HubError> {
        let _ = (kind, repository, revision);
        todo!()
    }
}
