//! Runs: from a job to a record. `pipeline.rs` is the one file that knows every stage.

mod error;
mod event;
mod folder;
mod generate;
mod inputs;
mod job;
pub mod perplexity;
mod pipeline;
mod prompts;
pub mod quality;
mod rescore;
mod subject;
mod writer;

pub use error::RunError;
pub use event::{Event, Progress, WindowProgress};
pub use inputs::Inputs;
pub(crate) use inputs::{awq_plan, engine_name, model_plan};
pub use job::{Destination, Job, SamplingOptions};
pub(crate) use perplexity::check_destination;
pub use pipeline::{Finished, OpenEngine, Surroundings, evaluate, execute};
pub use prompts::{Prepared, show_prompt};
pub use rescore::rescore;
pub use subject::Subject;
pub(crate) use subject::weight_notes;
