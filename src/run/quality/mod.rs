//! Quality: a fixed set of prompts in every precision, each answer held to its checks and against the reference's.
//! `pipeline.rs` is the file that knows every stage; `import.rs` takes answers made elsewhere through the same
//! comparison.

mod import;
mod inputs;
mod job;
mod pipeline;

pub use import::import;
pub use inputs::QualityInputs;
pub use job::{ImportJob, QualityJob};
pub(crate) use pipeline::spelling;
pub use pipeline::{QualityFinished, evaluate, execute};
