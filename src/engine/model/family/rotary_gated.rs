//! What Llama and its descendants share: RMS norms, rotary positions, a gated MLP, and the names of their tensors.

use serde_json::{Map, Value, json};

use super::rotation::Rotation;
use crate::EngineError;
use crate::model::config::{Activation, Family, ModelConfig, NormKind};
use crate::model::facts::Names;
use crate::model::features::{Features, LayerKind};
use crate::model::fields::{Fields, damaged, unsupported};

/// The tensors of a checkpoint.
pub(super) const NAMES: Names = Names {
    prefix: "model.",
    head: "lm_head",
    blocks: "layers",
    embedding: "embed_tokens",
    positions: None,
    final_norm: "norm",
    attention_norm: "input_layernorm",
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    query_key_norms: ["self_attn.q_norm", "self_attn.k_norm"],
    output: "self_attn.o_proj",
    attention_after: "",
    mlp_norm: "post_attention_layernorm",
    up: &["mlp.gate_proj", "mlp.up_proj"],
    down: "mlp.down_proj",
    mlp_after: "",
    router: "mlp.gate",
    stacked_experts: false,
};

/// transformers' values where `config.json` has none.
pub(super) struct Defaults {
    /// `max_position_embeddings`.
    pub(super) context_tokens: usize,
    /// `num_key_value_heads`; as many as heads where it is `None`.
    pub(super) kv_heads: Option<usize>,
    /// `head_dim`; the width split into the heads where it is `None`.
    pub(super) head_dim: Option<usize>,
    /// `rope_theta`.
    pub(super) theta: f64,
    /// `partial_rotary_factor`, in families that have one.
    pub(super) rotated_part: Option<f64>,
    /// `rms_norm_eps`.
    pub(super) norm_epsilon: f64,
    /// `tie_word_embeddings`.
    pub(super) tied_embeddings: bool,
    /// The key of the activation, the only value that is supported, and what it means.
    pub(super) activation: (&'static str, &'static str, Activation),
}

impl Defaults {
    /// Those of Llama.
    pub(super) const LLAMA: Self = Self {
        context_tokens: 2048,
        kv_heads: None,
        head_dim: None,
        theta: 10_000.0,
        rotated_part: None,
        norm_epsilon: 1e-6,
        tied_embeddings: false,
        activation: ("hidden_act", "silu", Activation::SiluGated),
    };
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
    let (key, supported, activation) = defaults.activation;
    fields.only(key, supported)?;
    let head_dim = match fields.count("head_dim")?.or(defaults.head_dim) {
        Some(width) => width,
        None => divide_heads(hidden, heads, fields.file)?,
    };
    let context_tokens = fields.count("max_position_embeddings")?.unwrap_or(defaults.context_tokens);
    let rotation = Rotation::read(fields, (defaults.theta, defaults.rotated_part), head_dim, context_tokens)?;
    Ok(ModelConfig {
        family,
        vocabulary: fields.required("vocab_size")?,
        hidden,
        intermediate: fields.required("intermediate_size")?,
        layers,
        heads,
        kv_heads,
        head_dim,
        context_tokens: rotation.context_tokens,
        norm: NormKind::Rms,
        norm_epsilon: fields.number("rms_norm_eps")?.unwrap_or(defaults.norm_epsilon),
        activation,
        position: rotation.position,
        sliding_window: None,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(defaults.tied_embeddings),
        features: Features {
            rotated_elements: rotation.rotated_elements,
            rotary_divisors: rotation.divisors,
            ..Features::default()
        },
    })
}

