//! A record's figures, line by line: what each check found, in words.

use super::EndpointProbeRecord;
use crate::report::{FigureLine, FigureLines};

/// Of every check.
pub fn endpoint_probe_lines(record: &EndpointProbeRecord) -> Vec<FigureLine> {
    let mut lines = FigureLines::default();
    for check in &record.checks {
        lines.of("", &check.name).text("verdict", check.verdict.in_words()).text("seen", &check.seen);
    }
    if let Some(precision) = &record.precision {
        lines.of("", "precision").text("seen", &precision.sentence);
    }
    lines.done()
}
