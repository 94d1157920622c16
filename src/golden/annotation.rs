//! A check's failures as annotations of GitHub Actions.

use super::{Checked, Status};

/// One `::error` line for each golden file that does not hold, at that file, with its first differences
/// (<https://docs.github.com/actions/reference/workflow-commands-for-github-actions>).
pub fn annotations(checked: &[Checked]) -> Vec<String> {
    const SHOWN: usize = 5;
    let line = |one: &Checked| {
        let differences = one.differences.iter().take(SHOWN).map(|note| match &note.id {
            Some(id) => format!("\n{id}: {}", note.what),
            None => format!("\n{}", note.what),
        });
        let message = format!("{}: {}{}", one.status.name(), one.summary, differences.collect::<String>());
        let title = format!("golden {}", one.entry.in_words());
        format!(
            "::error file={},title={}::{}",
            property(&one.entry.path.display().to_string()),
            property(&title),
            data(&message)
        )
    };
    checked.iter().filter(|one| one.status != Status::Ok).map(line).collect()
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
