//! A run's folder: made once, locked while in use, resumed only under the same plan.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::answers::{check_before_resuming, check_kept};
use super::json::{read_checked, write_json};
use super::{Journal, RecordError, RunPlan, Session, StoredCompletion, StoredSample, VariantName, samples, session};
use crate::files::write_atomically;
use crate::text::command_line;

/// A run folder that this process holds.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// The lock ends when this closes, also when the process is killed.
    _lock: File,
}

impl RunFolder {
    /// Makes a folder for a new run; it may exist if there is nothing in it.
    pub fn create(path: &Path, plan: &impl RunPlan) -> Result<Self, RecordError> {
        fs::create_dir_all(path).map_err(RecordError::io("make the folder", path))?;
        let entries = fs::read_dir(path).map_err(RecordError::io("read", path))?;
        if entries.flatten().any(|entry| entry.file_name() != "lock") {
            // If another process holds the folder, that is the error.
            drop(lock(path)?);
            return Err(RecordError::invalid(
                format!("there is something in {} already", path.display()),
                "add `--resume` to go on with the run there, or choose another folder with `--out DIR`",
            ));
        }
        let folder = Self { path: path.to_path_buf(), _lock: lock(path)? };
        folder.write_json("plan.json", plan)?;
        Ok(folder)
    }

    /// Resumes the run in a folder; an error names every difference between its plan and `plan`. The folder's own
    /// plan is returned: its command and start time are the run's.
    pub fn resume<P: RunPlan>(path: &Path, plan: &P) -> Result<(Self, P), RecordError> {
        let begun: P = read_plan(path)?;
        let folder = Self { path: path.to_path_buf(), _lock: lock(path)? };
        let differences = differences(&begun, plan)?;
        if differences.is_empty() {
            check_before_resuming(path)?;
            samples::read_samples(path)?;
            return Ok((folder, begun));
        }
        Err(RecordError::invalid(
            format!("the run in {} cannot be resumed by this command:\n  {}", path.display(), differences.join("\n  ")),
            format!(
                "give its own command (`{}`) with `--resume`, or leave `--resume` out for a new run",
                command_line(begun.command().iter().map(String::as_str))
            ),
        ))
    }

