//! Annotations for GitHub Actions: workflow commands, one a line
//! (<https://docs.github.com/actions/reference/workflow-commands-for-github-actions>).

use crate::report::comparison::Comparison;
use crate::report::words::{p_value, points};

/// `::error` for what a gate or an engine failed, `::warning` for damage beyond chance and for answers that were cut off,
/// `::notice` for the verdict.
pub fn annotations(comparison: &Comparison) -> String {
    let mut lines = Vec::new();
    let primary = comparison.rules.first().map_or("", String::as_str);
    for check in comparison.gate.iter().flat_map(|gate| &gate.checks).filter(|check| !check.passed) {
        lines.push(command("error", &format!("{} gate", check.subject.name()), &check.message));
    }
    for row in &comparison.rows {
        if let Some(failure) = &row.failure {
            lines.push(command("error", &format!("{} did not finish", row.label), failure));
        }
        let score = row.scores.iter().find(|score| score.rule == primary && score.is_damage);
        if let Some(pair) = score.and_then(|score| score.against) {
            let reference = row.reference.and_then(|index| comparison.rows.get(index));
            let message = format!(
                "{} is worse than {}: {} points, {} lost, {} gained, p {} (exact McNemar)",
                row.label,
                reference.map_or("f32", |reference| reference.label.as_str()),
                points(pair.difference),
                pair.lost,
                pair.gained,
                p_value(pair.mcnemar_p)
            );
            lines.push(command("warning", "accuracy", &message));
        }
        if let Some(cut) = row.cut.filter(|cut| *cut > 0) {
            let message = format!("{}: {cut} answers were cut off by the limit of tokens or the context", row.label);
            lines.push(command("warning", "cut off", &message));
        }
    }
    lines.push(command("notice", "evalsuite", &comparison.verdict));
    lines.join("\n")
}

fn command(kind: &str, title: &str, message: &str) -> String {
    annotation(kind, None, title, message)
}

/// One workflow command, at a file of the repository where there is one to point at.
pub(crate) fn annotation(kind: &str, file: Option<&str>, title: &str, message: &str) -> String {
    let file = file.map_or_else(String::new, |file| format!("file={},", property(file)));
    format!("::{kind} {file}title={}::{}", property(title), data(message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_on_its_line_and_a_title_in_its_property() {
        let line = command("error", "a: b, 5%", "100 %\r\nnext::error::");
        assert_eq!(line, "::error title=a%3A b%2C 5%25::100 %25%0D%0Anext::error::");
    }
}
