//! A file that a run is exported to, and what no run should bring about.

use std::path::PathBuf;

use crate::jobs::JobError;

/// A file that an export is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExportedFile {
    /// In the export's folder.
    pub(super) path: PathBuf,
    /// What it holds.
    pub(super) bytes: Vec<u8>,
}

/// What no run should bring about.
pub(super) fn fault(error: &dyn std::fmt::Display) -> JobError {
    JobError::invalid(format!("cannot write the run: {error}"), "this is a fault of evalsuite")
}
