//! Perplexity: how well each variant predicts a text, and how far its distributions diverge from the reference's.
//! `pipeline.rs` is the file that knows every stage.

mod answers;
mod departures;
mod detail_view;
mod documents;
mod inputs;
mod job;
mod lines;
mod measure;
mod numbers;
mod pipeline;
mod record;
mod summary;
mod view;
mod windows;

pub(in crate::jobs) use detail_view::CONTEXT_CHARACTERS;
pub use detail_view::{DepartureRow, DepartureText, SpreadRow};
pub use inputs::PerplexityInputs;
pub use job::PerplexityJob;
pub use lines::perplexity_lines;
pub(in crate::jobs) use numbers::{quoted, quoted_end};
pub use pipeline::{PerplexityFinished, evaluate, execute};
pub use record::{
    AnswerToken, Departure, Departures, Divergence, DtypePerplexity, Opinion, PERPLEXITY_FORMAT, PerplexityRecord,
    ProbabilityChange, Reading, Spread, TextPlan, WindowPlan, WorstToken,
};
pub use view::{PerplexityView, render_perplexity};
pub use windows::Window;
