//! What a probe's template sees: the record, and the same as text that is ready to print.

use serde::Serialize;

use super::check::Verdict;
use super::precision::limits;
use super::record::{CheckRecord, EndpointProbeRecord};
use crate::report::{Format, ReportError, model, render_by};

/// A probe as text in a format.
pub fn render_endpoint_probe(record: &EndpointProbeRecord, format: &Format) -> Result<String, ReportError> {
    render_by("endpoint_probe", &EndpointProbeView::new(record), format)
}

/// The variables of a probe's template. Everything here is text, ready to print; `record` holds every number.
#[derive(Debug, Clone, Serialize)]
pub struct EndpointProbeView<'a> {
    /// The whole record, field by field.
    pub record: &'a EndpointProbeRecord,
    /// The same as JSON text.
    pub record_json: String,
    /// `1 harms an evaluation, 3 are notable, 17 hold, 2 could not be asked`.
    pub summary: String,
    /// One a check.
    pub rows: Vec<Row>,
    /// What the user broke off, if they did.
    pub interrupted: Option<String>,
    /// `n requests`.
    pub requests: usize,
    /// The model whose files were here.
    pub reference: Option<String>,
    /// The sequential test in words.
    pub test: Option<String>,
}

/// A check.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Which.
    pub name: String,
    /// The question.
    pub asks: String,
    /// The answer, in words.
    pub verdict: &'static str,
    /// How the verdict is painted.
    pub style: &'static str,
    /// What it means for scores; why it could not be asked.
    pub means: String,
    /// What was seen; empty where it could not be asked.
    pub seen: String,
}

impl<'a> EndpointProbeView<'a> {
    /// The view of a record.
    pub fn new(record: &'a EndpointProbeRecord) -> Result<Self, serde_json::Error> {
        Ok(Self {
            record_json: serde_json::to_string_pretty(record)?,
            record,
            summary: summary(&record.checks),
            rows: record.checks.iter().map(row).collect(),
            interrupted: record.interrupted.then(|| "Interrupted: checks are missing".to_owned()),
            requests: record.exchanges.len(),
            reference: record.reference.as_ref().map(model),
            test: record.precision.as_ref().map(|found| {
                let evidence = &found.evidence;
                format!(
                    "sequential test (Wald): at most {} or at least {} of the tokens more than {} nats from f32's best, each \
                     mistaken in {} of cases; log likelihood ratio {:.2}, decided at {:.2} and {:.2}; {} tokens, {} of them not \
                     f32's choice, {} beyond",
                    share(limits::SHARE_16_BIT),
                    share(limits::SHARE_QUANTISED),
                    limits::GAP_NATS,
                    share(limits::ERROR),
                    evidence.log_likelihood_ratio,
                    evidence.lower,
                    evidence.upper,
                    evidence.tokens,
                    evidence.off_rank_one,
                    evidence.beyond
                )
            }),
        })
    }
}

fn share(share: f64) -> String {
    format!("{} %", share * 100.0)
}

fn summary(checks: &[CheckRecord]) -> String {
    let count = |verdict: Verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let words = [
        (Verdict::Harms, "harms an evaluation", "harm an evaluation"),
        (Verdict::Notable, "is notable", "are notable"),
        (Verdict::Holds, "holds", "hold"),
        (Verdict::NotAsked, "could not be asked", "could not be asked"),
    ];
    let parts = words.into_iter().filter_map(|(verdict, one, several)| match count(verdict) {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {several}")),
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn row(check: &CheckRecord) -> Row {
    let asked = check.verdict != Verdict::NotAsked;
    Row {
        name: check.name.clone(),
        asks: check.asks.clone(),
        verdict: check.verdict.in_words(),
        style: match check.verdict {
            Verdict::Holds => "green",
            Verdict::Notable => "yellow",
            Verdict::Harms => "red.bold",
            Verdict::NotAsked => "dim",
        },
        // A cell must hold no column's end.
        means: if asked { &check.means } else { &check.seen }.replace('|', "/").replace('\n', " "),
        seen: if asked { check.seen.clone() } else { String::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted_in_words() {
        let check = |verdict| CheckRecord {
            name: "a".into(),
            asks: "b".into(),
            verdict,
            seen: "seen | here".into(),
            means: "means".into(),
        };
        let checks = [Verdict::Holds, Verdict::Harms, Verdict::Holds, Verdict::NotAsked].map(check);
        assert_eq!(summary(&checks), "1 harms an evaluation, 2 hold, 1 could not be asked");
        let (holds, not) = (row(&checks[0]), row(&checks[3]));
        assert_eq!((holds.means.as_str(), holds.seen.as_str()), ("means", "seen | here"));
        assert_eq!((not.means.as_str(), not.seen.as_str()), ("seen / here", ""));
    }
}
