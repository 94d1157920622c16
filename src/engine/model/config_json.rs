//! A Hugging Face `config.json` becomes a [`ModelConfig`], with transformers' own defaults where a key is absent.

use serde_json::{Map, Value};

use super::{Activation, Family, ModelConfig, NormKind, PositionKind, RotaryScaling};
use crate::engine::EngineError;
use crate::text;

/// `model_type` of every family that is read.
const FAMILIES: [(&str, Family); 4] =
    [("llama", Family::Llama), ("mistral", Family::Mistral), ("qwen2", Family::Qwen2), ("opt", Family::Opt)];

/// No dimension of a model comes near this; a larger number is a damaged file.
const LARGEST_COUNT: u64 = 1 << 31;

/// Reads a parsed `config.json`; `file` names it in messages.
pub(super) fn parse(json: &Value, file: &str) -> Result<ModelConfig, EngineError> {
    let fields = Fields::new(json, file)?;
    let family = family(&fields)?;
    let config = match family {
        Family::Opt => opt(&fields)?,
        Family::Llama | Family::Mistral | Family::Qwen2 => rotary_family(family, &fields)?,
    };
    check(&config, file)?;
    Ok(config)
}

/// Relations between dimensions that hold in every family, wherever the numbers came from.
pub(super) fn check(config: &ModelConfig, file: &str) -> Result<(), EngineError> {
    let counts = [
        ("vocabulary", config.vocabulary),
        ("hidden size", config.hidden),
        ("intermediate size", config.intermediate),
        ("number of layers", config.layers),
        ("number of heads", config.heads),
        ("number of key-value heads", config.kv_heads),
        ("head dimension", config.head_dim),
        ("context", config.context_tokens),
    ];
    if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
        return Err(damaged(format!("{file}: the {name} is 0")));
    }
    if !config.heads.is_multiple_of(config.kv_heads) {
        return Err(damaged(format!(
            "{file}: {} heads cannot share {} key-value heads evenly",
            config.heads, config.kv_heads
        )));
    }
    if matches!(config.position, PositionKind::Rotary { .. }) && !config.head_dim.is_multiple_of(2) {
        return Err(damaged(format!("{file}: rotary positions need an even head dimension, not {}", config.head_dim)));
    }
    if config.sliding_window == Some(0) {
        return Err(damaged(format!("{file}: the sliding window is 0 tokens")));
    }
    Ok(())
}

fn family(fields: &Fields) -> Result<Family, EngineError> {
    let named = match fields.text("model_type")? {
        Some(name) => name.to_owned(),
        None => architecture(fields).ok_or_else(|| {
            damaged(format!("{}: neither `model_type` nor `architectures` names a family", fields.file))
        })?,
    };
    FAMILIES.iter().find(|(name, _)| *name == named).map(|(_, family)| *family).ok_or_else(|| {
        let names: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
        let (what, hint) = text::unknown("family", &named, &names);
        EngineError::invalid(format!("{}: {what}", fields.file), hint)
    })
}

/// `LlamaForCausalLM` → `llama`.
fn architecture(fields: &Fields) -> Option<String> {
    let name = fields.map.get("architectures")?.get(0)?.as_str()?;
    Some(name.strip_suffix("ForCausalLM").unwrap_or(name).to_lowercase())
}

