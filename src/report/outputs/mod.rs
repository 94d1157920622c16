//! A comparison in every format.

mod csv;
mod github;
mod junit;
mod page;

use super::comparison::Comparison;
use super::format::{ReportError, ReportFormat};
use super::templates::Templates;
use crate::record::StoredRun;

pub(crate) use github::annotation;
pub use github::annotations;

/// A comparison of `runs` as text in a format.
pub fn render_comparison(
    comparison: &Comparison,
    runs: &[StoredRun],
    format: ReportFormat,
    templates: &Templates,
) -> Result<String, ReportError> {
    match format {
        ReportFormat::Terminal { colour } => templates.fill("report.txt", comparison, colour),
        ReportFormat::Markdown => templates.fill("report.md", comparison, false),
        ReportFormat::Html => page::page(comparison, runs, templates),
        ReportFormat::Csv => csv::csv(comparison, runs),
        ReportFormat::Json => Ok(json(comparison)?),
        ReportFormat::Junit => junit::junit(comparison, runs),
        ReportFormat::Github => Ok(annotations(comparison)),
    }
}

fn json(comparison: &Comparison) -> Result<String, ReportError> {
    serde_json::to_string_pretty(comparison).map_err(|error| ReportError::fault("JSON", &error))
}
