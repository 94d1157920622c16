//! The client: a revision becomes a commit, and a commit's files are fetched once.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::failure::{Failure, broken_off, describe};
use super::fetch::{fetch, link_blob};
use super::{DEFAULT_REVISION, HubError, HubSettings, cache};
use crate::shown::outgoing;
use crate::text;

/// Attempts before a request fails.
const TRIES: u32 = 4;
/// The pause before the second try; it doubles from try to try.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Model or dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryKind {
    /// A model.
    Model,
    /// A dataset.
    Dataset,
}

/// A file that the hub gave.
#[derive(Debug, Clone)]
pub struct HubFile {
    /// In the local cache.
    pub path: PathBuf,
    /// The commit it belongs to.
    pub commit: String,
}

/// A resolved revision; each is resolved once per process.
#[derive(Debug, Clone)]
struct Snapshot {
    commit: String,
    /// All files of the commit; only cached ones if the hub was not asked.
    names: Vec<String>,
    /// Whether the hub was asked.
    from_hub: bool,
}

/// The client: cache folder, endpoint and token, offline or not.
#[derive(Debug, Clone)]
pub struct Hub {
    settings: HubSettings,
    /// By folder name and revision.
    snapshots: Arc<Mutex<HashMap<(String, String), Snapshot>>>,
    /// Set when the user breaks off.
    interrupted: Option<&'static AtomicBool>,
    /// No messages on stderr.
    quiet: bool,
}

impl Hub {
    /// A client with these settings; makes no request.
    pub fn new(settings: HubSettings) -> Self {
        Self { settings, snapshots: Arc::default(), interrupted: None, quiet: false }
    }

    /// From `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`; `offline` forces the cache only.
    pub fn from_environment(offline: bool) -> Result<Self, HubError> {
        HubSettings::from_variables(|name| std::env::var(name).ok(), offline).map(Self::new)
    }

    /// The same client, which asks for nothing any more once this is set.
    #[must_use]
    pub fn until(self, interrupted: &'static AtomicBool) -> Self {
        Self { interrupted: Some(interrupted), ..self }
    }

    /// The same client, without messages on stderr about downloads and retries.
    #[must_use]
    pub fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// What it was made from.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// The commit that a revision means: as the hub says; as the cache remembers when offline or out of reach.
    pub fn commit(&self, kind: RepositoryKind, repository: &str, revision: &str) -> Result<String, HubError> {
        let repo = repo(kind, repository, revision);
        // A commit that is cached, even in part, is not asked for again.
        match cache::commit(&self.cache(), &repo).filter(|_| cache::is_commit(revision)) {
            Some(commit) => Ok(commit),
            None => Ok(self.snapshot(kind, repository, revision)?.commit),
        }
    }

    /// A file of a repository at a revision: from the cache, else downloaded (resumed where it broke off).
    pub fn file(
        &self,
        kind: RepositoryKind,
        repository: &str,
        revision: &str,
        file: &str,
    ) -> Result<HubFile, HubError> {
        if !Path::new(file).components().all(|component| matches!(component, Component::Normal(_))) {
            return Err(HubError::new(
                format!("`{file}` is not a file name inside a repository"),
                "give a relative path without `..`",
            ));
        }
        let commit = self.commit(kind, repository, revision)?;
        // By its commit rather than by `main`, so that all files are of one commit even when the branch moves meanwhile.
        let repo = repo(kind, repository, &commit);
        let path = cache::snapshot(&self.cache(), &repo, &commit).join(file);
        if !path.exists() {
            let snapshot = self.snapshot(kind, repository, &commit)?;
            self.require(&snapshot, repository, revision, file)?;
            self.download(&repo, repository, file)?;
        }
        Ok(HubFile { path, commit })
    }

    /// Names of all files in a repository at a revision (of the cached ones when offline).
    pub fn list(&self, kind: RepositoryKind, repository: &str, revision: &str) -> Result<Vec<String>, HubError> {
        Ok(self.snapshot(kind, repository, revision)?.names)
    }

    fn cache(&self) -> Cache {
        Cache::new(self.settings.cache.clone())
    }

    fn api(&self) -> Result<Api, HubError> {
        ApiBuilder::from_cache(self.cache())
            .with_endpoint(self.settings.endpoint.clone())
            .with_token(self.settings.token.clone())
            // hf-hub's own retry appends to a broken file from byte 0 when it fails before the first byte; ours
            // begins anew, with the length that is on disk.
            .with_retries(0)
            .build()
            .map_err(|error| describe(&self.settings, "anything", &error))
    }

