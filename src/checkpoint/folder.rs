//! The folder that a checkpoint grows in, `DIR.partial`, and what makes it safe to go on there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::CheckpointError;
use crate::text::bytes;

const STATE: &str = "state.json";
const LOCK: &str = "lock";

/// Everything that decides a checkpoint's bytes, named for people.
pub type Deciding = [(&'static str, String)];

/// The unfinished folder, locked by this process.
pub struct CheckpointFolder {
    path: PathBuf,
    out: PathBuf,
    /// The lock ends when this closes, also when the process is killed.
    _lock: File,
}

impl CheckpointFolder {
    /// Refuses a destination that is taken, before anything long begins.
    pub fn check_destination(out: &Path) -> Result<(), CheckpointError> {
        if !out.exists() {
            return Ok(());
        }
        let mut entries = fs::read_dir(out).map_err(CheckpointError::io("read the folder", out))?;
        if entries.next().is_none() {
            return Ok(());
        }
        Err(CheckpointError::invalid(
            format!("there is something in {} already", out.display()),
            "choose another folder with `--out DIR`, or remove that one: nothing is overwritten",
        ))
    }

    /// Creates the folder, or continues one that the same command started.
    pub fn open(out: &Path, deciding: &Deciding) -> Result<Self, CheckpointError> {
        Self::check_destination(out)?;
        let path = partial(out)?;
        let begun = path.join(STATE);
        let fresh = !path.exists();
        fs::create_dir_all(&path).map_err(CheckpointError::io("make the folder", &path))?;
        if !fresh && !begun.exists() && !is_empty(&path)? {
            return Err(CheckpointError::invalid(
                format!("{} is in the way: no evalsuite has made it", path.display()),
                "choose another folder with `--out DIR`, or move that one away",
            ));
        }
        let lock = lock(&path)?;
        if begun.exists() {
            check_state(&begun, &path, deciding)?;
        } else {
            let state: Map<String, Value> =
                deciding.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.clone()))).collect();
            super::write_json(&begun, &state)?;
        }
        Ok(Self { path, out: out.to_path_buf(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a part of the weights, done or not.
    pub fn part(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.part"))
    }

    /// Refuses to begin what the disk cannot hold: `need` bytes more.
    pub fn check_space(&self, need: u64) -> Result<(), CheckpointError> {
        let Some(free) = free_bytes(&self.path) else { return Ok(()) };
        if free >= need {
            return Ok(());
        }
        Err(CheckpointError::invalid(
            format!("{} has {} free, and {} are needed", self.path.display(), bytes(free), bytes(need)),
            "make room, or choose a folder on another disk with `--out DIR`",
        ))
    }

    /// Removes the folder and everything in it.
    pub fn discard(self) -> Result<(), CheckpointError> {
        fs::remove_dir_all(&self.path).map_err(CheckpointError::io("remove", &self.path))
    }

    /// The checkpoint is whole: what was only on the way goes, and the folder takes its name.
    pub fn finish(self, parts: &[PathBuf]) -> Result<(), CheckpointError> {
        let state = self.path.join(STATE);
        // The state goes last: as long as it is there, the folder is known as ours.
        for path in parts.iter().chain([&self.path.join(LOCK), &state]) {
            fs::remove_file(path).map_err(CheckpointError::io("remove", path))?;
        }
        fs::rename(&self.path, &self.out).map_err(CheckpointError::io("rename to the destination", &self.path))
    }
}

/// Bytes that are free on the disk of a file or folder; `None` where the system does not say.
#[cfg(unix)]
pub fn free_bytes(path: &Path) -> Option<u64> {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the counts are narrower on other systems, where `expect` would find nothing"
    )]
    nix::sys::statvfs::statvfs(path).ok().map(|disk| disk.blocks_available() as u64 * disk.fragment_size() as u64)
}

/// Bytes that are free on the disk of a file or folder: not known here.
#[cfg(not(unix))]
pub fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// `DIR.partial`, beside `DIR` so that it can take its name.
fn partial(out: &Path) -> Result<PathBuf, CheckpointError> {
    let name = out.file_name().ok_or_else(|| {
        CheckpointError::invalid(
            format!("{} names no folder to make", out.display()),
            "give `--out` a path with a name",
        )
    })?;
    let mut name = name.to_owned();
    name.push(".partial");
    Ok(out.with_file_name(name))
}

fn is_empty(path: &Path) -> Result<bool, CheckpointError> {
    let entries = fs::read_dir(path).map_err(CheckpointError::io("read the folder", path))?;
    Ok(entries.flatten().all(|entry| entry.file_name() == LOCK))
}

fn check_state(file: &Path, folder: &Path, deciding: &Deciding) -> Result<(), CheckpointError> {
    let restart = format!("give the command it was begun with, or remove {} to begin anew", folder.display());
    let bytes = fs::read(file).map_err(CheckpointError::io("read", file))?;
    let begun: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| {
        CheckpointError::invalid(format!("{} is not the state of a checkpoint: {error}", file.display()), &restart)
    })?;
    let then = |name: &str| begun.get(name).and_then(Value::as_str).unwrap_or("none");
    let changed = deciding.iter().filter(|(name, now)| then(name) != now);
    let changed = changed.map(|(name, now)| format!("{name}: {} then, {now} now", then(name)));
    // What only the earlier command was given.
    let gone = begun.keys().filter(|name| !deciding.iter().any(|(now, _)| now == name));
    let gone = gone.map(|name| format!("{name}: {} then, none now", then(name)));
    let differences: Vec<String> = changed.chain(gone).collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(CheckpointError::invalid(
        format!(
            "{} was begun otherwise, and cannot be gone on with:\n  {}",
            folder.display(),
            differences.join("\n  ")
        ),
        restart,
    ))
}

fn lock(folder: &Path) -> Result<File, CheckpointError> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(CheckpointError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CheckpointError::invalid(
            format!("another evalsuite works in {}", folder.display()),
            "wait for it to end, or choose another folder with `--out DIR`",
        )),
        Err(TryLockError::Error(error)) => Err(CheckpointError::io("lock", &path)(error)),
    }
}