/// The same with biases on all four projections of attention where `attention_bias` says so.
pub(super) fn read_with_bias(family: Family, fields: &Fields, defaults: &Defaults) -> Result<ModelConfig, EngineError> {
    let bias = fields.flag("attention_bias")?.unwrap_or(false);
    Ok(ModelConfig { qkv_bias: bias, output_bias: bias, ..read(family, fields, defaults)? })
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

/// A factor that a file names, where it is not 1.
pub(super) fn factor(fields: &Fields, key: &str) -> Result<Option<f64>, EngineError> {
    Ok(fields.positive(key)?.filter(|value| value.to_bits() != 1.0_f64.to_bits()))
}

/// The most layers that are listed one by one: a damaged count must not take the memory.
const MOST_LISTED: usize = 1 << 16;

/// Refuses to list so many layers.
pub(super) fn check_listed(fields: &Fields, layers: usize) -> Result<(), EngineError> {
    if layers <= MOST_LISTED {
        return Ok(());
    }
    Err(damaged(format!("{}: `num_hidden_layers` is {layers}, more than {MOST_LISTED}", fields.file)))
}

/// A list of layers' kinds; none where they are all alike.
pub(super) fn listed(kinds: Vec<LayerKind>) -> Vec<LayerKind> {
    if kinds.iter().all(|kind| *kind == LayerKind::USUAL) { Vec::new() } else { kinds }
}

/// Which layers have the sliding window: what `layer_types` says, else what `usual` says of each.
pub(super) fn windowed_layers(
    fields: &Fields,
    layers: usize,
    usual: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, EngineError> {
    check_listed(fields, layers)?;
    let Some(types) = fields.list("layer_types", "a list of kinds of attention", Value::as_str)? else {
        return Ok((0..layers).map(usual).collect());
    };
    if types.len() != layers {
        let count = types.len();
        return Err(damaged(format!("{}: `layer_types` names {count} layers of {layers}", fields.file)));
    }
    let windowed = |kind: &str| match kind {
        "sliding_attention" => Ok(true),
        "full_attention" => Ok(false),
        other => Err(unsupported(fields, "layer_types", &format!("`{other}`"))),
    };
    types.into_iter().map(windowed).collect()
}

/// The configuration with this window in some of its layers and positions in some of them; layers that are all alike need no list.
pub(super) fn with_layers(
    config: ModelConfig,
    window: Option<usize>,
    windowed: &[bool],
    rotated: impl Fn(usize) -> bool,
) -> ModelConfig {
    let window = window.filter(|_| windowed.contains(&true));
    let kind = |(layer, windowed): (usize, &bool)| LayerKind {
        windowed: *windowed || window.is_none(),
        rotated: rotated(layer),
        dense: false,
    };
    let layers = listed(windowed.iter().enumerate().map(kind).collect());
    // Without a window no layer has the windowed ones' base.
    let windowed_theta = config.features.windowed_theta.filter(|_| window.is_some());
    let features = Features { windowed_theta, layers, ..config.features };
    ModelConfig { sliding_window: window, features, ..config }
}

/// Qwen's: `use_sliding_window` from the layer `max_window_layers` on.
pub(super) fn with_late_window(config: ModelConfig, fields: &Fields) -> Result<ModelConfig, EngineError> {
    let window = sliding_window(fields)?;
    let used = fields.flag("use_sliding_window")?.unwrap_or(false);
    let first = fields.count("max_window_layers")?.unwrap_or(28);
    if !used && !fields.map.contains_key("layer_types") {
        return Ok(ModelConfig { sliding_window: None, ..config });
    }
    let windowed = windowed_layers(fields, config.layers, |layer| layer >= first)?;
    Ok(with_layers(config, window.filter(|_| used), &windowed, |_| true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_window_no_layer_has_the_windowed_ones_base() {
        let config = ModelConfig::example(Family::Gemma3).unwrap();
        let features = Features { windowed_theta: Some(1e4), ..Features::default() };
        let config = ModelConfig { features, ..config };
        let base = |window, windowed| with_layers(config.clone(), window, windowed, |_| true).features.windowed_theta;
        assert_eq!(base(Some(16), &[true, false]), Some(1e4));
        assert_eq!(base(Some(16), &[false, false]), None);
        assert_eq!(base(None, &[true, false]), None);
    }
}
