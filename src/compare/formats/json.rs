//! The comparison's numbers under a version.

use super::{Report, ReportFormat};
use crate::report::ReportError;

/// `--format json`.
#[derive(Debug)]
pub(super) struct Json;

impl ReportFormat for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn description(&self) -> &'static str {
        "the comparison's numbers, under a version"
    }

    fn render(&self, report: &Report) -> Result<String, ReportError> {
        serde_json::to_string_pretty(report.comparison).map_err(|error| ReportError::fault("JSON", &error))
    }
}
