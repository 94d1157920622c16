//! Mixtures of experts in GGUF: files that llama.cpp's own package wrote (`tests/data/make_moe_gguf.py`) are the folders' models.

use std::path::Path;
use std::sync::Arc;

use evalsuite::engine::Dtype;
use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::{ModelConfig, ModelSource};
use serde_json::Value;

use crate::data;
use crate::gguf_writer::tiny;
use crate::models_gguf::{GgufFile, f32s};
use crate::tiny_model::{open, refusal, write_json};

/// The folder's model; of gpt-oss with the limit that every file has and no key of GGUF's says.
fn folder(name: &str) -> ModelSource {
    let copy = tempfile::tempdir().unwrap();
    for (file, bytes) in crate::files_of(&data(name)) {
        std::fs::write(copy.path().join(file), bytes).unwrap();
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(data(name).join("config.json")).unwrap()).unwrap();
    if config.get("swiglu_limit").is_some() {
        config["swiglu_limit"] = 7.0.into();
    }
    write_json(copy.path(), "config.json", &config);
    let source = open(copy.path()).unwrap();
    // What is read later is read from a file that stays open.
    drop(copy);
    source
}

#[test]
fn mixtures_of_experts_are_the_same_model_in_gguf() {
    for (name, stored_as) in [("qwen2-moe", "f32"), ("qwen3-moe", "f32"), ("gpt-oss-mxfp4", "MXFP4_MOE")] {
        let (original, source) = (folder(name), open(&data(&format!("{name}.gguf"))).unwrap());
        // A GGUF file keeps ε in binary32.
        let rounded = ModelConfig { norm_epsilon: original.config.norm_epsilon, ..source.config.clone() };
        assert_eq!(rounded, original.config, "{name}");
        assert_eq!(source.stored_as, stored_as);
        // A folder also stores MXFP4's codes and scales, of which the experts' weights are made.
        let is_part = |tensor: &String| tensor.ends_with("_blocks") || tensor.ends_with("_scales");
        let tensors: Vec<String> = original.tensors.names().into_iter().filter(|tensor| !is_part(tensor)).collect();
        assert_eq!(source.tensors.names(), tensors, "{name}");
        for tensor in tensors {
            assert_eq!(f32s(&source, &tensor), f32s(&original, &tensor), "{name}: {tensor}");
        }
        let tokens: Vec<u32> = (0..40).map(|i| 3 + (i * i * 7 + i) % 90).collect();
        let (source, original) = (Arc::new(source), Arc::new(original));
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Int8] {
            let logits = |source| CpuEngine::load(source, dtype, None).unwrap().logits(&tokens, 8).concat();
            let found = logits(&source);
            assert!(found.iter().any(|logit| logit.abs() > 1e-3), "{name}");
            assert_eq!(found, logits(&original), "{name} in {dtype}");
        }
    }
}

/// A copy of a file whose key, a whole number of 32 bits, has another value.
fn with_count(name: &str, key: &str, value: u32, path: &Path) {
    let mut bytes = std::fs::read(data(name)).unwrap();
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap() + key.len() + 4;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn experts_that_are_not_as_many_as_the_file_says_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.gguf");
    for (key, value, reason) in [
        ("qwen2moe.expert_count", 9, "mlp.experts.0"),
        ("qwen2moe.expert_count", 7, "mlp.experts.0"),
        ("qwen2moe.expert_count", 2, "3 of 2 experts"),
        ("qwen2moe.expert_used_count", 0, "0 of 8 experts"),
        ("qwen2moe.expert_feed_forward_length", 25, "24"),
    ] {
        with_count("qwen2-moe.gguf", key, value, &path);
        let message = refusal(&path);
        assert!(message.contains(reason), "{key} = {value}: {message}");
    }
}

/// o200k cuts a word where small letters end and capitals begin; Llama 3's words go on.
#[test]
fn gpt_oss_cuts_words_as_o200k_does() {
    let ids = |pre: &str| {
        let mut file = tiny("llama");
        let tokens = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "Ġ", "a", "b", "1", "B", "aB", "'b"];
        file.texts("tokenizer.ggml.tokens", &tokens).text("tokenizer.ggml.pre", pre);
        file.texts("tokenizer.ggml.merges", &["a B"]);
        GgufFile::new(&file).open().tokenizer.encode("aBaB", false).unwrap()
    };
    assert_eq!(ids("llama-bpe"), [10, 10]);
    assert_eq!(ids("gpt-4o"), [6, 9, 6, 9]);
}
