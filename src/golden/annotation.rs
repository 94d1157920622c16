//! A check's failures as annotations of GitHub Actions.

use super::Checked;
use crate::report::annotation;

/// One `::error` line for each golden file whose check failed, at that file, with its first differences.
pub fn annotations(checked: &[Checked]) -> Vec<String> {
    const SHOWN: usize = 5;
    let line = |one: &Checked| {
        let differences = one.differences.iter().take(SHOWN).map(|note| match &note.id {
            Some(id) => format!("\n{id}: {}", note.what),
            None => format!("\n{}", note.what),
        });
        let message = format!("{}: {}{}", one.status.name(), one.summary, differences.collect::<String>());
        let file = one.entry.path.display().to_string();
        annotation("error", Some(&file), &format!("golden {}", one.entry.in_words()), &message)
    };
    checked.iter().filter(|one| !one.is_good()).map(line).collect()
}
