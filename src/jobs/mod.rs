//! Jobs: from what was asked for to a record. Each job is a vertical slice with its own plan, record and view, whose `pipeline.rs`
//! is the one file that knows every stage; what jobs share stands beside them.

pub mod bench;
mod context;
mod error;
pub mod eval;
mod event;
mod folder;
mod generate;
pub mod perplexity;
mod prepared;
mod provenance;
pub mod quality;
mod target;
mod writer;

pub use context::{Finished, JobContext, OpenEngine};
pub use error::JobError;
pub use event::{Event, Progress, WindowProgress};
pub use folder::Destination;
pub(crate) use folder::check_destination;
pub use prepared::Prepared;
pub(crate) use provenance::{awq_plan, chat_template, model_plan, weight_notes};
pub use target::Target;