    /// The newest folder under `runs` that `plan` can resume.
    pub fn newest_matching<P: RunPlan>(runs: &Path, plan: &P) -> Result<PathBuf, RecordError> {
        let mut folders: Vec<PathBuf> = fs::read_dir(runs)
            .map(|entries| entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
            .unwrap_or_default();
        folders.sort_unstable();
        let mut newest = None;
        for path in folders.into_iter().rev() {
            let Ok(begun) = read_plan::<P>(&path) else { continue };
            let differences = differences(&begun, plan)?;
            if differences.is_empty() {
                return Ok(path);
            }
            newest.get_or_insert((path, differences));
        }
        let hint = "give the run's own command with `--resume`, or leave `--resume` out for a new run";
        Err(match newest {
            Some((path, differences)) => RecordError::invalid(
                format!(
                    "no run under {} was begun by this command; the newest, {}, differs:\n  {}",
                    runs.display(),
                    path.display(),
                    differences.join("\n  ")
                ),
                hint,
            ),
            None => RecordError::invalid(format!("there is no run under {} to resume", runs.display()), hint),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a variant's journal and reads its completed outcomes.
    pub fn journal(&self, variant: &VariantName) -> Result<(Journal, Vec<StoredCompletion>), RecordError> {
        let folder = self.path.join(variant.as_str());
        fs::create_dir_all(&folder).map_err(RecordError::io("make the folder", &folder))?;
        Journal::open(&folder.join("journal.jsonl"))
    }

    /// A variant's sessions so far.
    pub fn sessions(&self, variant: &VariantName) -> Result<Vec<Session>, RecordError> {
        Self::read_sessions(&self.path, variant)
    }

    /// Replaces a variant's sessions.
    pub fn write_sessions(&self, variant: &VariantName, sessions: &[Session]) -> Result<(), RecordError> {
        self.write_json(&format!("{variant}/sessions.json"), &sessions)
    }

    /// Writes `answers.jsonl`; answers that lack one of those that stand there are refused.
    pub fn write_answers(&self, answers: &[u8]) -> Result<(), RecordError> {
        check_kept(&self.path, answers)?;
        let path = self.path.join("answers.jsonl");
        write_atomically(&path, answers).map_err(RecordError::io("write", &path))
    }

    /// Writes `samples.jsonl`.
    pub fn write_samples(&self, samples: &[StoredSample]) -> Result<(), RecordError> {
        samples::write_samples(&self.path, samples)
    }

    /// Writes `record.json`.
    pub fn write_record(&self, record: &impl serde::Serialize) -> Result<(), RecordError> {
        self.write_json("record.json", record)
    }

    /// Reads the plan of a run folder, held or not.
    pub fn read_plan<P: RunPlan>(path: &Path) -> Result<P, RecordError> {
        read_plan(path)
    }

    /// Reads a variant's sessions in a run folder, held or not.
    pub fn read_sessions(path: &Path, variant: &VariantName) -> Result<Vec<Session>, RecordError> {
        session::read(&path.join(variant.as_str()).join("sessions.json"))
    }

    /// The path of a variant's journal.
    pub fn journal_path(path: &Path, variant: &VariantName) -> PathBuf {
        path.join(variant.as_str()).join("journal.jsonl")
    }

    fn write_json(&self, name: &str, value: &impl serde::Serialize) -> Result<(), RecordError> {
        write_json(&self.path.join(name), value)
    }
}

pub(super) fn read_plan<P: DeserializeOwned>(path: &Path) -> Result<P, RecordError> {
    const HINT: &str = "the file was changed, or another version of evalsuite wrote it; start a new run";
    let file = path.join("plan.json");
    if path.is_dir() && !file.exists() {
        return Err(RecordError::invalid(
            format!("{}: there is no plan.json, so this is no run, or one that ended before it began", path.display()),
            "name a run's folder; one that ended so holds nothing: delete it and give the command without `--resume`",
        ));
    }
    serde_json::from_slice(&read_checked(&file, HINT)?)
        .map_err(|error| RecordError::invalid(format!("{}: not the plan of a run: {error}", file.display()), HINT))
}

fn differences<P: RunPlan>(was: &P, is: &P) -> Result<Vec<String>, RecordError> {
    let found = was
        .differences(is)
        .map_err(|error| RecordError::invalid(format!("cannot compare plans: {error}"), "start a new run"))?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// Whether a process works in a run folder.
pub(super) fn is_in_use(folder: &Path) -> bool {
    File::open(folder.join("lock")).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn lock(folder: &Path) -> Result<File, RecordError> {
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(RecordError::io("open", &path))?;
    // A lock lives on for a moment in a process that was just killed, or in a child just forked.
    let mut attempts_left = 10;
    while let Err(refusal) = file.try_lock() {
        match refusal {
            TryLockError::WouldBlock if attempts_left > 0 => {
                attempts_left -= 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            TryLockError::WouldBlock => return Err(in_use(folder, &mut file)),
            TryLockError::Error(error) => return Err(RecordError::io("lock", &path)(error)),
        }
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(RecordError::io("write", &path))?;
    Ok(file)
}

fn in_use(folder: &Path, lock: &mut File) -> RecordError {
    let mut holder = String::new();
    // The process id only improves the message.
    let _ = lock.read_to_string(&mut holder);
    let process = holder.trim().parse::<u32>().map_or(String::new(), |id| format!(" (process {id})"));
    RecordError::invalid(
        format!("the run folder {} is in use by another evalsuite{process}", folder.display()),
        "wait for it to end, or choose another folder with `--out DIR`",
    )
}
