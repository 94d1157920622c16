//! Reports: a record as a table for a terminal, a page, or a program, by the templates in `templates/`.

mod context;
mod diff_lines;
mod format;
mod perplexity;
mod quality;
mod render;

pub use context::Context;
pub use format::{Format, ReportError};
pub use perplexity::PerplexityContext;
pub use quality::QualityContext;
pub use render::{render, render_perplexity, render_quality};
