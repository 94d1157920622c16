//! Reports: a record as a table for a terminal, a page, or a program, by the templates in `templates/`.

mod bench;
mod context;
mod diff_lines;
mod format;
mod perplexity;
mod quality;
mod render;

pub use bench::BenchContext;
pub use context::Context;
pub(crate) use diff_lines::{mark, plain, wrap, wrap_text};
pub use format::{Format, ReportError};
pub use perplexity::PerplexityContext;
pub use quality::QualityContext;
pub use render::{render, render_bench, render_perplexity, render_quality};
