//! Qwen3: Llama with norms of each head's queries and keys.

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, GgufFacts, ModelConfig};
use crate::model::facts::TokenizerFacts;
use crate::model::features::{Features, QueryKeyNorm};
use crate::model::fields::Fields;

const ENTRY: FamilyEntry = FamilyEntry {
    name: "qwen3",
    architecture: "Qwen3ForCausalLM",
    description: "Qwen3: Llama with norms of each head's queries and keys",
    read,
    write: rotary_gated::write,
    names: &rotary_gated::NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    gguf: Some(GgufFacts {
        architecture: "qwen3",
        interleaved_heads: false,
        has_bos: false,
        has_experts: false,
        complete: |config| config,
    }),
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Llama with norms of each head's queries and keys.
    pub const Qwen3: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let defaults = Defaults { context_tokens: 32_768, kv_heads: Some(32), head_dim: Some(128), ..Defaults::LLAMA };
    let config = rotary_gated::read_with_bias(Family::Qwen3, fields, &defaults)?;
    let features = Features { query_key_norm: Some(QueryKeyNorm::Head), ..config.features };
    rotary_gated::with_late_window(ModelConfig { features, ..config }, fields)
}
