//! Random checkpoints of every family at shapes that GPU kernels care about, written by the tests themselves.

use evalsuite::engine::model::ModelConfig;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::tiny_model;

/// What tells one random model from another.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    family: &'static str,
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    sliding_window: Option<usize>,
}

const VOCABULARY: usize = 515;
const LAYERS: usize = 3;
const CONTEXT: usize = 384;

/// Head sizes 64, 80, 96 and 128; groups of 1, 2, 3, 4 and 7 query heads; biases; learned positions; a window.
pub(crate) const SHAPES: [Shape; 7] = [
    shape("llama, heads of 64", "llama", (256, 384), (4, 2, 64), None),
    shape("llama, three heads to one", "llama", (192, 320), (3, 1, 64), None),
    shape("llama, as wide as SmolLM2", "llama", (576, 1536), (9, 3, 64), None),
    shape("mistral, heads of 96, window 40", "mistral", (384, 256), (8, 2, 96), Some(40)),
    shape("qwen2, heads of 128", "qwen2", (256, 512), (2, 1, 128), None),
    shape("qwen2, seven heads to one", "qwen2", (448, 256), (7, 1, 64), None),
    shape("opt, heads of 80", "opt", (320, 640), (4, 4, 80), None),
];

const fn shape(
    name: &'static str,
    family: &'static str,
    (hidden, intermediate): (usize, usize),
    (heads, kv_heads, head_dim): (usize, usize, usize),
    sliding_window: Option<usize>,
) -> Shape {
    Shape { name, family, hidden, intermediate, heads, kv_heads, head_dim, sliding_window }
}

/// Families that compute more than the plain decoder, by what their config.json has beyond the sizes; the GPU engine runs them on its general
/// path. Heads of 32, 64, 128 and 256, rotated whole, in part, in some layers, by two bases; windows in some layers; norms behind, around zero;
/// factors; caps; every kind of gelu; fused projections; experts.
pub(crate) const FEATURED: [(&str, &str); 16] = [
    ("qwen3", r#"{"head_dim": 128, "attention_bias": true}"#),
    (
        "qwen3, yarn",
        r#"{"model_type": "qwen3", "head_dim": 64, "max_position_embeddings": 384, "rope_scaling": {"rope_type": "yarn",
        "factor": 4.0, "original_max_position_embeddings": 96}}"#,
    ),
    ("smollm3", r#"{"no_rope_layers": [1, 0, 1], "attention_bias": true, "mlp_bias": true}"#),
    (
        "granite",
        r#"{"embedding_multiplier": 12.0, "attention_multiplier": 0.1, "residual_multiplier": 0.22,
        "logits_scaling": 6.0}"#,
    ),
    ("olmo2", r#"{"num_key_value_heads": 4}"#),
    ("phi3", r#"{"sliding_window": 40, "pad_token_id": 0}"#),
    (
        "phi3, longrope",
        r#"{"model_type": "phi3", "head_dim": 32, "partial_rotary_factor": 0.75, "original_max_position_embeddings":
        384, "max_position_embeddings": 1536, "pad_token_id": 0, "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.05,
        1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 1.9, 2.1, 2.3, 2.5], "long_factor": [1.0, 1.1, 1.2, 1.4, 1.6, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0]}}"#,
    ),
    (
        "qwen2_moe",
        r#"{"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 72, "shared_expert_intermediate_size": 200,
        "norm_topk_prob": false}"#,
    ),
    (
        "qwen3_moe",
        r#"{"head_dim": 64, "num_experts": 40, "num_experts_per_tok": 4, "moe_intermediate_size": 80, "norm_topk_prob": true,
        "mlp_only_layers": [1]}"#,
    ),
    (
        "gpt_oss",
        r#"{"head_dim": 64, "num_local_experts": 8, "num_experts_per_tok": 3, "swiglu_limit": 0.3, "sliding_window": 70}"#,
    ),
    ("gpt2", r#"{"activation_function": "gelu_new"}"#),
    (
        "gemma2",
        r#"{"head_dim": 256, "query_pre_attn_scalar": 144, "sliding_window": 40, "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 8.0, "hidden_activation": "gelu_pytorch_tanh"}"#,
    ),
    (
        "gemma3_text",
        r#"{"head_dim": 256, "num_key_value_heads": 1, "query_pre_attn_scalar": 200, "sliding_window": 100,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "rope_theta": 50000.0,
        "rope_local_base_freq": 300.0, "hidden_activation": "gelu_pytorch_tanh"}"#,
    ),
    (
        "qwen3, windowed late",
        r#"{"model_type": "qwen3", "head_dim": 64, "sliding_window": 70, "use_sliding_window": true, "max_window_layers": 1}"#,
    ),
    ("gpt_neox", r#"{"rotary_pct": 0.25}"#),
    (
        "gpt_neox, one after the other",
        r#"{"model_type": "gpt_neox", "rotary_pct": 1.0, "use_parallel_residual": false,
        "attention_bias": false}"#,
    ),
];

