//! `--rule` and `--deny-notes`, which every command with a table of accuracies has.

use std::fmt::Display;
use std::path::Path;

use super::exit::Exit;
use super::printer::print_error;
use crate::fault::Fault;
use crate::jobs::JobError;
use crate::jobs::eval::EvalRecord;

/// `--deny-notes`: what is implausible is an error. Each is said once more, for the table may be far up, or in a file.
pub(super) fn deny<T: Display>(deny_notes: bool, notes: impl IntoIterator<Item = T>) -> Exit {
    let notes: Vec<T> = notes.into_iter().collect();
    if !deny_notes || notes.is_empty() {
        return Exit::Success;
    }
    for note in &notes {
        print_error(&format!("--deny-notes: {note}"));
    }
    Exit::BelowMinimum
}

/// `--rule`: another of a record's rules decides.
pub(super) fn set_rule(record: &mut EvalRecord, rule: Option<&str>, run: &Path) -> Result<(), JobError> {
    rule.map_or(Ok(()), |rule| record.set_headline(rule))
        .map_err(|Fault { what, hint }| JobError::invalid(format!("{}: {what}", run.display()), hint))
}
