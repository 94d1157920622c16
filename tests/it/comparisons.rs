//! Comparisons of runs as text.

use evalsuite::compare::{Comparison, Report, report_format};
use evalsuite::jobs::eval::StoredRun;
use evalsuite::report::{ReportError, Templates};

/// A comparison in a format, without colours.
pub(crate) fn render(
    comparison: &Comparison,
    runs: &[StoredRun],
    format: &str,
    templates: &Templates,
) -> Result<String, ReportError> {
    report_format(format)?.render(&Report { comparison, runs, templates, csv_raw: true, colour: false })
}
