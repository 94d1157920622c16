//! `templates/report.txt`: fits 80 columns.

use super::{Report, ReportFormat};
use crate::report::ReportError;

/// `--format terminal`.
#[derive(Debug)]
pub(super) struct Terminal;

impl ReportFormat for Terminal {
    fn name(&self) -> &'static str {
        "terminal"
    }

    fn description(&self) -> &'static str {
        "tables within 80 columns"
    }

    fn render(&self, report: &Report) -> Result<String, ReportError> {
        report.templates.fill("report.txt", report.comparison, report.colour)
    }
}
