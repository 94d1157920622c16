//! A model's files: where they are, what they say, and the tensors in them.

mod awq_form;
mod awq_tensor;
mod checked;
mod companions;
mod config;
mod config_json;
mod facts;
pub mod family;
mod fields;
mod files;
mod gguf;
mod names;
mod put_back;
pub mod quant;
mod rotary;
mod same_model;
mod source;
mod spec;
mod special_tokens;
mod tokenizer;
mod tokenizer_bounds;
mod tokenizer_files;
mod tokenizer_open;
mod weights;

pub use awq_tensor::AwqTensor;
pub use config::{Activation, Family, FamilyEntry, ModelConfig, NormKind, PositionKind, RotaryScaling};
pub use facts::{CandleModel, GgufFacts, Names, TokenizerFacts};
pub use files::ModelFiles;
pub use names::{BlockNames, TensorNames};
pub use quant::{Layout, Quantization, WeightFormat};
pub(crate) use rotary::Rotary;
pub use source::ModelSource;
pub use spec::ModelSpec;
pub use tokenizer::ModelTokenizer;
pub use weights::{PICKLE_JOB, RawTensor, TensorData, TensorPlace, TensorValues, Tensors, pickle_answer};
