//! A comparison in every report format: one file a format, and its line in [`ALL`].

mod csv;
mod github;
mod json;
mod junit;
mod markdown;
mod model_card;
mod page;
mod terminal;

use super::comparison::Comparison;
use crate::fault::Fault;
use crate::jobs::eval::StoredRun;
use crate::report::{ReportError, Templates};

pub use github::annotations;

/// What a report is made from.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Rows, pairs, verdict.
    pub comparison: &'a Comparison,
    /// The runs behind the rows, with every completion.
    pub runs: &'a [StoredRun],
    /// Where templates come from.
    pub templates: &'a Templates,
    /// Whether the cells of CSV are as they are, formulas of a spreadsheet too.
    pub csv_raw: bool,
    /// Whether a terminal that shows colours reads it.
    pub colour: bool,
}

/// One format.
pub trait ReportFormat: std::fmt::Debug + Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// What it is, in a line.
    fn description(&self) -> &'static str;

    /// Answers whose texts it can show: of more it shows none, and the runs need not hold them.
    fn most_answers(&self) -> usize {
        0
    }

    /// The report as text.
    fn render(&self, report: &Report) -> Result<String, ReportError>;
}

/// Every format, the default first.
pub const ALL: [&dyn ReportFormat; 8] = [
    &terminal::Terminal,
    &markdown::Markdown,
    &page::Html,
    &csv::Csv,
    &json::Json,
    &junit::Junit,
    &github::Github,
    &model_card::ModelCard,
];

/// A format by name.
pub fn report_format(name: &str) -> Result<&'static dyn ReportFormat, ReportError> {
    let found = ALL.into_iter().find(|format| format.name() == name);
    found.ok_or_else(|| Fault::unknown("format", name, &ALL.map(ReportFormat::name)).into())
}