/// Llama, Mistral and Qwen2: RMS norms, rotary positions, a gated MLP.
fn rotary_family(family: Family, fields: &Fields) -> Result<ModelConfig, EngineError> {
    let hidden = fields.required("hidden_size")?;
    let heads = fields.required("num_attention_heads")?;
    let layers = fields.required("num_hidden_layers")?;
    let (context_default, kv_default) = match family {
        Family::Mistral => (4096 * 32, 8),
        Family::Qwen2 => (32_768, 32),
        Family::Llama | Family::Opt => (2048, heads),
    };
    // transformers reads `null` as "as many as heads" and only an absent key as the family's default.
    let kv_heads = match fields.map.get("num_key_value_heads") {
        Some(Value::Null) => heads,
        _ => fields.count("num_key_value_heads")?.unwrap_or(kv_default),
    };
    fields.only("hidden_act", "silu")?;
    if fields.number("partial_rotary_factor")?.is_some_and(|factor| (factor - 1.0).abs() > 0.0) {
        return Err(unsupported(fields, "partial_rotary_factor", "rotary embedding of a part of each head"));
    }
    let attention_bias = family == Family::Llama && fields.flag("attention_bias")?.unwrap_or(false);
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
        context_tokens: fields.count("max_position_embeddings")?.unwrap_or(context_default),
        norm: NormKind::Rms,
        norm_epsilon: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        activation: Activation::SiluGated,
        position: rotary(fields)?,
        sliding_window: sliding_window(family, layers, fields)?,
        qkv_bias: family == Family::Qwen2 || attention_bias,
        output_bias: attention_bias,
        mlp_bias: family == Family::Llama && fields.flag("mlp_bias")?.unwrap_or(false),
        tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
    })
}

/// Open Pre-trained Transformers (Zhang et al., 2022), in the shape that all sizes but 350m have.
fn opt(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let hidden = fields.required("hidden_size")?;
    let heads = fields.required("num_attention_heads")?;
    let head_dim = divide_heads(hidden, heads, fields.file)?;
    fields.only("activation_function", "relu")?;
    for (key, supported) in
        [("do_layer_norm_before", true), ("layer_norm_elementwise_affine", true), ("_remove_final_layer_norm", false)]
    {
        if fields.flag(key)?.unwrap_or(supported) != supported {
            return Err(unsupported(fields, key, &format!("`{key}` = {}", !supported)));
        }
    }
    if fields.count("word_embed_proj_dim")?.is_some_and(|width| width != hidden) {
        return Err(unsupported(fields, "word_embed_proj_dim", "an embedding narrower than the residual stream"));
    }
    let bias = fields.flag("enable_bias")?.unwrap_or(true);
    Ok(ModelConfig {
        family: Family::Opt,
        vocabulary: fields.required("vocab_size")?,
        hidden,
        intermediate: fields.required("ffn_dim")?,
        layers: fields.required("num_hidden_layers")?,
        heads,
        kv_heads: heads,
        head_dim,
        context_tokens: fields.count("max_position_embeddings")?.unwrap_or(2048),
        norm: NormKind::Layer,
        norm_epsilon: 1e-5,
        activation: Activation::Relu,
        position: PositionKind::Learned { offset: 2 },
        sliding_window: None,
        qkv_bias: bias,
        output_bias: bias,
        mlp_bias: bias,
        tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(true),
    })
}

pub(super) fn divide_heads(hidden: usize, heads: usize, file: &str) -> Result<usize, EngineError> {
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
            let (what, hint) = text::unknown("rotary scaling", other, &["default", "linear", "llama3"]);
            Err(EngineError::invalid(format!("{}: {what}", section.file), hint))
        }
    }
}

fn sliding_window(family: Family, layers: usize, fields: &Fields) -> Result<Option<usize>, EngineError> {
    // An absent key means transformers' default of 4096; `null` means none.
    let window = match fields.map.get("sliding_window") {
        Some(Value::Null) => None,
        _ => Some(fields.count("sliding_window")?.unwrap_or(4096)),
    };
    match family {
        Family::Mistral => Ok(window),
        Family::Qwen2 if fields.flag("use_sliding_window")?.unwrap_or(false) => {
            match fields.count("max_window_layers")?.unwrap_or(28) {
                0 => Ok(window),
                first if first >= layers => Ok(None),
                _ => Err(unsupported(fields, "max_window_layers", "a sliding window in some layers only")),
            }
        }
        Family::Qwen2 | Family::Llama | Family::Opt => Ok(None),
    }
}

fn damaged(what: String) -> EngineError {
    EngineError::invalid(what, "fetch the file again, or compare it with the one that the model was published with")
}

