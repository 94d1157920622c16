//! The folder that a checkpoint grows in, `DIR.partial`, and what makes it safe to go on there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::QuantizeError;
use crate::text::bytes;

const STATE: &str = "state.json";
const LOCK: &str = "lock";

/// Everything that decides the checkpoint's bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// The program's version.
    pub(super) evalsuite: String,
    /// Over the model's files.
    pub(super) model_sha256: String,
    /// `awq` or `rtn`.
    pub(super) method: String,
    /// Inputs that share a scale.
    pub(super) group_size: usize,
    /// Over the calibration's tokens; none where the method needs none.
    pub(super) calibration_sha256: Option<String>,
}

impl State {
    /// What differs, named, old and new.
    fn differences(&self, new: &Self) -> Vec<String> {
        let none = || "none".to_owned();
        let pairs = [
            ("evalsuite's version", self.evalsuite.clone(), new.evalsuite.clone()),
            ("model (SHA-256)", self.model_sha256.clone(), new.model_sha256.clone()),
            ("method", self.method.clone(), new.method.clone()),
            ("group size", self.group_size.to_string(), new.group_size.to_string()),
            (
                "calibration text (SHA-256 of its tokens)",
                self.calibration_sha256.clone().unwrap_or_else(none),
                new.calibration_sha256.clone().unwrap_or_else(none),
            ),
        ];
        let differs = pairs.into_iter().filter(|(_, old, new)| old != new);
        differs.map(|(what, old, new)| format!("{what}: {old} then, {new} now")).collect()
    }
}

/// The folder, held by this process.
pub(super) struct Work {
    path: PathBuf,
    out: PathBuf,
    /// The lock ends when this closes, also when the process is killed.
    _lock: File,
}

impl Work {
    /// Refuses a destination that is taken, before anything long begins.
    pub(super) fn check_destination(out: &Path) -> Result<(), QuantizeError> {
        if !out.exists() {
            return Ok(());
        }
        let mut entries = fs::read_dir(out).map_err(QuantizeError::io("read the folder", out))?;
        if entries.next().is_none() {
            return Ok(());
        }
        Err(QuantizeError::invalid(
            format!("there is something in {} already", out.display()),
            "choose another folder with `--out DIR`, or remove that one: nothing is overwritten",
        ))
    }

    /// Begins, or goes on with what the same command has begun.
    pub(super) fn open(out: &Path, state: &State) -> Result<Self, QuantizeError> {
        Self::check_destination(out)?;
        let path = partial(out)?;
        let begun = path.join(STATE);
        let fresh = !path.exists();
        fs::create_dir_all(&path).map_err(QuantizeError::io("make the folder", &path))?;
        if !fresh && !begun.exists() && !is_empty(&path)? {
            return Err(QuantizeError::invalid(
                format!("{} is in the way: no `evalsuite quantize` has made it", path.display()),
                "choose another folder with `--out DIR`, or move that one away",
            ));
        }
        let lock = lock(&path)?;
        if begun.exists() {
            check_state(&begun, &path, state)?;
        } else {
            super::write_json(&begun, state)?;
        }
        Ok(Self { path, out: out.to_path_buf(), _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a part of the weights, done or not.
    pub(super) fn part(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.part"))
    }

    /// Refuses to begin what the disk cannot hold: `need` bytes more.
    pub(super) fn check_space(&self, need: u64) -> Result<(), QuantizeError> {
        let Ok(disk) = nix::sys::statvfs::statvfs(&self.path) else { return Ok(()) };
        let free = disk.blocks_available() * disk.fragment_size();
        if free >= need {
            return Ok(());
        }
        Err(QuantizeError::invalid(
            format!("{} has {} free, and {} are needed", self.path.display(), bytes(free), bytes(need)),
            "make room, or choose a folder on another disk with `--out DIR`",
        ))
    }

    /// The checkpoint is whole: what was only on the way goes, and the folder takes its name.
    pub(super) fn finish(self, parts: &[PathBuf]) -> Result<(), QuantizeError> {
        let state = self.path.join(STATE);
        // The state goes last: as long as it is there, the folder is known as ours.
        for path in parts.iter().chain([&self.path.join(LOCK), &state]) {
            fs::remove_file(path).map_err(QuantizeError::io("remove", path))?;
        }
        fs::rename(&self.path, &self.out).map_err(QuantizeError::io("rename to the destination", &self.path))
    }
}

/// `DIR.partial`, beside `DIR` so that it can take its name.
fn partial(out: &Path) -> Result<PathBuf, QuantizeError> {
    let name = out.file_name().ok_or_else(|| {
        QuantizeError::invalid(format!("{} names no folder to make", out.display()), "give `--out` a path with a name")
    })?;
    let mut name = name.to_owned();
    name.push(".partial");
    Ok(out.with_file_name(name))
}

fn is_empty(path: &Path) -> Result<bool, QuantizeError> {
    let entries = fs::read_dir(path).map_err(QuantizeError::io("read the folder", path))?;
    Ok(entries.flatten().all(|entry| entry.file_name() == LOCK))
}

fn check_state(file: &Path, folder: &Path, state: &State) -> Result<(), QuantizeError> {
    let restart = format!("give the command it was begun with, or remove {} to begin anew", folder.display());
    let bytes = fs::read(file).map_err(QuantizeError::io("read", file))?;
    let begun: State = serde_json::from_slice(&bytes).map_err(|error| {
        QuantizeError::invalid(format!("{} is not the state of a quantisation: {error}", file.display()), &restart)
    })?;
    let differences = begun.differences(state);
    if differences.is_empty() {
        return Ok(());
    }
    Err(QuantizeError::invalid(
        format!(
            "{} was begun otherwise, and cannot be gone on with:\n  {}",
            folder.display(),
            differences.join("\n  ")
        ),
        restart,
    ))
}

fn lock(folder: &Path) -> Result<File, QuantizeError> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(QuantizeError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(QuantizeError::invalid(
            format!("another evalsuite works in {}", folder.display()),
            "wait for it to end, or choose another folder with `--out DIR`",
        )),
        Err(TryLockError::Error(error)) => Err(QuantizeError::io("lock", &path)(error)),
    }
}
