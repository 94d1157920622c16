//! A benchmark as text: tables of its own, or the page that all records of measurements have.

use super::BenchRecord;
use super::figures::figures;
use super::view::BenchView;
use crate::report::{Format, ReportError, render_by, render_figures};

/// A benchmark as text in a format.
pub fn render_bench(record: &BenchRecord, format: &Format) -> Result<String, ReportError> {
    match format {
        Format::Html => render_figures(&figures(record, "this benchmark", &[]), format),
        _ => render_by("bench", &BenchView::new(record), format),
    }
}
