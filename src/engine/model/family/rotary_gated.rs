//! What Llama and its descendants share: RMS norms, rotary positions, a gated MLP, and the names of their tensors.

use serde_json::{Map, Value, json};

use crate::EngineError;
use crate::fault::Fault;
use crate::model::config::{Activation, Family, ModelConfig, NormKind, PositionKind, RotaryScaling};
use crate::model::facts::Names;
use crate::model::fields::{Fields, damaged, unsupported};

/// The tensors of a checkpoint.
pub(super) const NAMES: Names = Names {
    prefix: "model.",
    embedding: "embed_tokens",
    positions: None,
    final_norm: "norm",
    attention_norm: "input_layernorm",
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    output: "self_attn.o_proj",
    mlp_norm: "post_attention_layernorm",
    up: &["mlp.gate_proj", "mlp.up_proj"],
    down: "mlp.down_proj",
};

/// transformers' values where `config.json` has none.
pub(super) struct Defaults {
    /// `max_position_embeddings`.
    pub(super) context_tokens: usize,
    /// `num_key_value_heads`; as many as heads where it is `None`.
    pub(super) kv_heads: Option<usize>,
}

/// The configuration without biases and without a sliding window, which differ from family to family.
pub(super) fn read(family: Family, fields: &Fields, defaults: &Defaults) -> Result<ModelConfig, EngineError> {
    let hidden = fields.required("hidden_size")?;
    let heads = fields.required("num_attention_heads")?;
    let layers = fields.required("num_hidden_layers")?;
    // transformers reads `null` as "as many as heads" and only an absent key as the family's default.
    let kv_heads = match fields.map.get("num_key_value_heads") {
        Some(Value::Null) => heads,
        _ => fields.count("num_key_value_heads")?.or(defaults.kv_heads).unwrap_or(heads),
    };
    fields.only("hidden_act", "silu")?;
    if fields.number("partial_rotary_factor")?.is_some_and(|factor| (factor - 1.0).abs() > 0.0) {
        return Err(unsupported(fields, "partial_rotary_factor", "rotary embedding of a part of each head"));
    }
    Ok(ModelConfig {
        family,
        vocabulary: fields.required("vocab_size")?,
        hidden,
        intermediate: fields.required("intermediate_size")?,
        layers,
        heads,
        kv_heads,
        head_dim: match fields.count("head_dim")? {
            Some(width) => width,
            None => divide_heads(hidden, heads, fields.file)?,
        },
        context_tokens: fields.count("max_position_embeddings")?.unwrap_or(defaults.context_tokens),
        norm: NormKind::Rms,
        norm_epsilon: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        activation: Activation::SiluGated,
        position: rotary(fields)?,
        sliding_window: None,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
    })
}

/// The keys of `config.json` that [`read`] reads, rotary positions left out, and those of biases and window.
pub(super) fn write(config: &ModelConfig, json: &mut Map<String, Value>) {
    let keys = [
        ("intermediate_size", json!(config.intermediate)),
        ("num_key_value_heads", json!(config.kv_heads)),
        ("head_dim", json!(config.head_dim)),
        ("hidden_act", json!("silu")),
        ("rms_norm_eps", json!(config.norm_epsilon)),
        ("attention_bias", json!(config.qkv_bias)),
        ("mlp_bias", json!(config.mlp_bias)),
        ("sliding_window", json!(config.sliding_window)),
    ];
    json.extend(keys.map(|(key, value)| (key.to_owned(), value)));
}

/// `sliding_window`, for families that have one: an absent key means transformers' default of 4096, `null` means none.
pub(super) fn sliding_window(fields: &Fields) -> Result<Option<usize>, EngineError> {
    match fields.map.get("sliding_window") {
        Some(Value::Null) => Ok(None),
        _ => Ok(Some(fields.count("sliding_window")?.unwrap_or(4096))),
    }
}

/// The width of a head where a file leaves it to be computed.
pub(in crate::model) fn divide_heads(hidden: usize, heads: usize, file: &str) -> Result<usize, EngineError> {
    match hidden.checked_rem(heads) {
        Some(0) => Ok(hidden / heads),
        _ => Err(damaged(format!("{file}: a width of {hidden} cannot be split into {heads} heads evenly"))),
    }
}

/// `rope_theta` and `rope_scaling`, or both inside the newer `rope_parameters`.
fn rotary(fields: &Fields) -> Result<PositionKind, EngineError> {
    let newer = fields.section("rope_parameters")?;
    let scaling = match &newer {
        Some(section) => Some(section.clone()),
        None => fields.section("rope_scaling")?,
    };
    let theta = match newer.as_ref().map(|section| section.number("rope_theta")).transpose()?.flatten() {
        Some(theta) => theta,
        None => fields.number("rope_theta")?.unwrap_or(10_000.0),
    };
    if !theta.is_finite() || theta <= 0.0 {
        return Err(damaged(format!("{}: `rope_theta` is {theta}, not above 0", fields.file)));
    }
    Ok(PositionKind::Rotary { theta, scaling: scaling.map_or(Ok(RotaryScaling::None), |s| rotary_scaling(&s))? })
}

fn rotary_scaling(section: &Fields) -> Result<RotaryScaling, EngineError> {
    let kind = match section.text("rope_type")? {
        Some(kind) => kind,
        None => section.text("type")?.unwrap_or("default"),
    };
    match kind {
        "default" => Ok(RotaryScaling::None),
        "linear" => Ok(RotaryScaling::Linear { factor: section.required_number("factor")? }),
        "llama3" => Ok(RotaryScaling::Llama3 {
            factor: section.required_number("factor")?,
            low_frequency_factor: section.required_number("low_freq_factor")?,
            high_frequency_factor: section.required_number("high_freq_factor")?,
            original_context_tokens: section.required("original_max_position_embeddings")?,
        }),
        other => {
            let Fault { what, hint } = Fault::unknown("rotary scaling", other, &["default", "linear", "llama3"]);
            Err(EngineError::invalid(format!("{}: {what}", section.file), hint))
        }
    }
}
