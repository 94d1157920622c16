//! gpt-oss: experts with biases and a clamped `SwiGLU`, attention sinks, a window in every other layer.

use serde_json::json;

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Activation, Family, FamilyEntry, GgufFacts, ModelConfig, PositionKind, RotaryScaling};
use crate::model::facts::{Names, TokenizerFacts};
use crate::model::features::{Experts, Features, NormPlaces};
use crate::model::fields::Fields;

const NAMES: Names = Names { router: "mlp.router", stacked_experts: true, ..rotary_gated::NAMES };

/// What the gate is multiplied with inside the sigmoid, and where gate and up are cut off.
const ALPHA: f64 = 1.702;
const LIMIT: f64 = 7.0;
/// `sliding_window`.
const WINDOW: usize = 128;

const ENTRY: FamilyEntry = FamilyEntry {
    name: "gpt_oss",
    architecture: "GptOssForCausalLM",
    description: "gpt-oss: experts, attention sinks, a window in every other layer",
    read,
    write: rotary_gated::write,
    names: &NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    gguf: Some(GgufFacts {
        architecture: "gpt-oss",
        interleaved_heads: false,
        has_bos: true,
        has_experts: true,
        complete,
    }),
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Experts, attention sinks, a window in every other layer.
    pub const GptOss: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let mut map = fields.map.clone();
    if !["rope_parameters", "rope_scaling"].iter().any(|key| map.get(*key).is_some_and(serde_json::Value::is_object)) {
        let usual = json!({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
            "original_max_position_embeddings": 4096});
        map.insert("rope_parameters".to_owned(), usual);
    }
    let fields = &Fields { file: fields.file, map: &map };
    let activation = Activation::ClampedSwiglu {
        alpha: fields.positive("swiglu_alpha")?.unwrap_or(ALPHA),
        limit: fields.positive("swiglu_limit")?.unwrap_or(LIMIT),
    };
    let defaults = Defaults {
        context_tokens: 131_072,
        kv_heads: Some(8),
        head_dim: Some(64),
        theta: 150_000.0,
        norm_epsilon: 1e-5,
        activation: ("hidden_act", "silu", activation),
        ..Defaults::LLAMA
    };
    let config = rotary_gated::read(Family::GptOss, fields, &defaults)?;
    let bias = fields.flag("attention_bias")?.unwrap_or(true);
    let experts = Experts {
        count: fields.count("num_local_experts")?.or(fields.count("num_experts")?).unwrap_or(128),
        chosen: fields.count("num_experts_per_tok")?.unwrap_or(4),
        intermediate: config.intermediate,
        // A softmax over the chosen alone is one over all that is made to sum to 1.
        normalised: true,
        shared: None,
        biased: true,
    };
    let features = Features { experts: Some(experts), attention_sinks: true, ..config.features };
    let windowed = rotary_gated::windowed_layers(fields, config.layers, |layer| layer % 2 == 0)?;
    let window = match fields.map.get("sliding_window") {
        Some(serde_json::Value::Null) => None,
        _ => Some(fields.count("sliding_window")?.unwrap_or(WINDOW)),
    };
    let config = ModelConfig { qkv_bias: bias, output_bias: bias, features, ..config };
    Ok(rotary_gated::with_layers(config, window, &windowed, |_| true))
}

/// What no key of a GGUF file says. llama.cpp calls the norm in front of the MLP one behind attention.
fn complete(config: ModelConfig) -> ModelConfig {
    let experts = config.features.experts.map(|experts| Experts { normalised: true, ..experts });
    let features = Features { experts, norms: NormPlaces::Before, attention_sinks: true, ..config.features };
    let position = match config.position {
        PositionKind::Rotary {
            theta,
            scaling: RotaryScaling::Yarn { factor, beta_fast, beta_slow, original_context_tokens, magnitude, .. },
        } => {
            let scaling = RotaryScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_context_tokens,
                truncate: false,
                magnitude,
            };
            PositionKind::Rotary { theta, scaling }
        }
        other => other,
    };
    let activation = Activation::ClampedSwiglu { alpha: ALPHA, limit: LIMIT };
    let windowed: Vec<bool> = (0..config.layers).map(|layer| layer % 2 == 0).collect();
    let window = config.sliding_window.or(Some(WINDOW));
    rotary_gated::with_layers(ModelConfig { activation, position, features, ..config }, window, &windowed, |_| true)
}
