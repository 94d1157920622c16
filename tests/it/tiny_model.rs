//! A model of a few hundred weights as a Hugging Face folder, written by the tests themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evalsuite::engine::EngineError;
use evalsuite::engine::model::{ModelSource, ModelSpec};
use evalsuite::hub::{Hub, HubSettings};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// Tokens of the byte-level vocabulary; the last few are what the merges make.
pub(crate) const TOKENS: [&str; 12] =
    ["<|pad|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "Ġ", "a", "b", "1", "2", "ab", "Ġab"];

/// A weight's values: multiples of 1/64 below one half, exact in every precision.
pub(crate) fn values(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 11) % 61) as f32 / 64.0 - 30.0 / 64.0).collect()
}

/// Hidden 8, two heads of 4 that share one key-value head, 16 inside the MLP, two layers.
pub(crate) fn config() -> Value {
    json!({
        "model_type": "llama", "vocab_size": TOKENS.len(), "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "bos_token_id": 3, "eos_token_id": 4,
    })
}

/// Name and shape of every tensor of [`config`].
pub(crate) fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![TOKENS.len(), 8])];
    for layer in 0..2 {
        for (name, shape) in [
            ("input_layernorm", vec![8]),
            ("self_attn.q_proj", vec![8, 8]),
            ("self_attn.k_proj", vec![4, 8]),
            ("self_attn.v_proj", vec![4, 8]),
            ("self_attn.o_proj", vec![8, 8]),
            ("post_attention_layernorm", vec![8]),
            ("mlp.gate_proj", vec![16, 8]),
            ("mlp.up_proj", vec![16, 8]),
            ("mlp.down_proj", vec![8, 16]),
        ] {
            all.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    all.push(("model.norm.weight".to_owned(), vec![8]));
    all
}

/// A `tokenizer.json` of [`TOKENS`]; the first five are special.
pub(crate) fn tokenizer() -> Value {
    let vocabulary: BTreeMap<&str, usize> = TOKENS.iter().enumerate().map(|(id, token)| (*token, id)).collect();
    let added: Vec<Value> = (0..5)
        .map(|id| {
            json!({"id": id, "content": TOKENS[id], "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "vocab": vocabulary, "merges": [["a", "b"], ["Ġ", "ab"]]},
    })
}

/// The tokenizer config: `ChatML`, ended by `<|im_end|>`.
pub(crate) fn tokenizer_config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": {"content": "<|im_end|>"},
        "chat_template": "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}",
    })
}

/// Little-endian bytes of numbers.
pub(crate) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Safetensors of these tensors in f32, each with the values of its place in the list.
pub(crate) fn safetensors(tensors: &[(String, Vec<usize>)]) -> Vec<u8> {
    let data: Vec<Vec<u8>> =
        tensors.iter().enumerate().map(|(seed, (_, shape))| f32_bytes(&values(seed, shape.iter().product()))).collect();
    let views = tensors
        .iter()
        .zip(&data)
        .map(|((name, shape), bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// Writes the whole folder.
pub(crate) fn write(folder: &Path) {
    write_json(folder, "config.json", &config());
    write_json(folder, "generation_config.json", &json!({"eos_token_id": [4, 0]}));
    write_json(folder, "tokenizer.json", &tokenizer());
    write_json(folder, "tokenizer_config.json", &tokenizer_config());
    std::fs::write(folder.join("model.safetensors"), safetensors(&tensors())).unwrap();
}

/// Writes one JSON file.
pub(crate) fn write_json(folder: &Path, name: &str, json: &Value) {
    std::fs::write(folder.join(name), json.to_string()).unwrap();
}

/// A folder with the model in it.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    folder
}

/// Opens a path, with no hub to ask.
pub(crate) fn open(path: &Path) -> Result<ModelSource, EngineError> {
    let source = path.to_str().unwrap().to_owned();
    ModelSource::open(&ModelSpec { source, revision: "main".to_owned() }, &no_hub())
}

/// The error of opening a path, which must have a hint.
pub(crate) fn refusal(path: &Path) -> String {
    let error = open(path).expect_err("it should have been refused").to_string();
    assert!(error.contains("\nhint: "), "no hint: {error}");
    error
}

/// A hub that is never asked.
pub(crate) fn no_hub() -> Hub {
    let cache = PathBuf::from("/nonexistent");
    Hub::new(HubSettings { endpoint: "http://127.0.0.1:9".to_owned(), cache, token: None, offline: true })
}
