//! A repository at a revision: its addresses on the hub, and its places in the cache as hf-hub has them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

/// Model or dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryKind {
    /// A model.
    Model,
    /// A dataset.
    Dataset,
}

/// A repository at a revision.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    pub(super) kind: RepositoryKind,
    /// `owner/name`.
    pub(super) name: String,
    /// A branch, a tag or a commit.
    pub(super) revision: String,
}

impl Repository {
    fn repo(&self) -> Repo {
        let kind = match self.kind {
            RepositoryKind::Model => RepoType::Model,
            RepositoryKind::Dataset => RepoType::Dataset,
        };
        Repo::with_revision(self.name.clone(), kind, self.revision.clone())
    }

    /// Its folder in the cache: `models--owner--name`.
    pub(super) fn folder_name(&self) -> String {
        self.repo().folder_name()
    }

    pub(super) fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(self.folder_name())
    }

    /// Its part of the cache.
    pub(super) fn cached(&self, cache: &Path) -> CacheRepo {
        Cache::new(cache.to_path_buf()).repo(self.repo())
    }

    /// The content of this name.
    pub(super) fn blob(&self, cache: &Path, etag: &str) -> PathBuf {
        self.folder(cache).join("blobs").join(etag)
    }

    /// Where the files of a commit are linked from.
    pub(super) fn snapshot(&self, cache: &Path, commit: &str) -> PathBuf {
        self.cached(cache).pointer_path(commit)
    }

    /// What the revision meant when it was last asked for.
    pub(super) fn reference(&self, cache: &Path) -> PathBuf {
        self.folder(cache).join("refs").join(&self.revision)
    }

    /// Its page, for people.
    pub(super) fn page(&self, endpoint: &str) -> String {
        match self.kind {
            RepositoryKind::Model => format!("{endpoint}/{}", self.name),
            RepositoryKind::Dataset => format!("{endpoint}/datasets/{}", self.name),
        }
    }

    /// Where the hub says what it is.
    pub(super) fn api_address(&self, endpoint: &str) -> String {
        let kind = match self.kind {
            RepositoryKind::Model => "models",
            RepositoryKind::Dataset => "datasets",
        };
        format!("{endpoint}/api/{kind}/{}/revision/{}", self.name, escaped(&self.revision, b""))
    }

    /// Where the hub has a file.
    pub(super) fn file_address(&self, endpoint: &str, file: &str) -> String {
        format!("{}/resolve/{}/{}", self.page(endpoint), escaped(&self.revision, b""), escaped(file, b"/"))
    }
}

/// A text as a part of a path; `kept` stays as it is beside what every path may hold.
fn escaped(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_places() {
        let of = |kind| Repository { kind, name: "owner/name".to_owned(), revision: "refs/pr/1".to_owned() };
        let (model, data) = (of(RepositoryKind::Model), of(RepositoryKind::Dataset));
        assert_eq!(model.api_address("https://hub"), "https://hub/api/models/owner/name/revision/refs%2Fpr%2F1");
        assert_eq!(
            data.file_address("https://hub", "main/a b#1.parquet"),
            "https://hub/datasets/owner/name/resolve/refs%2Fpr%2F1/main/a%20b%231.parquet"
        );
        assert_eq!(data.blob(Path::new("/c"), "e"), Path::new("/c/datasets--owner--name/blobs/e"));
        assert_eq!(model.reference(Path::new("/c")), Path::new("/c/models--owner--name/refs/refs/pr/1"));
    }
}
