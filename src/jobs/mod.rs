//! Jobs: from what was asked for to a record. Each job is a vertical slice with its own plan, record and view, whose `pipeline.rs`
//! is the one file that knows every stage; what jobs share stands beside them.

pub mod bench;
pub mod blame;
mod chat;
mod column;
mod context;
pub mod determinism;
mod each;
mod endpoint;
pub mod endpoint_probe;
mod error;
mod estimate;
pub mod eval;
mod event;
mod folder;
mod generate;
pub mod load;
mod model;
pub mod perplexity;
mod placebo;
mod placebo_variants;
mod prepared;
mod probe;
mod provenance;
pub mod quality;
mod remaining;
pub(crate) mod requests;
mod target;
mod thoughts;
mod variant;
mod writer;

pub(crate) use chat::chat_template;
pub use context::{Failures, Finished, JobContext, OpenEngine, open_engine};
pub use endpoint::{DEFAULT_PLACES, Endpoint, EndpointSettings};
pub use error::JobError;
pub use event::{Estimate, Event, FirstToken, Progress, ReadingProgress, Speed, WindowProgress};
pub use folder::Destination;
pub(crate) use folder::check_destination;
pub use model::Model;
pub(crate) use model::spelling;
pub use placebo::{Change, PlaceboPlan};
pub use prepared::Prepared;
pub use target::{Checkpoints, Further, Target, VariantSpec};
pub(crate) use thoughts::thought_marks;
pub use variant::{Variant, Variants};
