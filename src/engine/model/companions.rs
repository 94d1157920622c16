//! The files beside the weights, for whoever writes the model anew: copied from a folder, made for a GGUF file.

use serde_json::{Map, Value, json};

use super::files::read_failure;
use super::{ModelConfig, ModelSource, PositionKind, RotaryScaling, tokenizer_files};
use crate::EngineError;

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
    let family = config.family.entry();
    let mut json = json!({
        "architectures": [family.architecture],
        "model_type": family.name,
        "vocab_size": config.vocabulary,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.context_tokens,
        "tie_word_embeddings": config.tied_embeddings,
    });
    let Value::Object(map) = &mut json else { return Err(no_config()) };
    (family.write)(config, map);
    if let PositionKind::Rotary { theta, scaling } = config.position {
        json["rope_theta"] = json!(theta);
        json["rope_scaling"] = rope_scaling(scaling);
    }
    let read_back = ModelConfig::from_json(&json, "config.json")?;
    match json {
        Value::Object(map) if read_back == *config => Ok(map),
        _ => Err(no_config()),
    }
}

fn no_config() -> EngineError {
    EngineError::invalid(
        "this model has a shape that no config.json of its family describes",
        "take the model's safetensors folder, whose config.json is copied",
    )
}

fn rope_scaling(scaling: RotaryScaling) -> Value {
    match scaling {
        // No GGUF file is read into LongRoPE.
        RotaryScaling::None | RotaryScaling::LongRope { .. } => Value::Null,
        RotaryScaling::Linear { factor } => json!({"rope_type": "linear", "type": "linear", "factor": factor}),
        RotaryScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context_tokens } => {
            json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low_frequency_factor,
                "high_freq_factor": high_frequency_factor,
                "original_max_position_embeddings": original_context_tokens,
            })
        }
        RotaryScaling::Yarn { factor, beta_fast, beta_slow, original_context_tokens, truncate, magnitude } => json!({
            "rope_type": "yarn", "factor": factor, "beta_fast": beta_fast, "beta_slow": beta_slow,
            "original_max_position_embeddings": original_context_tokens, "truncate": truncate,
            "attention_factor": magnitude,
        }),
    }
}
