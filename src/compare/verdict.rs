//! The verdict: what became of accuracy, and of the gate.

use super::gate::Gate;
use super::rows::ComparisonRow;
use super::source::Source;
use crate::jobs::eval::{Judged, until_sentence, verdict as sentence};

/// Under the headline rule, each row against its reference, on the margin given. With a gate its checks speak, and nothing beside them:
/// what a row is to its reference is another question than what it is to the baseline.
pub(in crate::compare) fn verdict(
    sources: &[Source],
    rows: &[ComparisonRow],
    rule: &str,
    margin_points: f64,
    gate: Option<&Gate>,
) -> String {
    if let Some(gate) = gate {
        let said = |passed: bool| gate.checks.iter().filter(move |check| check.passed == passed);
        let messages = |passed: bool| said(passed).map(|check| check.message.as_str()).collect::<Vec<_>>().join("; ");
        let of = gate.checks.len();
        return if gate.passed {
            format!("PASS, {of} of {of} checks: {}", messages(true))
        } else {
            format!("FAIL, {} of {of} checks: {}", said(false).count(), messages(false))
        };
    }
    let judged = |index: usize| {
        let source = sources[index];
        Judged { label: &rows[index].label, record: &source.stored.record.dtypes[source.dtype] }
    };
    let paired = |index: usize| {
        let score = rows[index].scores.iter().find(|score| score.rule == rule)?;
        Some((judged(rows[index].reference?), score.against?))
    };
    // What `--until` has shown of a variant beside its own run's reference goes before an interval, which holds for a number of questions
    // that was fixed beforehand.
    let until = |index: usize| {
        let (run, record) = (&sources[index].stored, judged(index).record);
        let until = run.record.until.as_ref().filter(|until| until.rule == rule)?;
        let reference = sources[rows[index].reference?];
        let is_own =
            reference.stored.path == run.path && judged(rows[index].reference?).record.dtype == until.reference;
        is_own.then(|| until_sentence(&run.record, record))?
    };
    let of = |index: usize| until(index).unwrap_or_else(|| sentence(judged(index), paired(index), rule, margin_points));
    let compared: Vec<usize> =
        (0..sources.len()).filter(|index| paired(*index).is_some() || rows[*index].failure.is_some()).collect();
    let told = if compared.is_empty() { (0..sources.len()).collect() } else { compared };
    let words: Vec<String> = told.into_iter().map(of).collect();
    if words.is_empty() { "nothing was measured".to_owned() } else { words.join("; ") }
}
