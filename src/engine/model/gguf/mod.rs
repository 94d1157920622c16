//! GGUF: one file that holds a model's weights, configuration, tokenizer and chat template.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. The header is read here rather than by
//! candle's reader, which divides by an alignment of 0 and cannot name the tensor whose type it does not know; blocks
//! are dequantised by candle.

mod config;
mod header;
mod sentencepiece;
mod tokenizer;

pub(super) use config::model_config;
pub(super) use header::{GgufTensor, Header, type_name};
pub(super) use tokenizer::model_tokenizer;
