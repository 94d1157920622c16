//! A Hugging Face `config.json` becomes a [`ModelConfig`]: its family is found and reads the rest.

use serde_json::{Value, json};

use super::config::{Family, ModelConfig, PositionKind};
use super::family;
use super::features::Experts;
use super::fields::{Fields, damaged};
use crate::EngineError;
use crate::fault::Fault;

impl ModelConfig {
    /// Of a parsed `config.json`; `file` names it in messages.
    pub fn from_json(json: &Value, file: &str) -> Result<Self, EngineError> {
        let fields = Fields::new(json, file)?;
        let (family, fields) = match language_model(&fields)? {
            Some(inner) => (family_of(&inner)?, inner),
            None => (family_of(&fields)?, fields),
        };
        let config = (family.entry().read)(&fields)?;
        config.check(file)?;
        Ok(config)
    }

    /// A small model of a family, with tied embeddings and whatever else the family's `config.json` leaves to it: a
    /// base for tests and measurements, which change its sizes.
    pub fn example(family: Family) -> Result<Self, EngineError> {
        let json = json!({
            "model_type": family.name(), "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "intermediate_size": 128, "ffn_dim": 128, "rms_norm_eps": 1e-5, "sliding_window": null,
            "tie_word_embeddings": true,
        });
        Self::from_json(&json, "the example of a family")
    }

    /// Relations between dimensions that hold in every family, wherever the numbers came from.
    pub(super) fn check(&self, file: &str) -> Result<(), EngineError> {
        let counts = [
            ("vocabulary", self.vocabulary),
            ("hidden size", self.hidden),
            ("intermediate size", self.intermediate),
            ("number of layers", self.layers),
            ("number of heads", self.heads),
            ("number of key-value heads", self.kv_heads),
            ("head dimension", self.head_dim),
            ("context", self.context_tokens),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(damaged(format!("{file}: the {name} is 0")));
        }
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(damaged(format!("{file}: {heads} heads cannot share {kv_heads} key-value heads evenly")));
        }
        let rotated = self.rotated_elements();
        if matches!(self.position, PositionKind::Rotary { .. }) && (rotated == 0 || !rotated.is_multiple_of(2)) {
            return Err(damaged(format!("{file}: rotary positions need an even head dimension, not {rotated}")));
        }
        if let Some(Experts { count, chosen, intermediate, .. }) = self.features.experts
            && (chosen == 0 || chosen > count || count > MOST_EXPERTS || intermediate == 0)
        {
            return Err(damaged(format!("{file}: {chosen} of {count} experts of width {intermediate} cannot be")));
        }
        if self.sliding_window == Some(0) {
            return Err(damaged(format!("{file}: the sliding window is 0 tokens")));
        }
        Ok(())
    }
}

/// A count beyond this is damage; each expert's tensors are named one by one.
const MOST_EXPERTS: usize = 1 << 16;

/// The section of the language model, in a config of a model that reads images too.
fn language_model<'a>(fields: &Fields<'a>) -> Result<Option<Fields<'a>>, EngineError> {
    let outer = fields.text("model_type")?.and_then(family::named);
    let inner = fields.section("text_config")?.filter(|_| outer.is_none());
    Ok(inner.filter(|inner| matches!(inner.text("model_type"), Ok(Some(name)) if family::named(name).is_some())))
}

/// `model_type`, else the first of `architectures`.
fn family_of(fields: &Fields) -> Result<Family, EngineError> {
    if let Some(named) = fields.text("model_type")? {
        return family::named(named).ok_or_else(|| unknown(named, fields.file));
    }
    let architecture =
        fields.map.get("architectures").and_then(|names| names.get(0)?.as_str()).ok_or_else(|| {
            damaged(format!("{}: neither `model_type` nor `architectures` names a family", fields.file))
        })?;
    let found = family::ALL.iter().copied().find(|family| family.entry().architecture == architecture);
    found.ok_or_else(|| {
        unknown(&architecture.strip_suffix("ForCausalLM").unwrap_or(architecture).to_lowercase(), fields.file)
    })
}

fn unknown(name: &str, file: &str) -> EngineError {
    let names: Vec<&str> = family::ALL.iter().map(|family| family.name()).collect();
    let Fault { what, hint } = Fault::unknown("family", name, &names);
    EngineError::invalid(format!("{file}: {what}"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Activation, NormKind, RotaryScaling};

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
        ModelConfig::from_json(&with(llama(), changes), "config.json").map_err(|error| error.to_string())
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
        let mixed =
            json!({"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": true, "max_window_layers": 5});
        let mixed = parsed(&mixed).unwrap();
        assert_eq!([4, 5].map(|layer| mixed.window_of(layer)), [None, Some(64)]);
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
        let dynamic = position(&json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}})).unwrap();
        assert_eq!(dynamic, PositionKind::Rotary { theta: 10_000.0, scaling: RotaryScaling::None });
        let refused = position(&json!({"rope_scaling": {"type": "ntk", "factor": 2.0}})).unwrap_err();
        assert!(refused.contains("unknown rotary scaling `ntk`"), "{refused}");
    }

    #[test]
    fn opt_refuses_by_name_what_only_350m_has() {
        let opt = json!({
            "model_type": "opt", "vocab_size": 50272, "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "max_position_embeddings": 2048, "word_embed_proj_dim": 768,
            "do_layer_norm_before": true,
        });
        let config = ModelConfig::from_json(&opt, "config.json").unwrap();
        assert_eq!(config.position, PositionKind::Learned { offset: 2 });
        assert!(config.tied_embeddings && config.qkv_bias && config.output_bias && config.mlp_bias);
        assert_eq!((config.norm, config.activation), (NormKind::Layer, Activation::Relu));
        for (key, value) in [("do_layer_norm_before", json!(false)), ("word_embed_proj_dim", json!(512))] {
            let error = ModelConfig::from_json(&with(opt.clone(), &json!({key: value})), "config.json")
                .unwrap_err()
                .to_string();
            assert!(error.contains(key) && error.contains("hint:"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let cases = [
            (json!({"model_type": "lama"}), "unknown family `lama`\nhint: did you mean `llama`?"),
            (json!({"model_type": null, "architectures": ["FalconForCausalLM"]}), "unknown family `falcon`"),
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
        assert!(
            ModelConfig::from_json(&json!([]), "config.json").unwrap_err().to_string().contains("not a JSON object")
        );
    }

    #[test]
    fn the_architecture_stands_in_for_an_absent_model_type() {
        let config = parsed(&json!({"model_type": null, "architectures": ["LlamaForCausalLM"]})).unwrap();
        assert_eq!(config.family, Family::Llama);
    }
}
