//! GGUF: one file that holds a model's weights, configuration, tokenizer and chat template.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. The header is read here rather than by
//! candle's reader, which divides by an alignment of 0 and cannot name the tensor whose type it does not know; blocks
//! are dequantised by candle.

mod blocks;
mod config;
mod file_type;
mod header;
mod sentencepiece;
mod split;
mod tokenizer;

pub(super) use blocks::BlockType;
pub(super) use config::model_config;
pub(super) use file_type::file_type;
pub(super) use header::{GgufTensor, Header};
pub(super) use split::{OpenedGguf, open, split_names};
pub(super) use tokenizer::model_tokenizer;
