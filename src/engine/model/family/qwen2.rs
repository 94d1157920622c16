//! Qwen2 and Qwen2.5: Llama with biases on q, k and v.

use serde_json::{Map, Value, json};

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, ModelConfig};
use crate::model::facts::{CandleModel, GgufFacts, TokenizerFacts};
use crate::model::fields::{Fields, unsupported};

const ENTRY: FamilyEntry = FamilyEntry {
    name: "qwen2",
    architecture: "Qwen2ForCausalLM",
    description: "Qwen2 and Qwen2.5: Llama with biases on q, k and v",
    read,
    write,
    names: &rotary_gated::NAMES,
    tokenizer: TokenizerFacts::USUAL,
    // llama.cpp's converter copies config.json's bos_token_id, but the tokenizer has no BOS.
    gguf: Some(GgufFacts { architecture: "qwen2", interleaved_heads: false, has_bos: false }),
    candle: Some(CandleModel::Qwen2),
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Llama with biases on q, k and v.
    pub const Qwen2: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let defaults = Defaults { context_tokens: 32_768, kv_heads: Some(32) };
    let config = rotary_gated::read(Family::Qwen2, fields, &defaults)?;
    Ok(ModelConfig { sliding_window: sliding_window(config.layers, fields)?, qkv_bias: true, ..config })
}

/// A window in all layers or in none; `max_window_layers` is the first that has it.
fn sliding_window(layers: usize, fields: &Fields) -> Result<Option<usize>, EngineError> {
    let window = rotary_gated::sliding_window(fields)?;
    if !fields.flag("use_sliding_window")?.unwrap_or(false) {
        return Ok(None);
    }
    match fields.count("max_window_layers")?.unwrap_or(28) {
        0 => Ok(window),
        first if first >= layers => Ok(None),
        _ => Err(unsupported(fields, "max_window_layers", "a sliding window in some layers only")),
    }
}

fn write(config: &ModelConfig, json: &mut Map<String, Value>) {
    rotary_gated::write(config, json);
    let windowed = config.sliding_window.is_some();
    json.insert("use_sliding_window".to_owned(), json!(windowed));
    json.insert("max_window_layers".to_owned(), json!(if windowed { 0 } else { config.layers }));
}
