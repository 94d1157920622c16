//! Random checkpoints at real shapes: speed can be measured without downloading a model.
//!
//! The values depend on the seed and on the tensors' names alone, not on the number of threads.

mod error;
mod job;
mod layout;
mod random;
mod shapes;
mod tokenizer;

pub use error::SynthError;
pub use job::{SynthEnd, SynthJob, SynthProgress, synthesise};
pub use layout::{SynthFormat, WEIGHT_DEVIATION};
pub use shapes::ModelShape;
