//! Later families in GGUF: what llama.cpp's converter makes of a checkpoint is the same model.

use std::path::Path;
use std::sync::Arc;

use evalsuite::engine::Dtype;
use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::{ModelConfig, ModelSource, PositionKind};

use crate::gguf_writer::{GgufWriter, llama_cpp_name, tiny};
use crate::largest_difference;
use crate::models_gguf::{GgufFile, f32s};
use crate::random_model::write_featured;
use crate::tiny_model::{f32_bytes, open};

/// A checkpoint as llama.cpp's converter writes it: names, interleaved rows, norms with 1 added, and the keys of the family.
fn converted(folder: &Path, architecture: &str, keys: &[(&str, f32)]) -> GgufWriter {
    let source = open(folder).unwrap();
    let config = &source.config;
    let mut file = tiny(architecture);
    file.tensors.clear();
    let key = |name: &str| format!("{architecture}.{name}");
    for (name, count) in [
        ("block_count", config.layers),
        ("context_length", config.context_tokens),
        ("embedding_length", config.hidden),
        ("feed_forward_length", config.intermediate),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
    ] {
        file.count(&key(name), count as u32);
    }
    let PositionKind::Rotary { theta, .. } = config.position else { panic!("rotary families only") };
    file.number(&key("attention.layer_norm_rms_epsilon"), config.norm_epsilon as f32);
    file.number(&key("rope.freq_base"), theta as f32);
    if let Some(window) = config.sliding_window {
        file.count(&key("attention.sliding_window"), window as u32);
    }
    for (name, value) in keys {
        file.number(&key(name), *value);
    }
    let norms = match architecture {
        "olmo2" => {
            [("post_attention_layernorm", "post_attention_norm"), ("post_feedforward_layernorm", "post_ffw_norm")]
                .to_vec()
        }
        "gemma2" | "gemma3" => [
            ("post_attention_layernorm", "post_attention_norm"),
            ("pre_feedforward_layernorm", "ffn_norm"),
            ("post_feedforward_layernorm", "post_ffw_norm"),
        ]
        .to_vec(),
        _ => Vec::new(),
    };
    for (name, shape) in config.stored_tensors() {
        let mut values = f32s(&source, &name);
        if architecture.starts_with("gemma") && name.ends_with("norm.weight") {
            for value in &mut values {
                *value += 1.0;
            }
        }
        let part = name.rsplit('.').nth(1).unwrap_or_default();
        if ["granite", "smollm3"].contains(&architecture) && ["q_proj", "k_proj"].contains(&part) {
            let heads = if part == "q_proj" { config.heads } else { config.kv_heads };
            values = pairs(&values, shape[0], heads);
        }
        let theirs = norms.iter().fold(name.clone(), |name, (ours, theirs)| name.replace(ours, theirs));
        file.tensor(&llama_cpp_name(&theirs), &shape, 0, f32_bytes(&values));
    }
    file
}

/// Rows of each head as llama.cpp's converter interleaves them: 0, half, 1, half + 1, …
fn pairs(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let (row, width) = (values.len() / rows, rows / heads);
    let order = (0..rows).map(|at| at / width * width + at % width / 2 + at % 2 * (width / 2));
    order.flat_map(|from| values[from * row..(from + 1) * row].to_vec()).collect()
}

/// The folder and its GGUF form are one model, to the last bit; Gemma's within the rounding of 1 + w.
#[test]
fn later_families_are_the_same_model_in_gguf() {
    type Case = (&'static str, &'static str, &'static str, &'static [(&'static str, f32)]);
    let cases: [Case; 6] = [
        ("qwen3", "qwen3", r#"{"head_dim": 128}"#, &[]),
        ("olmo2", "olmo2", "{}", &[]),
        ("smollm3", "smollm3", r#"{"num_hidden_layers": 5}"#, &[]),
        (
            "granite",
            "granite",
            r#"{"embedding_multiplier": 12.0, "attention_multiplier": 0.125, "residual_multiplier": 0.25,
                "logits_scaling": 8.0}"#,
            &[("embedding_scale", 12.0), ("attention.scale", 0.125), ("residual_scale", 0.25), ("logit_scale", 8.0)],
        ),
        (
            "gemma2",
            "gemma2",
            r#"{"head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 40, "tie_word_embeddings": true}"#,
            &[("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)],
        ),
        (
            "gemma3_text",
            "gemma3",
            r#"{"head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 40, "tie_word_embeddings": true,
                "num_hidden_layers": 7}"#,
            &[],
        ),
    ];
    for (name, architecture, more, keys) in cases {
        let folder = write_featured((name, more));
        let original = open(folder.path()).unwrap();
        let file = GgufFile::new(&converted(folder.path(), architecture, keys));
        let source = file.open();
        // A GGUF file keeps ε in binary32.
        let rounded = ModelConfig { norm_epsilon: original.config.norm_epsilon, ..source.config.clone() };
        assert_eq!(rounded, original.config, "{name}");
        let tokens: Vec<u32> = (0..60).map(|i| 3 + (i * i * 7 + i) % 500).collect();
        let logits = |source: ModelSource| {
            let engine = CpuEngine::load(&Arc::new(source), Dtype::F32, None).unwrap();
            engine.logits(&tokens, 4).concat()
        };
        let (found, expected) = (logits(source), logits(original));
        let largest = expected.iter().fold(0.0_f32, |largest, logit| largest.max(logit.abs()));
        // Norms around zero come back within the rounding of 1 + w.
        let allowed = if name.starts_with("gemma") { 1e-5 * largest } else { 0.0 };
        let worst = largest_difference(&found, &expected.iter().map(|logit| f64::from(*logit)).collect::<Vec<_>>());
        assert!(worst <= f64::from(allowed), "{name}: {worst} of {largest}");
    }
}
