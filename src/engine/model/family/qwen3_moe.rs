//! Qwen3-MoE: Qwen3 with experts.

use super::qwen2_moe;
use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, GgufFacts, ModelConfig};
use crate::model::facts::TokenizerFacts;
use crate::model::features::{Experts, Features, QueryKeyNorm};
use crate::model::fields::Fields;

const ENTRY: FamilyEntry = FamilyEntry {
    name: "qwen3_moe",
    architecture: "Qwen3MoeForCausalLM",
    description: "Qwen3-MoE: Qwen3 with experts",
    read,
    write: rotary_gated::write,
    names: &rotary_gated::NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    gguf: Some(GgufFacts {
        architecture: "qwen3moe",
        interleaved_heads: false,
        has_bos: false,
        has_experts: true,
        complete: normalised,
    }),
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Qwen3 with experts.
    pub const Qwen3Moe: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let defaults = Defaults { context_tokens: 32_768, kv_heads: Some(4), ..Defaults::LLAMA };
    let config = rotary_gated::read_with_bias(Family::Qwen3Moe, fields, &defaults)?;
    let features = Features { query_key_norm: Some(QueryKeyNorm::Head), ..config.features };
    let used = fields.flag("use_sliding_window")?.unwrap_or(false);
    let sliding_window = rotary_gated::sliding_window(fields)?.filter(|_| used);
    let config = ModelConfig { sliding_window, features, ..config };
    qwen2_moe::with_experts(config, fields, qwen2_moe::experts(fields, (128, 8, 768))?)
}

/// The weights of the chosen experts are made to sum to 1, as llama.cpp does for the family.
fn normalised(config: ModelConfig) -> ModelConfig {
    let experts = config.features.experts.map(|experts| Experts { normalised: true, ..experts });
    ModelConfig { features: Features { experts, ..config.features }, ..config }
}