/// Writes a checkpoint of one of them.
pub(crate) fn write_featured((name, more): (&str, &str)) -> tempfile::TempDir {
    let mut config = json!({
        "model_type": name, "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 384,
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": false, "bos_token_id": 3, "eos_token_id": 4,
    });
    let Ok(Value::Object(more)) = serde_json::from_str(more) else { panic!("{more}") };
    config.as_object_mut().unwrap().extend(more);
    let tensors = ModelConfig::from_json(&config, name).unwrap().stored_tensors();
    write(&config, &tensors)
}

impl Shape {
    /// Writes the checkpoint.
    pub(crate) fn write(&self) -> tempfile::TempDir {
        write(&self.config(), &self.tensors())
    }

    fn config(&self) -> Value {
        if self.family == "opt" {
            return json!({
                "model_type": "opt", "vocab_size": VOCABULARY, "hidden_size": self.hidden, "ffn_dim": self.intermediate,
                "num_hidden_layers": LAYERS, "num_attention_heads": self.heads, "max_position_embeddings": CONTEXT,
                "word_embed_proj_dim": self.hidden, "do_layer_norm_before": true, "activation_function": "relu",
                "tie_word_embeddings": true, "bos_token_id": 3, "eos_token_id": 4,
            });
        }
        json!({
            "model_type": self.family, "vocab_size": VOCABULARY, "hidden_size": self.hidden,
            "intermediate_size": self.intermediate, "num_hidden_layers": LAYERS, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim, "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "sliding_window": self.sliding_window,
            "bos_token_id": 3, "eos_token_id": 4, "hidden_act": "silu",
        })
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, intermediate) = (self.hidden, self.intermediate);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let opt = self.family == "opt";
        let prefix = if opt { "model.decoder." } else { "model." };
        let mut all = vec![(format!("{prefix}embed_tokens.weight"), vec![VOCABULARY, hidden])];
        let linear = |all: &mut Vec<_>, name: String, outputs, inputs, bias: bool| {
            all.push((format!("{name}.weight"), vec![outputs, inputs]));
            if bias {
                all.push((format!("{name}.bias"), vec![outputs]));
            }
        };
        let norm = |all: &mut Vec<_>, name: String| {
            all.push((format!("{name}.weight"), vec![hidden]));
            if opt {
                all.push((format!("{name}.bias"), vec![hidden]));
            }
        };
        for layer in 0..LAYERS {
            let name = |rest: &str| format!("{prefix}layers.{layer}.{rest}");
            let bias = opt || self.family == "qwen2";
            for (part, outputs) in [("q", q), ("k", kv), ("v", kv)] {
                linear(&mut all, name(&format!("self_attn.{part}_proj")), outputs, hidden, bias);
            }
            if opt {
                linear(&mut all, name("self_attn.out_proj"), hidden, q, true);
                linear(&mut all, name("fc1"), intermediate, hidden, true);
                linear(&mut all, name("fc2"), hidden, intermediate, true);
                norm(&mut all, name("self_attn_layer_norm"));
                norm(&mut all, name("final_layer_norm"));
            } else {
                linear(&mut all, name("self_attn.o_proj"), hidden, q, false);
                linear(&mut all, name("mlp.gate_proj"), intermediate, hidden, false);
                linear(&mut all, name("mlp.up_proj"), intermediate, hidden, false);
                linear(&mut all, name("mlp.down_proj"), hidden, intermediate, false);
                norm(&mut all, name("input_layernorm"));
                norm(&mut all, name("post_attention_layernorm"));
            }
        }
        norm(&mut all, format!("{prefix}{}", if opt { "final_layer_norm" } else { "norm" }));
        if opt {
            all.push((format!("{prefix}embed_positions.weight"), vec![CONTEXT + 2, hidden]));
        } else {
            all.push(("lm_head.weight".to_owned(), vec![VOCABULARY, hidden]));
        }
        all
    }
}

/// Writes a checkpoint of these tensors.
fn write(config: &Value, tensors: &[(String, Vec<usize>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny_model::write_json(folder.path(), "config.json", config);
    tiny_model::write_json(folder.path(), "tokenizer.json", &tiny_model::tokenizer());
    tiny_model::write_json(folder.path(), "tokenizer_config.json", &tiny_model::tokenizer_config());
    let data: Vec<Vec<u8>> = tensors
        .iter()
        .enumerate()
        .map(|(seed, (name, shape))| tiny_model::f32_bytes(&values(seed as u64, name, shape.iter().product())))
        .collect();
    let views = tensors
        .iter()
        .zip(&data)
        .map(|((name, shape), bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    folder
}

/// Uniform numbers of the size that trained models have, one in 500 eight times as large; norms lie around 1.
fn values(seed: u64, name: &str, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let is_norm = ["norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight"].iter().any(|end| name.ends_with(end));
    let (middle, size) = if is_norm { (1.0, 0.2) } else { (0.0, 0.2) };
    let mut value = |index: usize| middle + next() * if index % 500 == 17 { 8.0 * size } else { size };
    (0..count).map(&mut value).collect()
}
