//! One golden file held against what came now, and what becomes of the difference.

use super::{Comparison, Entry, Golden, Note, Tolerance, compare};
use crate::jobs::JobError;

/// What is the matter with a golden file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    Ok,
    /// What came now is another.
    Changed,
    /// Something else waits to be accepted or rejected.
    Pending,
    /// What it is of is no more.
    Orphaned,
    /// It should be there and is not.
    Missing,
    /// It could not be compared.
    Failed,
}

impl Status {
    /// For lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Changed => "changed",
            Self::Pending => "pending",
            Self::Orphaned => "orphaned",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}

/// A golden file and what a check said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Which.
    pub entry: Entry,
    /// What is the matter with it.
    pub status: Status,
    /// The same in some more words.
    pub summary: String,
    /// Every difference.
    pub differences: Vec<Note>,
    /// Inputs that are others and need not matter.
    pub notes: Vec<String>,
    /// Whether the difference waits beside it.
    pub is_pending: bool,
    /// Whether the engine failed, and not the user's files.
    pub is_engine_failure: bool,
}

impl Checked {
    /// Without differences.
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

    /// It could not be compared.
    pub fn failed(entry: &Entry, error: &JobError) -> Self {
        Self { is_engine_failure: error.is_engine_failure(), ..Self::new(entry, Status::Failed, error.to_string()) }
    }
}

/// Holds the golden file of `entry` against what came now. With `write`, a difference is left pending beside it, and
/// what was pending is forgotten where there is none any more.
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
