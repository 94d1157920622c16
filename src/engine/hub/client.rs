//! The client: a revision becomes a commit, and a commit's files are fetched once.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::failure::{Failure, describe};
use super::fetch::{fetch, link_blob};
use super::repository::{Repository, RepositoryKind};
use super::transport::Transport;
use super::{DEFAULT_REVISION, HubError, HubSettings, cache};
use crate::shown::outgoing;
use crate::text;

/// Attempts before a request fails.
const TRIES: u32 = 4;
/// The pause before the second try; it doubles from try to try.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long the hub may be silent, unless `HF_HUB_DOWNLOAD_TIMEOUT` says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// How long an answer may not begin, or nothing of it may come.
    patience: Duration,
}

impl Hub {
    /// A client with these settings; makes no request.
    pub fn new(settings: HubSettings) -> Self {
        Self { settings, snapshots: Arc::default(), interrupted: None, quiet: false, patience: PATIENCE }
    }

    /// From `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT`; `offline`
    /// forces the cache only.
    pub fn from_environment(offline: bool) -> Result<Self, HubError> {
        let variable = |name: &str| std::env::var(name).ok();
        let hub = HubSettings::from_variables(variable, offline).map(Self::new)?;
        match variable("HF_HUB_DOWNLOAD_TIMEOUT").filter(|seconds| !seconds.trim().is_empty()) {
            None => Ok(hub),
            Some(text) => match text.trim().parse::<f64>() {
                Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => {
                    Ok(hub.patience(Duration::from_secs_f64(seconds)))
                }
                _ => Err(HubError::new(
                    format!("HF_HUB_DOWNLOAD_TIMEOUT={text} is no number of seconds"),
                    "give 0.1 to 86400, or leave it out",
                )),
            },
        }
    }

    /// The same client, which waits that long for the hub to say something.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
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
        match cache::commit(&self.settings.cache, &repo).filter(|_| cache::is_commit(revision)) {
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
        let path = repo.snapshot(&self.settings.cache, &commit).join(file);
        if !path.exists() {
            let snapshot = self.snapshot(kind, repository, &commit)?;
            self.require(&snapshot, repository, revision, file)?;
            self.download(&repo, file)?;
        }
        Ok(HubFile { path, commit })
    }

    /// Names of all files in a repository at a revision (of the cached ones when offline).
    pub fn list(&self, kind: RepositoryKind, repository: &str, revision: &str) -> Result<Vec<String>, HubError> {
        Ok(self.snapshot(kind, repository, revision)?.names)
    }

    fn transport(&self) -> Transport<'_> {
        Transport::new(&self.settings, self.patience, self.interrupted)
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
        let (settings, repo) = (&self.settings, repo(kind, repository, revision));
        let cache = &settings.cache;
        let remembered = cache::commit(cache, &repo).map(|commit| Snapshot {
            names: cache::names(&repo.snapshot(cache, &commit)),
            commit,
            from_hub: false,
        });
        if settings.offline {
            return remembered.ok_or_else(|| {
                HubError::new(
                    format!("{repository} at {revision} is not in the cache {}", cache.display()),
                    "run once without --offline (and without HF_HUB_OFFLINE), or give a local folder",
                )
            });
        }
        let subject = format!("{repository} at revision {revision}");
        let transport = self.transport();
        match self.patiently(&subject, || transport.information(&repo)) {
            Ok(information) => {
                if let Some(now) = information.id.as_ref().filter(|id| !id.eq_ignore_ascii_case(repository)) {
                    self.say(&format!("{repository} has moved: {} calls it {now} now", settings.endpoint));
                }
                if !cache::is_commit(&information.sha) {
                    let failure = Failure::Protocol(format!("the commit is `{}`", information.sha));
                    return Err(describe(settings, &repo, &subject, &failure));
                }
                if !cache::is_commit(revision) {
                    let written = cache::remember(cache, &repo, &information.sha).map_err(Failure::from);
                    written.map_err(|failure| describe(settings, &repo, &subject, &failure))?;
                }
                let names = information.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
                Ok(Snapshot { commit: information.sha, names, from_hub: true })
            }
            Err(failure) => match remembered {
                Some(snapshot) if failure.passes() => {
                    let (endpoint, why) = (&settings.endpoint, failure.in_short());
                    let commit = &snapshot.commit;
                    self.say(&format!("{endpoint} is out of reach ({why}): using the cached {subject} ({commit})"));
                    Ok(snapshot)
                }
                _ => Err(self.not_found(&repo, &failure)),
            },
        }
    }

    /// Says of a 404 whether the repository or only the revision is missing.
    fn not_found(&self, asked: &Repository, failure: &Failure) -> HubError {
        let Repository { kind, name, revision } = asked;
        let mut described = describe(&self.settings, asked, &format!("{name} at revision {revision}"), failure);
        let is_there = || self.transport().information(&repo(*kind, name, DEFAULT_REVISION)).is_ok();
        if failure.is_not_found() && revision != DEFAULT_REVISION && is_there() {
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

    fn download(&self, repo: &Repository, file: &str) -> Result<(), HubError> {
        let subject = format!("{file} of {}", repo.name);
        let (transport, cache) = (self.transport(), &self.settings.cache);
        self.patiently(&subject, || {
            let facts = transport.facts(repo, file)?;
            let blob = repo.blob(cache, &facts.etag);
            let link = repo.snapshot(cache, &facts.commit).join(file);
            if link.is_symlink() && !link.exists() {
                // Its blob was deleted.
                std::fs::remove_file(&link)?;
            }
            // Another commit's file may have the same content.
            if !std::fs::metadata(&blob).is_ok_and(|found| found.len() == facts.bytes) {
                fetch(&transport, repo, file, &facts, &blob, (!self.quiet).then_some(&subject))?;
            }
            link_blob(&repo.folder(cache), &blob, &link)
        })
        .map_err(|failure| describe(&self.settings, repo, &subject, &failure))
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{}", outgoing(line, false));
        }
    }

    /// Tries again after failures that pass, until the user breaks off.
    fn patiently<T>(&self, subject: &str, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = || {
            if self.interrupted.is_some_and(|interrupted| interrupted.load(Ordering::Relaxed)) {
                return Err(Failure::Interrupted);
            }
            attempt()
        };
        for retry in 1..TRIES {
            match attempt() {
                Err(failure) if failure.passes() => {
                    let why = failure.in_short();
                    self.say(&format!("{subject}: {why}; trying again ({retry} of {})", TRIES - 1));
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                result => return result,
            }
        }
        attempt()
    }
}

fn repo(kind: RepositoryKind, name: &str, revision: &str) -> Repository {
    Repository { kind, name: name.to_owned(), revision: revision.to_owned() }
}
