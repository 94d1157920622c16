//! A model's tokenizer with what surrounds it: chat template, special tokens, ends of sequence.

use std::collections::BTreeSet;

use tokenizers::Tokenizer;

/// The tokenizer and the facts that config, generation config and tokenizer config hold about it.
#[derive(Debug)]
pub struct ModelTokenizer {
    /// The tokenizer proper.
    pub tokenizer: Tokenizer,
    /// Jinja source, where the model has one.
    pub chat_template: Option<String>,
    /// Text of the BOS token, where there is one.
    pub bos_token: Option<String>,
    /// Id of the BOS token.
    pub bos_id: Option<u32>,
    /// Text of the EOS token, where there is one.
    pub eos_token: Option<String>,
    /// Every end of sequence that config, generation config and tokenizer config name together.
    pub eos_ids: BTreeSet<u32>,
    /// SHA-256 of the tokenizer's file.
    pub sha256: String,
}

impl ModelTokenizer {
    /// Token ids of a text, with the model's own special tokens in front (BOS) if asked for.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, crate::engine::EngineError> {
        let _ = (text, add_special_tokens);
        todo!()
    }

    /// The text of token ids, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String, crate::engine::EngineError> {
        let _ = ids;
        todo!()
    }
}
