//! Phi-3 and Phi-4: Llama with fused projections, and `LongRoPE` in the long-context models.

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, ModelConfig};
use crate::model::facts::{FusedTensor, TokenizerFacts};
use crate::model::fields::Fields;

const ENTRY: FamilyEntry = FamilyEntry {
    name: "phi3",
    architecture: "Phi3ForCausalLM",
    description: "Phi-3 and Phi-4: Llama with fused projections and LongRoPE",
    read,
    write: rotary_gated::write,
    names: &rotary_gated::NAMES,
    fused,
    tokenizer: TokenizerFacts::USUAL,
    gguf: None,
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Llama with fused projections and `LongRoPE`.
    pub const Phi3: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let defaults = Defaults { context_tokens: 4096, norm_epsilon: 1e-5, rotated_part: Some(1.0), ..Defaults::LLAMA };
    let config = rotary_gated::read(Family::Phi3, fields, &defaults)?;
    Ok(ModelConfig { sliding_window: fields.count("sliding_window")?, ..config })
}

fn fused(config: &ModelConfig) -> Vec<FusedTensor> {
    let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let [q, k, v] = rotary_gated::NAMES.qkv;
    let up: Vec<_> = rotary_gated::NAMES.up.iter().map(|name| (*name, config.intermediate)).collect();
    vec![
        FusedTensor::stacked("self_attn.qkv_proj", &[(q, query), (k, key), (v, key)]),
        FusedTensor::stacked("mlp.gate_up_proj", &up),
    ]
}
