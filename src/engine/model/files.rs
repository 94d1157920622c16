//! The files of one model by their names, wherever they lie: in a folder, in the hub's cache, in the program itself.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::FileHash;
use crate::EngineError;
use crate::fault::{IoCause, IoFault};
use crate::files::{self, Blob};
use crate::{bundled, hub};

/// One file.
#[derive(Debug, Clone)]
enum Entry {
    Disk(PathBuf),
    Embedded(&'static [u8]),
}

/// A model's files by name.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// Where they are, for messages.
    pub(super) place: String,
    entries: BTreeMap<String, Entry>,
}

impl ModelFiles {
    /// What is compiled into the program.
    pub(super) fn bundled() -> Self {
        let entries = bundled::model_files().map(|(name, bytes)| (name.to_owned(), Entry::Embedded(bytes))).collect();
        Self { place: "the bundled model".to_owned(), entries }
    }

    /// The AWQ form of the same; no file where the program holds none.
    pub(super) fn bundled_awq() -> Self {
        let files = bundled::awq_model_files();
        let entries = files.map(|(name, bytes)| (name.to_owned(), Entry::Embedded(bytes))).collect();
        Self { place: "the bundled model's AWQ form".to_owned(), entries }
    }

    /// Every file of a folder; folders inside it are not entered.
    pub(super) fn folder(path: &Path) -> Result<Self, EngineError> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|source| read_failure(path, source))? {
            paths.push(entry.map_err(|source| read_failure(path, source))?.path());
        }
        if paths.is_empty() {
            return Err(EngineError::invalid(
                format!("{} is an empty folder", path.display()),
                "a model folder holds config.json, tokenizer.json and model.safetensors",
            ));
        }
        Ok(Self::of(path.display().to_string(), paths.into_iter().filter(|file| !file.is_dir())))
    }

    /// The files at these paths, by their last component.
    pub(super) fn of(place: String, paths: impl Iterator<Item = PathBuf>) -> Self {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let entries = paths.filter_map(|path| name(&path).map(|name| (name, Entry::Disk(path)))).collect();
        Self { place, entries }
    }

    /// The paths of those that lie on disk.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Disk(path) => Some(path.as_path()),
            Entry::Embedded(_) => None,
        })
    }

    /// Every name, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The path on disk, where the file lies there.
    pub(super) fn path(&self, name: &str) -> Option<&Path> {
        match self.entries.get(name)? {
            Entry::Disk(path) => Some(path),
            Entry::Embedded(_) => None,
        }
    }

    /// A file, if there is one of that name.
    pub(super) fn blob(&self, name: &str) -> Result<Option<Blob>, EngineError> {
        match self.entries.get(name) {
            None => Ok(None),
            Some(Entry::Embedded(bytes)) => Ok(Some(Blob::embedded(name, bytes))),
            Some(Entry::Disk(path)) => Blob::open(path).map(Some).map_err(|source| read_failure(path, source)),
        }
    }

    /// The text of a file, if there is one of that name.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, EngineError> {
        let Some(blob) = self.blob(name)? else { return Ok(None) };
        let path = blob.path();
        let bytes = blob.read_all().map_err(|source| read_failure(&path, source))?;
        String::from_utf8(bytes).map(Some).map_err(|error| {
            EngineError::invalid(
                format!("{} is not UTF-8 text (byte {})", path.display(), error.utf8_error().valid_up_to()),
                "fetch the file again; a Git LFS or binary file under this name is not what is needed",
            )
        })
    }

    /// The JSON of a file, if there is one of that name.
    pub(super) fn json(&self, name: &str) -> Result<Option<serde_json::Value>, EngineError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            EngineError::invalid(
                format!("{name} in {} is not JSON: {error}", self.place),
                "fetch the file again; it may be cut off",
            )
        })
    }

    /// SHA-256 of one file, in hexadecimal.
    pub(super) fn sha256(&self, name: &str) -> Result<String, EngineError> {
        if let Some(digest) = self.path(name).and_then(hub::cached_sha256) {
            return Ok(digest);
        }
        let blob = self.blob(name)?.ok_or_else(|| {
            EngineError::invalid(format!("{name} has gone from {}", self.place), "leave the folder alone during a run")
        })?;
        blob.sha256().map_err(|source| read_failure(&blob.path(), source))
    }

    /// Begins to compute the SHA-256 of one file.
    pub(super) fn hash(&self, name: &str) -> FileHash {
        let (files, name) = (self.clone(), name.to_owned());
        FileHash::begin(move || files.sha256(&name))
    }

    /// Begins to compute the SHA-256 of the sorted lines `{sha256}  {file name}` over these files; `begun` is the name and the hash of one
    /// that is being hashed already.
    pub(super) fn hash_all(&self, mut names: Vec<String>, begun: Option<(String, FileHash)>) -> FileHash {
        let files = self.clone();
        names.retain(|name| files.contains(name));
        names.sort_unstable();
        names.dedup();
        FileHash::begin(move || {
            let digest = |name: &String| match &begun {
                Some((hashed, hash)) if hashed == name => hash.wait().map(str::to_owned),
                _ => files.sha256(name),
            };
            let line = |name: &String| -> Result<String, EngineError> { Ok(format!("{}  {name}\n", digest(name)?)) };
            let lines = || names.par_iter().map(line).collect::<Result<Vec<_>, EngineError>>();
            // Threads of its own: in the pool that all share, an engine's work would wait for gigabytes.
            let threads = rayon::current_num_threads().min(names.len());
            let mut lines = match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
                Ok(pool) => pool.install(lines)?,
                Err(_) => names.iter().map(line).collect::<Result<_, _>>()?,
            };
            lines.sort_unstable();
            Ok(files::sha256(lines.concat().as_bytes()))
        })
    }
}

/// A file that could not be read, with the way out that fits the reason.
pub(super) fn read_failure(path: &Path, source: io::Error) -> EngineError {
    let hint = |cause| match cause {
        IoCause::NotFound => "check the path; a link may point to a file that is gone",
        IoCause::Denied => "make the file readable for this user: `chmod u+r` it, or ask its owner",
        IoCause::TooShort => "the file is shorter than its header says: fetch it again",
        IoCause::Folder => "a file is needed here, not a folder",
        _ => "check the disk that the file lies on",
    };
    EngineError::Read(IoFault::new("read", path, source, hint))
}
