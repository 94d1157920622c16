//! Granite 3: Llama with factors for embeddings, attention, residual stream and logits.

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, ModelConfig};
use crate::model::facts::TokenizerFacts;
use crate::model::features::Features;
use crate::model::fields::Fields;

const ENTRY: FamilyEntry = FamilyEntry {
    name: "granite",
    architecture: "GraniteForCausalLM",
    description: "Granite 3: Llama with factors for embeddings, attention, residual stream and logits",
    read,
    write: rotary_gated::write,
    names: &rotary_gated::NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    gguf: None,
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
