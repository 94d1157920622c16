//! Jobs: from what was asked for to a record. Each job is a vertical slice with its own plan, record and view, whose `pipeline.rs`
//! is the one file that knows every stage; what jobs share stands beside them.

pub mod bench;
mod chat;
mod context;
mod each;
mod error;
mod estimate;
pub mod eval;
mod event;
mod folder;
mod generate;
mod model;
pub mod perplexity;
mod prepared;
mod probe;
mod provenance;
pub mod quality;
mod remaining;
mod target;
mod thoughts;
mod variant;
mod writer;

pub(crate) use chat::chat_template;
pub use context::{Failures, Finished, JobContext, OpenEngine, open_engine};
pub use error::JobError;
pub use event::{Estimate, Event, FirstToken, Progress, Speed, WindowProgress};
pub use folder::Destination;
pub(crate) use folder::check_destination;
pub(crate) use model::spelling;
pub use model::{Endpoint, Model};
pub use prepared::Prepared;
pub use target::{Checkpoints, Further, Target, VariantSpec};
pub use variant::{Variant, Variants};
