//! A check's failures as annotations of GitHub Actions.

use super::reported_once;
use super::{Checked, Common};
use crate::report::annotation;

/// One `::error` line for each change that several golden files have in common, and one for each golden file whose check failed, at that
/// file, with the first of its own differences.
pub fn annotations(checked: &[Checked]) -> Vec<String> {
    const SHOWN: usize = 5;
    let line = |one: &Checked| {
        let differences = one.differences.iter().take(SHOWN).map(|note| match &note.id {
            Some(id) => format!("\n{id}: {}", note.what),
            None if note.outputs.is_empty() => format!("\n{}", note.what),
            None => format!("\n{} outputs: {}", note.outputs.len(), note.what),
        });
        let message = format!("{}: {}{}", one.status.name(), one.summary, differences.collect::<String>());
        let file = one.entry.path.display().to_string();
        annotation("error", Some(&file), &format!("golden {}", one.entry.in_words()), &message)
    };
    let (common, own) = reported_once(checked);
    let common = common.iter().filter(|one| !one.is_note).map(|one: &Common| {
        annotation("error", None, &format!("{} golden files", one.golden_files.len()), &one.in_words())
    });
    common.chain(own.iter().filter(|one| !one.is_good()).map(line)).collect()
}
