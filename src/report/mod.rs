//! Reports: a record as a table for a terminal, a page, or a program, by the templates in `templates/`; runs side by side,
//! in every format; and a run held against a stored one.

mod bench;
mod comparison;
mod context;
mod diff_lines;
mod format;
mod gate;
mod outputs;
mod perplexity;
mod quality;
mod render;
mod samples;
mod templates;
mod words;

pub use bench::BenchContext;
pub use comparison::{
    COMPARISON_FORMAT, Comparison, Divergence, OutsideRow, Pair, Provenance, Row, Score, read_outside,
};
pub use context::Context;
pub(crate) use diff_lines::{mark, plain, wrap, wrap_text};
pub use format::{Format, ReportError, ReportFormat};
pub use gate::{Check, Gate, Limits, Subject};
pub(crate) use gate::{no_shared_precision, refusal};
pub(crate) use outputs::annotation;
pub use outputs::{annotations, render_comparison};
pub use perplexity::PerplexityContext;
pub use quality::QualityContext;
pub(crate) use render::check_template;
pub use render::{render, render_bench, render_perplexity, render_quality};
pub use templates::Templates;
