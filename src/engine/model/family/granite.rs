//! Granite 3: Llama with factors for embeddings, attention, residual stream and logits.

use serde_json::{Map, Value, json};

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, GgufFacts, ModelConfig};
use crate::model::facts::TokenizerFacts;
use crate::model::features::Features;
use crate::model::fields::Fields;

const ENTRY: FamilyEntry = FamilyEntry {
    name: "granite",
    architecture: "GraniteForCausalLM",
    description: "Granite 3: Llama with factors for embeddings, attention, residual stream and logits",
    read,
    write,
    names: &rotary_gated::NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    gguf: Some(GgufFacts {
        architecture: "granite",
        interleaved_heads: true,
        has_bos: true,
        has_experts: false,
        complete: |config| config,
    }),
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Llama with factors for embeddings, attention, residual stream and logits.
    pub const Granite: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    let config = rotary_gated::read_with_bias(Family::Granite, fields, &Defaults::LLAMA)?;
    let features = Features {
        attention_scale: Some(fields.positive("attention_multiplier")?.unwrap_or(1.0)),
        embedding_scale: rotary_gated::factor(fields, "embedding_multiplier")?,
        residual_scale: rotary_gated::factor(fields, "residual_multiplier")?,
        logits_divisor: rotary_gated::factor(fields, "logits_scaling")?,
        ..config.features
    };
    Ok(ModelConfig { mlp_bias, features, ..config })
}

fn write(config: &ModelConfig, json: &mut Map<String, Value>) {
    rotary_gated::write(config, json);
    let features = &config.features;
    let factors = [
        ("attention_multiplier", features.attention_scale),
        ("embedding_multiplier", features.embedding_scale),
        ("residual_multiplier", features.residual_scale),
        ("logits_scaling", features.logits_divisor),
    ];
    json.extend(factors.map(|(key, factor)| (key.to_owned(), json!(factor.unwrap_or(1.0)))));
}
