//! Where a run's folder lies: a new one, or the one to go on with.

use std::path::{Path, PathBuf};

use super::{Event, JobError};
use crate::files::check_writable;
use crate::record::{RunFolder, RunPlan, VariantName, read_journal, utc_stamp};

/// Where a run's folder lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The user named it.
    Folder(PathBuf),
    /// A new one under this folder, named by time, model and protocol; with `--resume`, the newest that matches.
    Under(PathBuf),
}

/// A new folder, or the one to go on with; with the plan that it was begun under. `name` is the new folder's after its
/// time stamp.
pub(super) fn open_folder<P: RunPlan>(
    destination: &Destination,
    resume: bool,
    plan: P,
    name: &str,
) -> Result<(RunFolder, P), JobError> {
    if resume {
        let path = match destination {
            Destination::Folder(path) => path.clone(),
            Destination::Under(runs) => RunFolder::newest_matching(runs, &plan)?,
        };
        return Ok(RunFolder::resume(&path, &plan)?);
    }
    let path = match destination {
        Destination::Folder(path) => path.clone(),
        Destination::Under(runs) => fresh_path(runs, name),
    };
    Ok((RunFolder::create(&path, &plan)?, plan))
}

/// `<UTC timestamp>-<name>`, numbered where two runs begin within a second.
fn fresh_path(runs: &Path, name: &str) -> PathBuf {
    let name = format!("{}-{name}", utc_stamp());
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    let name: String = name.chars().map(safe).collect();
    let numbered = (2..).map(|number| runs.join(format!("{name}-{number}")));
    let mut candidates = std::iter::once(runs.join(&name)).chain(numbered);
    candidates.find(|path| !path.exists()).unwrap_or_else(|| runs.join(&name))
}

/// What a folder holds of the completions that it shall hold, and what of them cannot prove itself.
pub(super) fn folder_events(
    folder: &RunFolder,
    variants: &[VariantName],
    per_variant: usize,
) -> Result<Vec<Event>, JobError> {
    let (mut done, mut events) = (0, Vec::new());
    for variant in variants {
        let path = RunFolder::journal_path(folder.path(), variant);
        let journal = read_journal(&path)?;
        done += journal.values.len();
        events.extend(journal.note(&path).map(Event::Note));
    }
    events.push(Event::Folder { path: folder.path().to_path_buf(), done, total: per_variant * variants.len() });
    Ok(events)
}

/// A record that cannot be written should fail before the hours of work that it would tell of. `example` is a good name for it.
pub(crate) fn check_destination(out: Option<&Path>, example: &str) -> Result<(), JobError> {
    let Some(path) = out else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() {
        return Err(JobError::invalid(
            format!("--out {} is a folder", path.display()),
            format!("name a file in it, such as {example}"),
        ));
    }
    match folder {
        Some(folder) if !folder.is_dir() => Err(JobError::invalid(
            format!("--out {}: there is no folder {}", path.display(), folder.display()),
            format!("make it with `mkdir -p {}`, or choose another file", folder.display()),
        )),
        _ => check_writable(path).map_err(|error| {
            JobError::invalid(
                format!("--out {}: cannot write there: {error}", path.display()),
                "choose a file in a folder that you may write to",
            )
        }),
    }
}
