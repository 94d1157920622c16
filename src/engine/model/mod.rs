//! A model's files: where they are, what they say, and the tensors in them.

mod config;
mod names;
mod source;
mod tokenizer;
mod weights;

pub use config::{Activation, Family, ModelConfig, NormKind, PositionKind, RotaryScaling};
pub use names::{BlockNames, TensorNames};
pub use source::{ModelSource, ModelSpec};
pub use tokenizer::ModelTokenizer;
pub use weights::{TensorData, TensorValues, Tensors};
