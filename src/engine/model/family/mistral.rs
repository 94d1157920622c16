//! Mistral: Llama with a sliding window.

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, ModelConfig};
use crate::model::facts::{CandleModel, TokenizerFacts};
use crate::model::fields::Fields;

const ENTRY: FamilyEntry = FamilyEntry {
    name: "mistral",
    architecture: "MistralForCausalLM",
    description: "Mistral: Llama with a sliding window",
    read,
    write: rotary_gated::write,
    names: &rotary_gated::NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    // llama.cpp converts it as `llama`.
    gguf: None,
    candle: Some(CandleModel::Mistral),
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Llama with a sliding window.
    pub const Mistral: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let defaults = Defaults { context_tokens: 4096 * 32, kv_heads: Some(8), ..Defaults::LLAMA };
    let config = rotary_gated::read(Family::Mistral, fields, &defaults)?;
    Ok(ModelConfig { sliding_window: rotary_gated::sliding_window(fields)?, ..config })
}
