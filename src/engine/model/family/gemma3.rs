//! Gemma 3, its language model: five layers with a window to one without, each kind rotated from a base of its own.

use serde_json::{Value, json};

use super::rotary_gated;
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, GgufFacts, ModelConfig};
use crate::model::facts::TokenizerFacts;
use crate::model::features::{Features, QueryKeyNorm};
use crate::model::fields::{Fields, unsupported};

const ENTRY: FamilyEntry = FamilyEntry {
    name: "gemma3_text",
    architecture: "Gemma3ForCausalLM",
    description: "Gemma 3: four norms a block, norms of queries and keys, five layers with a window to one without",
    read,
    write: rotary_gated::write,
    names: &super::gemma2::NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    gguf: Some(GgufFacts {
        architecture: "gemma3",
        interleaved_heads: false,
        has_bos: true,
        has_experts: false,
        complete,
    }),
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Four norms a block, norms of queries and keys, five layers with a window to one without.
    pub const Gemma3: Self = Self::new(&ENTRY);
}

/// transformers' values, which files with a vision model leave out.
const DEFAULTS: [(&str, usize); 5] = [
    ("vocab_size", 262_208),
    ("hidden_size", 2304),
    ("intermediate_size", 9216),
    ("num_hidden_layers", 26),
    ("num_attention_heads", 8),
];

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let mut map = fields.map.clone();
    for (key, value) in DEFAULTS {
        map.entry(key).or_insert_with(|| json!(value));
    }
    // Each kind of layer has a section of its own; transformers 4 had one section, and the other base beside it.
    let newer = fields.section("rope_parameters")?;
    let of_kind = |kind: &str| newer.as_ref().map(|newer| newer.section(kind)).transpose().map(Option::flatten);
    let mut windowed_theta = fields.positive("rope_local_base_freq")?;
    if let Some(windowed) = of_kind("sliding_attention")? {
        if windowed.text("rope_type")?.is_some_and(|kind| kind != "default") {
            return Err(unsupported(fields, "rope_parameters", "stretched positions in windowed layers"));
        }
        windowed_theta = windowed.positive("rope_theta")?.or(windowed_theta);
    }
    if let Some(full) = of_kind("full_attention")? {
        map.insert("rope_parameters".to_owned(), Value::Object(full.map.clone()));
    }
    let fields = &Fields { file: fields.file, map: &map };

    let config = super::gemma2::shared(Family::Gemma3, fields, 131_072, 1e6)?;
    let features = Features {
        query_key_norm: Some(QueryKeyNorm::Head),
        attention_cap: fields.positive("attn_logit_softcapping")?,
        logits_cap: fields.positive("final_logit_softcapping")?,
        windowed_theta: Some(windowed_theta.unwrap_or(10_000.0)),
        ..config.features
    };
    let pattern = fields.count("sliding_window_pattern")?.unwrap_or(6).max(1);
    let windowed = rotary_gated::windowed_layers(fields, config.layers, |layer| (layer + 1) % pattern != 0)?;
    let window = rotary_gated::sliding_window(fields)?;
    Ok(rotary_gated::with_layers(ModelConfig { features, ..config }, window, &windowed, |_| true))
}

fn complete(config: ModelConfig) -> ModelConfig {
    let scalar = super::gemma2::scalar_of(&config, 62);
    let config = super::gemma2::with_shared(config, scalar);
    let features = Features { windowed_theta: config.features.windowed_theta.or(Some(10_000.0)), ..config.features };
    let windowed: Vec<bool> = (1..=config.layers).map(|number| number % 6 != 0).collect();
    let window = config.sliding_window;
    rotary_gated::with_layers(ModelConfig { features, ..config }, window, &windowed, |_| true)
}
