//! `templates/report.md`.

use super::{Report, ReportFormat};
use crate::report::ReportError;

/// `--format markdown`.
#[derive(Debug)]
pub(super) struct Markdown;

impl ReportFormat for Markdown {
    fn name(&self) -> &'static str {
        "markdown"
    }

    fn description(&self) -> &'static str {
        "tables for a pull request or a page"
    }

    fn render(&self, report: &Report) -> Result<String, ReportError> {
        report.templates.fill("report.md", report.comparison, false)
    }
}
