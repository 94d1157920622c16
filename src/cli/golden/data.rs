//! Golden files as JSON names them.

use std::path::PathBuf;

use serde::Serialize;

use crate::golden::{Checked, Coverage, Entry, Golden, Note, Status};

/// Which golden file it is.
#[derive(Debug, Serialize)]
pub(super) struct EntryData {
    suite: String,
    model: String,
    dtype: String,
    path: PathBuf,
}

impl EntryData {
    pub(super) fn new(entry: &Entry) -> Self {
        let Entry { suite, model, dtype, path } = entry.clone();
        Self { suite, model, dtype, path }
    }
}

/// `golden check`.
#[derive(Debug, Serialize)]
pub(super) struct CheckedData {
    #[serde(flatten)]
    entry: EntryData,
    status: &'static str,
    summary: String,
    notes: Vec<String>,
    is_pending: bool,
    differences: Vec<Note>,
}

impl CheckedData {
    pub(super) fn new(checked: &Checked) -> Self {
        Self {
            entry: EntryData::new(&checked.entry),
            status: checked.status.name(),
            summary: checked.summary.clone(),
            notes: checked.notes.clone(),
            is_pending: checked.is_pending,
            differences: checked.differences.clone(),
        }
    }
}

/// `golden review`.
#[derive(Debug, Serialize)]
pub(super) struct PendingData {
    #[serde(flatten)]
    entry: EntryData,
    pending_path: PathBuf,
    differences: Vec<Note>,
}

impl PendingData {
    pub(super) fn new(entry: &Entry, pending: &Golden) -> Self {
        Self { entry: EntryData::new(entry), pending_path: entry.pending_path(), differences: pending.changes.clone() }
    }
}

/// `golden accept`.
#[derive(Debug, Serialize)]
pub(super) struct AcceptedData {
    #[serde(flatten)]
    entry: EntryData,
    outputs: usize,
    tier: String,
}

impl AcceptedData {
    pub(super) fn new(entry: &Entry, golden: &Golden) -> Self {
        Self { entry: EntryData::new(entry), outputs: golden.outputs.len(), tier: golden.tier.to_string() }
    }
}

/// `golden list`.
#[derive(Debug, Serialize)]
pub(super) struct ListedData {
    #[serde(flatten)]
    entry: EntryData,
    status: &'static str,
    what: Option<String>,
    outputs: Option<usize>,
    tier: Option<String>,
    engine: Option<String>,
    date: Option<String>,
    model_sha256: Option<String>,
    orphaned: Vec<String>,
    missing: Vec<String>,
}

impl ListedData {
    pub(super) fn new(
        entry: &Entry,
        status: Status,
        what: Option<String>,
        golden: Option<&Golden>,
        parts: &Coverage,
    ) -> Self {
        Self {
            entry: EntryData::new(entry),
            status: status.name(),
            what,
            outputs: golden.map(|golden| golden.outputs.len()),
            tier: golden.map(|golden| golden.tier.to_string()),
            engine: golden.map(|golden| golden.provenance.engine.clone()),
            date: golden.map(|golden| golden.provenance.date.clone()),
            model_sha256: golden.map(|golden| golden.inputs.model.sha256.clone()),
            orphaned: parts.orphaned.clone(),
            missing: parts.missing.clone(),
        }
    }
}
