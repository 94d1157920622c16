//! Where a model comes from: the program itself, a folder, a GGUF file, the hub.

use std::sync::Arc;

use super::{ModelConfig, ModelTokenizer, Tensors};
use crate::engine::EngineError;
use crate::hub::Hub;

/// What the user typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// `bundled`, a folder, a .gguf file, or a hub id such as `HuggingFaceTB/SmolLM2-135M-Instruct`.
    pub source: String,
    /// A hub model's revision; `main` by default.
    pub revision: String,
}

/// A model's files, read as far as every precision shares them. Weights stay on disk until an engine asks for them.
pub struct ModelSource {
    /// A short name for tables: the hub id, the folder's or file's name, `bundled`.
    pub name: String,
    /// `bundled`, the absolute path, or the hub address with the commit.
    pub source: String,
    /// Over every file that decides an answer: SHA-256 of the sorted lines `{sha256}  {file name}`.
    pub sha256: String,
    /// What the files' tensors were stored in, for the table: `f32`, `bf16`, `Q4_1`, …
    pub stored_as: String,
    /// Shape of the model.
    pub config: ModelConfig,
    /// Tokenizer.
    pub tokenizer: Arc<ModelTokenizer>,
    /// The weights by Hugging Face names.
    pub tensors: Box<dyn Tensors>,
}

impl ModelSource {
    /// Finds, checks and opens a model. Nothing large is read but for the hashes.
    pub fn open(spec: &ModelSpec, hub: &Hub) -> Result<Self, EngineError> {
        let _ = (spec, hub);
        todo!()
    }
}
