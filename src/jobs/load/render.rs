//! A load test as text: tables of its own, or the page that all records of measurements have.

use super::{LoadRecord, LoadView, load_figures};
use crate::report::{Format, ReportError, render_by, render_figures};

/// A load test as text in a format.
pub fn render_load(record: &LoadRecord, format: &Format) -> Result<String, ReportError> {
    match format {
        Format::Html => render_figures(&load_figures(record, "this load test", &[])?, format),
        _ => render_by("load", &LoadView::new(record), format),
    }
}
