//! Checks one golden file against new outputs, and writes or removes its pending file.

use super::{Comparison, Entry, Golden, Note, Tolerance, compare};
use crate::jobs::JobError;

/// The status of a golden file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The outputs are the same within the tolerance.
    Ok,
    /// The outputs differ.
    Changed,
    /// A pending file waits to be accepted or rejected.
    Pending,
    /// Its prompts or rows no longer exist.
    Orphaned,
    /// The golden file does not exist.
    Missing,
    /// It could not be compared.
    Failed,
    /// Its model is not on this machine, so that nothing was run.
    LeftOut,
}

impl Status {
    /// The name in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Changed => "changed",
            Self::Pending => "pending",
            Self::Orphaned => "orphaned",
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::LeftOut => "left out",
        }
    }
}

/// The result of checking one golden file.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Which.
    pub entry: Entry,
    /// Its status.
    pub status: Status,
    /// The status in more words.
    pub summary: String,
    /// Every difference.
    pub differences: Vec<Note>,
    /// Changed inputs that alone do not fail it.
    pub notes: Vec<String>,
    /// Whether a pending file was written.
    pub is_pending: bool,
    /// Whether the engine failed, rather than the user's files.
    pub is_engine_failure: bool,
}

impl Checked {
    /// A result without differences.
    pub fn new(entry: &Entry, status: Status, summary: impl Into<String>) -> Self {
        Self {
            entry: entry.clone(),
            status,
            summary: summary.into(),
            differences: Vec::new(),
            notes: Vec::new(),
            is_pending: false,
            is_engine_failure: false,
        }
    }

    /// Its model is not on this machine.
    pub fn left_out(entry: &Entry, error: &JobError) -> Self {
        let why = error.to_string();
        let why = why.lines().next().unwrap_or_default();
        let way = entry
            .source()
            .unwrap_or_else(|| "put its model where the recipe names it, or name it by `--model`".to_owned());
        Self::new(entry, Status::LeftOut, format!("its model is not on this machine: {why}\nto get it: {way}"))
    }

    /// Whether it may stand: it holds, or nobody could see.
    pub fn is_good(&self) -> bool {
        matches!(self.status, Status::Ok | Status::LeftOut)
    }

    /// It could not be compared.
    pub fn failed(entry: &Entry, error: &JobError) -> Self {
        Self { is_engine_failure: error.is_engine_failure(), ..Self::new(entry, Status::Failed, error.to_string()) }
    }
}

/// Compares the golden file of `entry` with new outputs. With `write`, differing outputs are written to the pending
/// file, and the pending file is removed if there is no difference.
pub fn hold(
    entry: &Entry,
    came: Result<&Golden, &JobError>,
    spell: Option<&dyn Fn(u32) -> String>,
    write: bool,
) -> Result<Checked, JobError> {
    let new = match came {
        Ok(new) => new,
        Err(error) => return Ok(Checked::failed(entry, error)),
    };
    let old = match entry.golden() {
        Ok(old) => old,
        Err(error) => return Ok(Checked::failed(entry, &error)),
    };
    let mut new = new.clone();
    if let Err(error) = Tolerance::default().apply(&mut new, old.as_ref()) {
        return Ok(Checked::failed(entry, &error));
    }
    let mut checked = match &old {
        None => {
            Checked::new(entry, Status::Missing, format!("there is no golden file; {} outputs came", new.outputs.len()))
        }
        Some(old) => judged(entry, old, &compare(old, &new, spell)),
    };
    if write && checked.status == Status::Ok {
        entry.reject()?;
    } else if write {
        new.changes.clone_from(&checked.differences);
        entry.write_pending(&new)?;
    }
    checked.is_pending = entry.is_pending();
    Ok(checked)
}

fn judged(entry: &Entry, old: &Golden, comparison: &Comparison) -> Checked {
    let tiers: Vec<&str> = crate::task::Tier::ALL
        .into_iter()
        .filter(|tier| old.outputs.iter().any(|output| old.tier_of(output) == *tier))
        .map(crate::task::Tier::name)
        .collect();
    let (status, summary) = if comparison.is_equal() {
        (Status::Ok, format!("{} outputs, tier {}", comparison.compared, tiers.join(", ")))
    } else {
        (Status::Changed, comparison.in_words())
    };
    let notes = comparison.notes.clone();
    Checked { differences: comparison.differences(), notes, ..Checked::new(entry, status, summary) }
}
