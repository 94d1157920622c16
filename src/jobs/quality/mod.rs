//! Quality: a fixed set of prompts in every precision, each answer held to its checks and against the reference's.
//! `pipeline.rs` is the file that knows every stage; `import.rs` takes answers made elsewhere through the same
//! comparison.

mod import;
mod inputs;
mod job;
mod lines;
mod pipeline;
mod record;
mod stored;
mod summary;
mod view;

pub use import::import;
pub use inputs::QualityInputs;
pub use job::{ImportJob, QualityJob};
pub use lines::quality_lines;
pub use pipeline::{QualityFinished, evaluate, execute};
pub use record::{
    Answer, AnswerCloseness, Closeness, ColumnQuality, FirstDivergence, ImportPlan, KindQuality, ModelQuality, Origin,
    PromptQuality, PromptSetPlan, QUALITY_FORMAT, QualityPlan, QualityRecord, ShownToken,
};
pub use summary::{Asked, compare};
pub use view::{QualityView, render_quality};
