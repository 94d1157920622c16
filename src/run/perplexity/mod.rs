//! Perplexity: how well each precision predicts a text, and how far its distributions diverge from f32's.
//! `pipeline.rs` is the file that knows every stage.

mod documents;
mod inputs;
mod job;
mod measure;
mod pipeline;
mod summary;
mod windows;

pub use inputs::PerplexityInputs;
pub use job::PerplexityJob;
pub(crate) use pipeline::check_destination;
pub use pipeline::{PerplexityFinished, evaluate, execute};
pub use windows::Window;
