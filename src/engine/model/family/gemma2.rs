//! Gemma 2: four norms a block, around zero, soft caps, and a window in every other layer.

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Activation, Family, FamilyEntry, GgufFacts, ModelConfig};
use crate::model::facts::{Names, TokenizerFacts};
use crate::model::features::{Features, NormPlaces};
use crate::model::fields::{Fields, unsupported};

/// The tensors of Gemma 2 and 3.
pub(super) const NAMES: Names = Names {
    attention_after: "post_attention_layernorm",
    mlp_norm: "pre_feedforward_layernorm",
    mlp_after: "post_feedforward_layernorm",
    ..rotary_gated::NAMES
};

const ENTRY: FamilyEntry = FamilyEntry {
    name: "gemma2",
    architecture: "Gemma2ForCausalLM",
    description: "Gemma 2: four norms a block, soft caps, and a window in every other layer",
    read,
    write: rotary_gated::write,
    names: &NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    gguf: Some(GgufFacts {
        architecture: "gemma2",
        interleaved_heads: false,
        has_bos: true,
        has_experts: false,
        complete,
    }),
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Four norms a block, soft caps, and a window in every other layer.
    pub const Gemma2: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let config = shared(Family::Gemma2, fields, 8192, 10_000.0)?;
    let cap = |key: &str, default| match fields.map.get(key) {
        None => Ok(Some(default)),
        Some(_) => fields.positive(key),
    };
    let features = Features {
        attention_cap: cap("attn_logit_softcapping", 50.0)?,
        logits_cap: cap("final_logit_softcapping", 30.0)?,
        ..config.features
    };
    let windowed = rotary_gated::windowed_layers(fields, config.layers, |layer| layer % 2 == 0)?;
    let window = rotary_gated::sliding_window(fields)?;
    Ok(rotary_gated::with_layers(ModelConfig { features, ..config }, window, &windowed, |_| true))
}

/// What Gemma 2 and 3 share.
pub(super) fn shared(
    family: Family,
    fields: &Fields,
    context_tokens: usize,
    theta: f64,
) -> Result<ModelConfig, EngineError> {
    if fields.flag("use_bidirectional_attention")?.unwrap_or(false) {
        return Err(unsupported(fields, "use_bidirectional_attention", "attention to later tokens"));
    }
    let defaults = Defaults {
        context_tokens,
        kv_heads: Some(4),
        head_dim: Some(256),
        theta,
        tied_embeddings: true,
        activation: ("hidden_activation", "gelu_pytorch_tanh", Activation::GeluTanhGated),
        ..Defaults::LLAMA
    };
    let config = rotary_gated::read_with_bias(family, fields, &defaults)?;
    let scalar = fields.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    Ok(with_shared(config, scalar))
}

/// What no key says of Gemma 2 and 3; attention divides by the root of `scalar`.
pub(super) fn with_shared(config: ModelConfig, scalar: f64) -> ModelConfig {
    let features = Features {
        norms: NormPlaces::Both,
        zero_centred_norms: true,
        attention_scale: Some(1.0 / scalar.sqrt()),
        embedding_scale: Some((config.hidden as f64).sqrt()),
        ..config.features
    };
    ModelConfig { features, activation: Activation::GeluTanhGated, ..config }
}

/// The divisor of attention, squared, as llama.cpp has it: the width of a head, but for the largest model of each generation.
pub(super) fn scalar_of(config: &ModelConfig, largest_layers: usize) -> f64 {
    let largest = config.layers == largest_layers;
    if largest { config.hidden as f64 / config.heads as f64 } else { config.head_dim as f64 }
}

fn complete(config: ModelConfig) -> ModelConfig {
    let scalar = scalar_of(&config, 46);
    let config = with_shared(config, scalar);
    let features = Features {
        attention_cap: config.features.attention_cap.or(Some(50.0)),
        logits_cap: config.features.logits_cap.or(Some(30.0)),
        ..config.features
    };
    let windowed: Vec<bool> = (0..config.layers).map(|layer| layer % 2 == 0).collect();
    let window = config.sliding_window.or(Some(4096));
    rotary_gated::with_layers(ModelConfig { features, ..config }, window, &windowed, |_| true)
}
