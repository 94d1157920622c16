//! The verdict: one line about the change of accuracy.

use super::gate::Gate;
use super::rows::ComparisonRow;
use crate::report::words::{p_value, percent, points};

/// Under the first rule, each row against its reference; with a gate, whether it holds comes first.
pub(in crate::compare) fn verdict(rows: &[ComparisonRow], rule: &str, gate: Option<&Gate>) -> String {
    let mut words: Vec<String> = rows.iter().filter_map(|row| of_row(row, rows, rule)).collect();
    if words.is_empty() {
        words = rows.iter().map(|row| alone(row, rule)).collect();
    }
    if words.is_empty() {
        words.push("nothing was measured".to_owned());
    }
    let gate = gate.map(|gate| {
        let failed = gate.checks.iter().filter(|check| !check.passed).count();
        let of = gate.checks.len();
        if gate.passed { format!("PASS, {of} of {of} checks: ") } else { format!("FAIL, {failed} of {of} checks: ") }
    });
    gate.unwrap_or_default() + &words.join("; ")
}

fn of_row(row: &ComparisonRow, rows: &[ComparisonRow], rule: &str) -> Option<String> {
    let label = &row.label;
    if row.failure.is_some() {
        return Some(format!("{label} did not finish"));
    }
    let reference = &rows.get(row.reference?)?.label;
    let score = row.scores.iter().find(|score| score.rule == rule)?;
    let pair = score.against?;
    let figures = format!("{} points, p {}", points(pair.difference), p_value(pair.mcnemar_p));
    Some(if score.is_damage {
        format!("{label} is worse than {reference} ({figures})")
    } else if pair.lost + pair.gained == 0 {
        format!("{label} is right where {reference} is")
    } else if pair.mcnemar_p < 0.05 {
        format!("{label} is better than {reference} ({figures})")
    } else {
        format!("{label} is within chance of {reference} ({figures})")
    })
}

fn alone(row: &ComparisonRow, rule: &str) -> String {
    let accuracy = row.scores.iter().find(|score| score.rule == rule).and_then(|score| score.accuracy);
    accuracy.map_or_else(
        || format!("{} has no accuracy", row.label),
        |accuracy| format!("{} is right on {} % of {}", row.label, percent(accuracy.value), accuracy.n),
    )
}
