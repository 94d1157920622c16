//! Rendering shared by jobs and comparisons: templates, numbers in words, formats, word diffs.

mod annotation;
mod describe;
mod diff_lines;
mod figures;
mod format;
mod groups;
mod lines;
mod render;
mod templates;
pub(crate) mod words;

pub(crate) use annotation::annotation;
pub(crate) use describe::{awq, decoding, model, variants};
pub(crate) use diff_lines::{mark, plain, wrap, wrap_text};
pub use figures::{
    ChartView, FIGURES_FORMAT, FigurePart, Figures, FiguresView, LegendView, MeasuredFigure, RecordFacts, Series,
    TableView, csv as figures_csv, render_figures,
};
pub use format::{Format, ReportError};
pub(crate) use groups::grouped;
pub use lines::{FigureLine, FigureLines, lines_csv};
pub(crate) use render::{TEMPLATE_JOB, check_template, render_by, template_answer};
pub use templates::Templates;
