//! The client: a revision becomes a commit, and a commit's files are fetched once.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo, Metadata};
use hf_hub::{Cache, Repo, RepoType};
use indicatif::ProgressBar;

use super::error::{Failure, describe};
use super::{HubError, HubSettings, cache};
use crate::files::Blob;
use crate::text;

/// How often a file is asked for before giving up.
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

/// What a revision means, asked for once in a program's life.
#[derive(Debug, Clone)]
struct Snapshot {
    commit: String,
    /// Every file of the commit; of the cached ones when the hub was not asked.
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
}

impl Hub {
    /// A client with these settings; nothing is asked for yet.
    pub fn new(settings: HubSettings) -> Self {
        Self { settings, snapshots: Arc::default() }
    }

    /// From `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`; `offline` forces the cache only.
    pub fn from_environment(offline: bool) -> Result<Self, HubError> {
        HubSettings::from_variables(|name| std::env::var(name).ok(), offline).map(Self::new)
    }

    /// What it was made from.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// The commit that a revision means: as the hub says; as the cache remembers when offline or out of reach.
    pub fn commit(&self, kind: RepositoryKind, repository: &str, revision: &str) -> Result<String, HubError> {
        let repo = repo(kind, repository, revision);
        // A commit that is cached, even in part, needs nobody's confirmation.
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
            return Err(HubError {
                what: format!("`{file}` is not a file name inside a repository"),
                hint: "give a relative path without `..`".to_owned(),
            });
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
            return remembered.ok_or_else(|| HubError {
                what: format!("{repository} at {revision} is not in the cache {}", settings.cache.display()),
                hint: "run once without --offline (and without HF_HUB_OFFLINE), or give a local folder".to_owned(),
            });
        }
        let subject = format!("{repository} at revision {revision}");
        let api = self.api()?.repo(repo.clone());
        match Self::patiently(&subject, || api.info()) {
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
                    eprintln!("{endpoint} is out of reach ({error}): using the cached {subject} ({})", snapshot.commit);
                    Ok(snapshot)
                }
                _ => Err(self.not_found(kind, repository, revision, &error)),
            },
        }
    }

    /// Says of a 404 whether the repository or only the revision is missing.
    fn not_found(&self, kind: RepositoryKind, repository: &str, revision: &str, error: &ApiError) -> HubError {
        let mut described = describe(&self.settings, &format!("{repository} at revision {revision}"), error);
        let is_there = || self.api().is_ok_and(|api| api.repo(repo(kind, repository, "main")).info().is_ok());
        if Failure::of(error) == Failure::Status(404) && revision != "main" && is_there() {
            let hint = "the repository is there, but not this --revision: give a branch, a tag or a commit";
            hint.clone_into(&mut described.hint);
        }
        described
    }

    fn require(&self, snapshot: &Snapshot, repository: &str, revision: &str, file: &str) -> Result<(), HubError> {
        if snapshot.from_hub && !snapshot.names.iter().any(|name| name == file) {
            let hint = match text::nearest(file, snapshot.names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", snapshot.names.join(", ")),
            };
            return Err(HubError { what: format!("{repository} at revision {revision} has no file {file}"), hint });
        }
        if self.settings.offline {
            let cache = self.settings.cache.display();
            return Err(HubError {
                what: format!("{file} of {repository} at revision {revision} is not in the cache {cache}"),
                hint: "run once without --offline (and without HF_HUB_OFFLINE), or give a local folder".to_owned(),
            });
        }
        Ok(())
    }

    fn download(&self, repo: &Repo, repository: &str, file: &str) -> Result<(), HubError> {
        let api = self.api()?;
        let subject = format!("{file} of {repository}");
        Self::patiently(&subject, || {
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
            fetch(&remote, file, &metadata, &blob, &subject)
        })
        .map_err(|error| describe(&self.settings, &subject, &error))
    }

    /// Tries again after failures that pass.
    fn patiently<T>(subject: &str, mut attempt: impl FnMut() -> Result<T, ApiError>) -> Result<T, ApiError> {
        let mut pause = FIRST_PAUSE;
        for retry in 1..TRIES {
            match attempt() {
                Err(error) if Failure::of(&error).passes() => {
                    eprintln!("{subject}: {error}; trying again ({retry} of {})", TRIES - 1);
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

/// Downloads one file and checks what came: its length, and its hash where the hub tells it.
fn fetch(remote: &ApiRepo, file: &str, metadata: &Metadata, blob: &Path, subject: &str) -> Result<(), ApiError> {
    let size = metadata.size() as u64;
    let part = blob.with_extension("part");
    if std::fs::metadata(&part).is_ok_and(|part| part.len() >= size) {
        // Nothing is left to ask for, and the hub refuses a range beyond the end.
        std::fs::remove_file(&part)?;
    }
    // indicatif draws nothing where stderr is no terminal; one line a file then has to do.
    let bar = ProgressBar::new(size);
    if bar.is_hidden() {
        eprintln!("fetching {subject} ({})", text::bytes(size));
    }
    let path = remote.download_with_progress(file, bar)?;
    let length = std::fs::metadata(&path)?.len();
    if length < size {
        // The connection closed early without an error: put the part back to be resumed.
        std::fs::remove_file(&path)?;
        std::fs::rename(blob, &part)?;
        return Err(broken(format!("the connection broke off after {length} of {size} bytes")));
    }
    let damaged = length > size || cache::is_sha256(metadata.etag()) && Blob::open(blob)?.sha256()? != metadata.etag();
    if damaged {
        std::fs::remove_file(&path)?;
        std::fs::remove_file(blob)?;
        return Err(broken("what came does not have the hash that the hub names".to_owned()));
    }
    Ok(())
}

fn broken(what: String) -> ApiError {
    ApiError::IoError(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what))
}

/// Links a snapshot's file to a blob that is there already, with the relative link that `huggingface_hub` makes.
fn link_blob(cache: &Cache, repo: &Repo, blob: &Path, link: &Path) -> Result<(), ApiError> {
    let folder = cache.path().join(repo.folder_name());
    let (Some(parent), Some(name), Ok(inside)) = (link.parent(), blob.file_name(), link.strip_prefix(&folder)) else {
        return Err(broken(format!("{} lies outside the cache", link.display())));
    };
    std::fs::create_dir_all(parent)?;
    let up: PathBuf = std::iter::repeat_n("..", inside.components().count() - 1).collect();
    if !link.exists() {
        std::os::unix::fs::symlink(up.join("blobs").join(name), link)?;
    }
    Ok(())
}