fn unsupported(fields: &Fields, key: &str, meaning: &str) -> EngineError {
    EngineError::invalid(
        format!("{}: `{key}` asks for {meaning}, which is not implemented", fields.file),
        "choose another model of the family",
    )
}

/// A JSON object with typed access, whose errors name file, key and value.
#[derive(Clone)]
struct Fields<'a> {
    file: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn new(json: &'a Value, file: &'a str) -> Result<Self, EngineError> {
        let map = json.as_object().ok_or_else(|| damaged(format!("{file} is not a JSON object")))?;
        Ok(Self { file, map })
    }

    fn get<T>(
        &self,
        key: &str,
        kind: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => convert(value)
                .map(Some)
                .ok_or_else(|| damaged(format!("{}: `{key}` is {value}, which is not {kind}", self.file))),
        }
    }

    fn count(&self, key: &str) -> Result<Option<usize>, EngineError> {
        self.get(key, "a sensible whole number", |value| {
            value.as_u64().filter(|count| *count < LARGEST_COUNT).map(|count| count as usize)
        })
    }

    fn number(&self, key: &str) -> Result<Option<f64>, EngineError> {
        self.get(key, "a number", Value::as_f64)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, EngineError> {
        self.get(key, "true or false", Value::as_bool)
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, EngineError> {
        self.get(key, "a string", Value::as_str)
    }

    fn section(&self, key: &str) -> Result<Option<Self>, EngineError> {
        Ok(self.get(key, "an object", Value::as_object)?.map(|map| Self { file: self.file, map }))
    }

    fn required(&self, key: &str) -> Result<usize, EngineError> {
        self.count(key)?.ok_or_else(|| damaged(format!("{}: `{key}` is missing", self.file)))
    }

    fn required_number(&self, key: &str) -> Result<f64, EngineError> {
        self.number(key)?.ok_or_else(|| damaged(format!("{}: `{key}` is missing", self.file)))
    }

    /// Refuses any value but `supported`, which is also the default.
    fn only(&self, key: &str, supported: &str) -> Result<(), EngineError> {
        match self.text(key)? {
            Some(value) if value != supported => {
                Err(unsupported(self, key, &format!("`{value}` in place of `{supported}`")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn llama() -> Value {
        json!({
            "model_type": "llama", "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632,
            "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
        })
    }

    fn with(mut json: Value, changes: &Value) -> Value {
        for (key, value) in changes.as_object().unwrap() {
            json[key] = value.clone();
        }
        json
    }

    fn parsed(changes: &Value) -> Result<ModelConfig, String> {
        parse(&with(llama(), changes), "config.json").map_err(|error| error.to_string())
    }

    #[test]
    fn llama_takes_transformers_defaults() {
        let config = parsed(&json!({})).unwrap();
        assert_eq!((config.head_dim, config.kv_heads, config.context_tokens), (64, 4, 2048));
        assert_eq!(config.position, PositionKind::Rotary { theta: 10_000.0, scaling: RotaryScaling::None });
        assert!(!config.tied_embeddings && !config.qkv_bias && !config.mlp_bias);
        assert_eq!(parsed(&json!({"num_key_value_heads": null})).unwrap().kv_heads, 32);
        let biased = parsed(&json!({"attention_bias": true, "mlp_bias": true, "head_dim": 128})).unwrap();
        assert!(biased.qkv_bias && biased.output_bias && biased.mlp_bias);
        assert_eq!(biased.head_dim, 128);
    }

    #[test]
    fn the_sliding_window_follows_the_family() {
        let window = |changes: &Value| parsed(changes).map(|config| config.sliding_window);
        assert_eq!(window(&json!({"sliding_window": 16})).unwrap(), None);
        assert_eq!(window(&json!({"model_type": "mistral"})).unwrap(), Some(4096));
        assert_eq!(window(&json!({"model_type": "mistral", "sliding_window": null})).unwrap(), None);
        let qwen2 = |changes: &Value| window(&with(json!({"model_type": "qwen2", "sliding_window": 64}), changes));
        assert_eq!(qwen2(&json!({"use_sliding_window": false})).unwrap(), None);
        assert_eq!(qwen2(&json!({"use_sliding_window": true, "max_window_layers": 22})).unwrap(), None);
        assert_eq!(qwen2(&json!({"use_sliding_window": true, "max_window_layers": 0})).unwrap(), Some(64));
        let mixed = qwen2(&json!({"use_sliding_window": true, "max_window_layers": 5})).unwrap_err();
        assert!(mixed.contains("max_window_layers") && mixed.contains("hint:"), "{mixed}");
    }

    #[test]
    fn rotary_scaling_in_both_spellings() {
        let position = |changes: &Value| parsed(changes).map(|config| config.position);
        let llama3 = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        let scaling = RotaryScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context_tokens: 8192,
        };
        let expected = PositionKind::Rotary { theta: 5e5, scaling };
        assert_eq!(position(&json!({"rope_theta": 5e5, "rope_scaling": llama3})).unwrap(), expected);
        let newer = with(llama3, &json!({"rope_theta": 5e5}));
        assert_eq!(position(&json!({"rope_parameters": newer})).unwrap(), expected);
        let linear = position(&json!({"rope_scaling": {"type": "linear", "factor": 2.0}})).unwrap();
        let scaling = RotaryScaling::Linear { factor: 2.0 };
        assert_eq!(linear, PositionKind::Rotary { theta: 10_000.0, scaling });
        let refused = position(&json!({"rope_scaling": {"type": "yarn", "factor": 2.0}})).unwrap_err();
        assert!(refused.contains("unknown rotary scaling `yarn`"), "{refused}");
    }

    #[test]
    fn opt_refuses_by_name_what_only_350m_has() {
        let opt = json!({
            "model_type": "opt", "vocab_size": 50272, "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "max_position_embeddings": 2048, "word_embed_proj_dim": 768,
            "do_layer_norm_before": true,
        });
        let config = parse(&opt, "config.json").unwrap();
        assert_eq!(config.position, PositionKind::Learned { offset: 2 });
        assert!(config.tied_embeddings && config.qkv_bias && config.output_bias && config.mlp_bias);
        assert_eq!((config.norm, config.activation), (NormKind::Layer, Activation::Relu));
        for (key, value) in [("do_layer_norm_before", json!(false)), ("word_embed_proj_dim", json!(512))] {
            let error = parse(&with(opt.clone(), &json!({key: value})), "config.json").unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("hint:"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let cases = [
            (json!({"model_type": "lama"}), "unknown family `lama`\nhint: did you mean `llama`?"),
            (json!({"model_type": null, "architectures": ["GPTNeoXForCausalLM"]}), "unknown family `gptneox`"),
            (json!({"hidden_act": "gelu"}), "`gelu` in place of `silu`"),
            (json!({"hidden_size": "wide"}), "`hidden_size` is \"wide\""),
            (json!({"hidden_size": 1e30}), "`hidden_size` is 1e+30"),
            (json!({"hidden_size": null}), "`hidden_size` is missing"),
            (json!({"num_attention_heads": 0}), "0 heads"),
            (json!({"num_key_value_heads": 5}), "32 heads cannot share 5 key-value heads"),
            (json!({"num_key_value_heads": 0}), "number of key-value heads is 0"),
        ];
        for (changes, expected) in cases {
            let error = parsed(&changes).unwrap_err();
            assert!(error.contains(expected) && error.contains("hint:"), "{changes}: {error}");
        }
        assert!(parse(&json!([]), "config.json").unwrap_err().to_string().contains("not a JSON object"));
    }

    #[test]
    fn the_architecture_stands_in_for_an_absent_model_type() {
        let config = parsed(&json!({"model_type": null, "architectures": ["LlamaForCausalLM"]})).unwrap();
        assert_eq!(config.family, Family::Llama);
    }
}
