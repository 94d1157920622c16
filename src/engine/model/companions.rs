//! The files beside the weights, for whoever writes the model anew: copied from a folder, made for a GGUF file.

use serde_json::{Map, Value, json};

use super::files::read_failure;
use super::{Family, NormKind, PositionKind, RotaryScaling};
use super::{ModelConfig, ModelSource, config_json, tokenizer_files};
use crate::engine::EngineError;

/// Files that other programs like to find beside a tokenizer.
const MORE_FILES: [&str; 5] =
    ["special_tokens_map.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt"];

impl ModelSource {
    /// Names and bytes: `config.json`, the tokenizer's files, the chat template, and what else lies beside them.
    pub fn companions(&self) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
        let Some(files) = &self.files else { return self.made_companions() };
        let mut names = vec!["config.json"];
        names.extend(tokenizer_files::SURROUNDING_FILES);
        names.extend(tokenizer_files::choose(files.names()));
        names.extend(MORE_FILES);
        names.sort_unstable();
        names.dedup();
        let mut found = Vec::new();
        for name in names {
            if let Some(blob) = files.blob(name)? {
                let bytes = blob.read_all().map_err(|source| read_failure(&blob.path(), source))?;
                found.push((name.to_owned(), bytes));
            }
        }
        Ok(found)
    }

    /// From what a GGUF file's header says.
    fn made_companions(&self) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
        let tokenizer = &self.tokenizer;
        let ends: Vec<u32> = tokenizer.eos_ids.iter().copied().collect();
        let ends = match ends[..] {
            [] => Value::Null,
            [only] => json!(only),
            _ => json!(ends),
        };
        let mut config = hugging_face(&self.config)?;
        config.insert("bos_token_id".to_owned(), json!(tokenizer.bos_id));
        config.insert("eos_token_id".to_owned(), ends.clone());
        let generation = json!({"bos_token_id": tokenizer.bos_id, "eos_token_id": ends});
        let mut settings = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": tokenizer.bos_token,
            "eos_token": tokenizer.eos_token,
            "clean_up_tokenization_spaces": false,
            "model_max_length": self.config.context_tokens,
        });
        if let Some(template) = &tokenizer.chat_template {
            settings["chat_template"] = json!(template);
        }
        let text = tokenizer.tokenizer.to_string(false).map_err(|error| {
            EngineError::failed(
                format!("the tokenizer of {} cannot be written: {error}", self.name),
                "take the model's safetensors folder, whose tokenizer.json is copied",
            )
        })?;
        let json = |value: Value| format!("{value:#}\n").into_bytes();
        Ok(vec![
            ("config.json".to_owned(), json(Value::Object(config))),
            ("generation_config.json".to_owned(), json(generation)),
            ("tokenizer.json".to_owned(), text.into_bytes()),
            ("tokenizer_config.json".to_owned(), json(settings)),
        ])
    }
}

/// The `config.json` that transformers would write for a model of this shape. Read back, it must say the same.
fn hugging_face(config: &ModelConfig) -> Result<Map<String, Value>, EngineError> {
    let (model_type, architecture) = match config.family {
        Family::Llama => ("llama", "LlamaForCausalLM"),
        Family::Mistral => ("mistral", "MistralForCausalLM"),
        Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        Family::Opt => ("opt", "OPTForCausalLM"),
    };
    let mut json = json!({
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": config.vocabulary,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.context_tokens,
        "tie_word_embeddings": config.tied_embeddings,
    });
    match config.norm {
        NormKind::Layer => {
            json["ffn_dim"] = json!(config.intermediate);
            json["activation_function"] = json!("relu");
            json["do_layer_norm_before"] = json!(true);
            json["enable_bias"] = json!(config.qkv_bias);
            json["word_embed_proj_dim"] = json!(config.hidden);
        }
        NormKind::Rms => {
            json["intermediate_size"] = json!(config.intermediate);
            json["num_key_value_heads"] = json!(config.kv_heads);
            json["head_dim"] = json!(config.head_dim);
            json["hidden_act"] = json!("silu");
            json["rms_norm_eps"] = json!(config.norm_epsilon);
            json["attention_bias"] = json!(config.qkv_bias);
            json["mlp_bias"] = json!(config.mlp_bias);
            json["sliding_window"] = json!(config.sliding_window);
            if config.family == Family::Qwen2 {
                json["use_sliding_window"] = json!(config.sliding_window.is_some());
                json["max_window_layers"] = json!(if config.sliding_window.is_some() { 0 } else { config.layers });
            }
        }
    }
    if let PositionKind::Rotary { theta, scaling } = config.position {
        json["rope_theta"] = json!(theta);
        json["rope_scaling"] = rope_scaling(scaling);
    }
    let read_back = config_json::parse(&json, "config.json")?;
    match json {
        Value::Object(map) if read_back == *config => Ok(map),
        _ => Err(EngineError::invalid(
            "this model has a shape that no config.json of its family describes",
            "take the model's safetensors folder, whose config.json is copied",
        )),
    }
}

fn rope_scaling(scaling: RotaryScaling) -> Value {
    match scaling {
        RotaryScaling::None => Value::Null,
        RotaryScaling::Linear { factor } => json!({"rope_type": "linear", "type": "linear", "factor": factor}),
        RotaryScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context_tokens } => {
            json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low_frequency_factor,
                "high_freq_factor": high_frequency_factor,
                "original_max_position_embeddings": original_context_tokens,
            })
        }
    }
}