    fn snapshot(&self, kind: RepositoryKind, repository: &str, revision: &str) -> Result<Snapshot, HubError> {
        let key = |revision: &str| (repo(kind, repository, revision).folder_name(), revision.to_owned());
        let known = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).get(&key(revision)).cloned();
        if let Some(snapshot) = known {
            return Ok(snapshot);
        }
        let snapshot = self.ask(kind, repository, revision)?;
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        snapshots.insert(key(&snapshot.commit), snapshot.clone());
        snapshots.insert(key(revision), snapshot.clone());
        Ok(snapshot)
    }

    /// Asks the hub what a revision means; the cache when offline, or when the hub is out of reach.
    fn ask(&self, kind: RepositoryKind, repository: &str, revision: &str) -> Result<Snapshot, HubError> {
        let (settings, cache, repo) = (&self.settings, self.cache(), repo(kind, repository, revision));
        let remembered = cache::commit(&cache, &repo).map(|commit| Snapshot {
            names: cache::names(&cache::snapshot(&cache, &repo, &commit)),
            commit,
            from_hub: false,
        });
        if settings.offline {
            return remembered.ok_or_else(|| {
                HubError::new(
                    format!("{repository} at {revision} is not in the cache {}", settings.cache.display()),
                    "run once without --offline (and without HF_HUB_OFFLINE), or give a local folder",
                )
            });
        }
        let subject = format!("{repository} at revision {revision}");
        let api = self.api()?.repo(repo.clone());
        match self.patiently(&subject, || api.info()) {
            Ok(info) => {
                if !cache::is_commit(revision) {
                    let written = cache.repo(repo.clone()).create_ref(&info.sha).map_err(ApiError::IoError);
                    written.map_err(|error| describe(settings, &subject, &error))?;
                }
                let names = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
                Ok(Snapshot { commit: info.sha, names, from_hub: true })
            }
            Err(error) => match remembered {
                Some(snapshot) if Failure::of(&error).passes() => {
                    let endpoint = &settings.endpoint;
                    let commit = &snapshot.commit;
                    self.say(&format!("{endpoint} is out of reach ({error}): using the cached {subject} ({commit})"));
                    Ok(snapshot)
                }
                _ => Err(self.not_found(kind, repository, revision, &error)),
            },
        }
    }

    /// Says of a 404 whether the repository or only the revision is missing.
    fn not_found(&self, kind: RepositoryKind, repository: &str, revision: &str, error: &ApiError) -> HubError {
        let mut described = describe(&self.settings, &format!("{repository} at revision {revision}"), error);
        let is_there = || self.api().is_ok_and(|api| api.repo(repo(kind, repository, DEFAULT_REVISION)).info().is_ok());
        if Failure::of(error) == Failure::Status(404) && revision != DEFAULT_REVISION && is_there() {
            let hint = "the repository is there, but not this --revision: give a branch, a tag or a commit";
            hint.clone_into(&mut described.0.hint);
        }
        described
    }

    fn require(&self, snapshot: &Snapshot, repository: &str, revision: &str, file: &str) -> Result<(), HubError> {
        if snapshot.from_hub && !snapshot.names.iter().any(|name| name == file) {
            let hint = match text::nearest(file, snapshot.names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", snapshot.names.join(", ")),
            };
            return Err(HubError::new(format!("{repository} at revision {revision} has no file {file}"), hint));
        }
        if self.settings.offline {
            let cache = self.settings.cache.display();
            return Err(HubError::new(
                format!("{file} of {repository} at revision {revision} is not in the cache {cache}"),
                "run once without --offline (and without HF_HUB_OFFLINE), or give a local folder",
            ));
        }
        Ok(())
    }

    fn download(&self, repo: &Repo, repository: &str, file: &str) -> Result<(), HubError> {
        let api = self.api()?;
        let subject = format!("{file} of {repository}");
        self.patiently(&subject, || {
            let remote = api.repo(repo.clone());
            let metadata = api.metadata(&remote.url(file))?;
            let blob = self.cache().repo(repo.clone()).blob_path(metadata.etag());
            let link = cache::snapshot(&self.cache(), repo, metadata.commit_hash()).join(file);
            if link.is_symlink() && !link.exists() {
                // Its blob was deleted; hf-hub would fail on the dangling link.
                std::fs::remove_file(&link)?;
            }
            if std::fs::metadata(&blob).is_ok_and(|found| found.len() == metadata.size() as u64) {
                // Another commit's file with the same content.
                return link_blob(&self.cache(), repo, &blob, &link);
            }
            fetch(&remote, file, &metadata, &blob, (!self.quiet).then_some(&subject))
        })
        .map_err(|error| describe(&self.settings, &subject, &error))
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{}", outgoing(line, false));
        }
    }

    /// Tries again after failures that pass, until the user breaks off.
    fn patiently<T>(&self, subject: &str, mut attempt: impl FnMut() -> Result<T, ApiError>) -> Result<T, ApiError> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = || {
            if self.interrupted.is_some_and(|interrupted| interrupted.load(Ordering::Relaxed)) {
                return Err(broken_off());
            }
            attempt()
        };
        for retry in 1..TRIES {
            match attempt() {
                Err(error) if Failure::of(&error).passes() => {
                    self.say(&format!("{subject}: {error}; trying again ({retry} of {})", TRIES - 1));
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                result => return result,
            }
        }
        attempt()
    }
}

fn repo(kind: RepositoryKind, repository: &str, revision: &str) -> Repo {
    let kind = match kind {
        RepositoryKind::Model => RepoType::Model,
        RepositoryKind::Dataset => RepoType::Dataset,
    };
    Repo::with_revision(repository.to_owned(), kind, revision.to_owned())
}
