//! Qwen2 and Qwen2.5: Llama with biases on q, k and v.

use serde_json::{Map, Value, json};

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, GgufFacts, ModelConfig};
use crate::model::facts::{CandleModel, TokenizerFacts};
use crate::model::fields::Fields;

const ENTRY: FamilyEntry = FamilyEntry {
    name: "qwen2",
    architecture: "Qwen2ForCausalLM",
    description: "Qwen2 and Qwen2.5: Llama with biases on q, k and v",
    read,
    write,
    names: &rotary_gated::NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    // llama.cpp's converter copies config.json's bos_token_id, but the tokenizer has no BOS.
    gguf: Some(GgufFacts {
        architecture: "qwen2",
        interleaved_heads: false,
        has_bos: false,
        has_experts: false,
        complete: |config| config,
    }),
    candle: Some(CandleModel::Qwen2),
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Llama with biases on q, k and v.
    pub const Qwen2: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let defaults = Defaults { context_tokens: 32_768, kv_heads: Some(32), ..Defaults::LLAMA };
    let config = rotary_gated::read(Family::Qwen2, fields, &defaults)?;
    rotary_gated::with_late_window(ModelConfig { qkv_bias: true, ..config }, fields)
}

fn write(config: &ModelConfig, json: &mut Map<String, Value>) {
    rotary_gated::write(config, json);
    let windowed = config.sliding_window.is_some();
    json.insert("use_sliding_window".to_owned(), json!(windowed));
    json.insert("max_window_layers".to_owned(), json!(if windowed { 0 } else { config.layers }));
}
