//! Qwen1.5-MoE and Qwen2-MoE: Qwen2 with experts beside a shared MLP.

use serde_json::Value;

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, GgufFacts, ModelConfig};
use crate::model::facts::TokenizerFacts;
use crate::model::features::{Experts, Features, LayerKind};
use crate::model::fields::Fields;

const ENTRY: FamilyEntry = FamilyEntry {
    name: "qwen2_moe",
    architecture: "Qwen2MoeForCausalLM",
    description: "Qwen1.5-MoE and Qwen2-MoE: Qwen2 with experts beside a shared MLP",
    read,
    write: rotary_gated::write,
    names: &rotary_gated::NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    // llama.cpp leaves the weights of the chosen as they are, whatever `norm_topk_prob` says.
    gguf: Some(GgufFacts {
        architecture: "qwen2moe",
        interleaved_heads: false,
        has_bos: false,
        has_experts: true,
        complete: |config| config,
    }),
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Qwen2 with experts beside a shared MLP.
    pub const Qwen2Moe: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let defaults = Defaults { context_tokens: 32_768, kv_heads: Some(16), ..Defaults::LLAMA };
    let config = rotary_gated::read(Family::Qwen2Moe, fields, &defaults)?;
    let qkv_bias = fields.flag("qkv_bias")?.unwrap_or(true);
    let config = rotary_gated::with_late_window(ModelConfig { qkv_bias, ..config }, fields)?;
    let experts = experts(fields, (60, 4, 1408))?;
    let shared = fields.count("shared_expert_intermediate_size")?.unwrap_or(5632);
    with_experts(config, fields, Experts { shared: Some(shared), ..experts })
}

/// What a file says of experts; else how many there are, how many are chosen, and how wide they are.
pub(super) fn experts(
    fields: &Fields,
    (count, chosen, intermediate): (usize, usize, usize),
) -> Result<Experts, EngineError> {
    let named = match fields.count("num_experts")? {
        Some(count) => Some(count),
        None => fields.count("num_local_experts")?,
    };
    Ok(Experts {
        count: named.unwrap_or(count),
        chosen: fields.count("num_experts_per_tok")?.unwrap_or(chosen),
        intermediate: fields.count("moe_intermediate_size")?.unwrap_or(intermediate),
        normalised: fields.flag("norm_topk_prob")?.unwrap_or(false),
        shared: None,
        biased: false,
    })
}

/// The configuration with these experts in all layers but those of `mlp_only_layers`, and every `decoder_sparse_step`th.
pub(super) fn with_experts(config: ModelConfig, fields: &Fields, experts: Experts) -> Result<ModelConfig, EngineError> {
    rotary_gated::check_listed(fields, config.layers)?;
    let only = fields.list("mlp_only_layers", "a list of layers", Value::as_u64)?.unwrap_or_default();
    let step = fields.count("decoder_sparse_step")?.unwrap_or(1).max(1);
    let dense = |layer: usize| only.contains(&(layer as u64)) || !(layer + 1).is_multiple_of(step);
    let kinds = (0..config.layers).map(|layer| LayerKind { dense: dense(layer), ..config.layer_kind(layer) });
    let layers = rotary_gated::listed(kinds.collect());
    let features = Features { layers, experts: Some(experts), ..config.features };
    Ok(ModelConfig { features, ..config })
}
