//! Annotations for GitHub Actions: workflow commands, one a line
//! (<https://docs.github.com/actions/reference/workflow-commands-for-github-actions>).

use super::{Report, ReportFormat};
use crate::compare::comparison::Comparison;
use crate::report::ReportError;
use crate::report::annotation;
use crate::report::words::{p_value, points};

/// `--format github`.
#[derive(Debug)]
pub(super) struct Github;

impl ReportFormat for Github {
    fn name(&self) -> &'static str {
        "github"
    }

    fn description(&self) -> &'static str {
        "annotations of GitHub Actions"
    }

    fn render(&self, report: &Report) -> Result<String, ReportError> {
        Ok(annotations(report.comparison))
    }
}

/// `::error` for what a gate or an engine failed, `::warning` for damage and for what is implausible (`::error` where that is denied),
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
                "{} is worse than {}: {} points, 95 % interval [{}, {}], {} lost, {} gained, p {} (exact McNemar)",
                row.label,
                reference.map_or(comparison.reference.as_str(), |reference| reference.label.as_str()),
                points(pair.difference),
                points(pair.difference_low),
                points(pair.difference_high),
                pair.lost,
                pair.gained,
                p_value(pair.mcnemar_p)
            );
            lines.push(command("warning", "accuracy", &message));
        }
    }
    for note in &comparison.notes {
        let kind = if comparison.deny_notes { "error" } else { "warning" };
        lines.push(command(kind, note.finding.kind.name(), &note.message));
    }
    lines.push(command("notice", "evalsuite", &comparison.verdict));
    lines.join("\n")
}

fn command(kind: &str, title: &str, message: &str) -> String {
    annotation(kind, None, title, message)
}
