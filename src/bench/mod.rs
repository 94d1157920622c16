//! Speed: how fast each precision of a model loads and generates, beside what others measured.
//! `pipeline.rs` is the file that knows every stage.

mod event;
mod inputs;
mod job;
mod load;
mod many;
mod measure;
mod peers;
mod pipeline;
mod prompts;
mod single;
mod workload;

pub use event::{Event, Progress};
pub use inputs::BenchInputs;
pub use job::BenchJob;
pub use pipeline::{BenchFinished, Surroundings, evaluate, execute};
pub use workload::{RequestLengths, Workload};
