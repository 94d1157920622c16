//! `SmolLM3`: Llama whose every fourth layer knows no positions.

use serde_json::Value;

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, GgufFacts, ModelConfig};
use crate::model::facts::TokenizerFacts;
use crate::model::fields::{Fields, damaged};

const ENTRY: FamilyEntry = FamilyEntry {
    name: "smollm3",
    architecture: "SmolLM3ForCausalLM",
    description: "SmolLM3: Llama whose every fourth layer knows no positions",
    read,
    write: rotary_gated::write,
    names: &rotary_gated::NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    gguf: Some(GgufFacts {
        architecture: "smollm3",
        interleaved_heads: true,
        has_bos: true,
        has_experts: false,
        complete: |config| with_unrotated(config, 4),
    }),
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Llama whose every fourth layer knows no positions.
    pub const SmolLM3: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let defaults =
        Defaults { context_tokens: 32_768, kv_heads: Some(4), theta: 2e6, tied_embeddings: true, ..Defaults::LLAMA };
    let mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    let config = ModelConfig { mlp_bias, ..rotary_gated::read_with_bias(Family::SmolLM3, fields, &defaults)? };
    rotary_gated::check_listed(fields, config.layers)?;
    let interval = fields.count("no_rope_layer_interval")?.unwrap_or(4).max(1);
    let rotated = match fields.list("no_rope_layers", "a list of 0 and 1", Value::as_u64)? {
        Some(listed) if listed.len() == config.layers => listed.into_iter().map(|one| one != 0).collect(),
        Some(listed) => {
            let (count, layers) = (listed.len(), config.layers);
            return Err(damaged(format!("{}: `no_rope_layers` names {count} layers of {layers}", fields.file)));
        }
        None => (1..=config.layers).map(|number| number % interval != 0).collect::<Vec<_>>(),
    };
    let window = fields.count("sliding_window")?;
    let used = fields.flag("use_sliding_window")?.unwrap_or(false) && window.is_some();
    let windowed = rotary_gated::windowed_layers(fields, config.layers, |layer| used && !rotated[layer])?;
    Ok(rotary_gated::with_layers(config, window, &windowed, |layer| rotated[layer]))
}

/// Every so many layers one that knows no positions, and no window, as llama.cpp has it.
fn with_unrotated(config: ModelConfig, interval: usize) -> ModelConfig {
    let windowed = vec![false; config.layers];
    rotary_gated::with_layers(config, None, &windowed, |layer| !(layer + 1).is_multiple_of(interval))
}
