//! The shapes there are: the numbers of published models' config.json.

use serde_json::{Value, json};

use super::SynthError;

/// Group sizes that other programs read, the one to try first first.
const GROUP_SIZES: [usize; 3] = [128, 64, 32];

/// A published model's shape. Every field but `name` and the hidden flag is a value of its config.json.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelShape {
    /// On the command line.
    pub name: &'static str,
    model_type: &'static str,
    architecture: &'static str,
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    /// Tokens in the embedding table, and in the tokenizer.
    pub vocabulary: usize,
    context: usize,
    rope_theta: f64,
    /// Llama 3's stretching of the context, by this factor.
    rope_factor: Option<f64>,
    sliding_window: Option<usize>,
    norm_epsilon: f64,
    tied_embeddings: bool,
    /// What its config.json has beyond these, and what it has otherwise: a JSON object.
    more: &'static str,
    /// Id of the begin of sequence.
    pub bos: usize,
    /// Id of the end of sequence.
    pub eos: usize,
}

const LLAMA: ModelShape = ModelShape {
    name: "llama2-7b",
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    hidden: 4096,
    intermediate: 11_008,
    layers: 32,
    heads: 32,
    kv_heads: 32,
    vocabulary: 32_000,
    context: 4096,
    rope_theta: 1e4,
    rope_factor: None,
    sliding_window: None,
    norm_epsilon: 1e-5,
    tied_embeddings: false,
    more: "{}",
    bos: 1,
    eos: 2,
};

const LLAMA_3: ModelShape = ModelShape {
    name: "llama3.1-8b",
    intermediate: 14_336,
    kv_heads: 8,
    vocabulary: 128_256,
    context: 131_072,
    rope_theta: 5e5,
    rope_factor: Some(8.0),
    bos: 128_000,
    eos: 128_001,
    ..LLAMA
};

const SMOLLM2: ModelShape = ModelShape {
    name: "smollm2-135m",
    hidden: 576,
    intermediate: 1536,
    layers: 30,
    heads: 9,
    kv_heads: 3,
    vocabulary: 49_152,
    context: 8192,
    rope_theta: 1e5,
    tied_embeddings: true,
    ..LLAMA
};

const QWEN2: ModelShape = ModelShape {
    name: "qwen2.5-7b",
    model_type: "qwen2",
    architecture: "Qwen2ForCausalLM",
    hidden: 3584,
    intermediate: 18_944,
    layers: 28,
    heads: 28,
    kv_heads: 4,
    vocabulary: 152_064,
    context: 131_072,
    rope_theta: 1e6,
    norm_epsilon: 1e-6,
    bos: 151_643,
    eos: 151_643,
    ..LLAMA
};

/// Learned positions, layer norms and biases: of the fields here it has what its config.json has, and the rest lies idle.
const OPT: ModelShape = ModelShape {
    name: "opt-125m",
    model_type: "opt",
    architecture: "OPTForCausalLM",
    hidden: 768,
    intermediate: 3072,
    layers: 12,
    heads: 12,
    kv_heads: 12,
    vocabulary: 50_272,
    context: 2048,
    tied_embeddings: true,
    bos: 2,
    eos: 2,
    ..LLAMA
};

const QWEN3: ModelShape = ModelShape {
    name: "qwen3-8b",
    model_type: "qwen3",
    architecture: "Qwen3ForCausalLM",
    intermediate: 12_288,
    layers: 36,
    kv_heads: 8,
    vocabulary: 151_936,
    context: 40_960,
    rope_theta: 1e6,
    norm_epsilon: 1e-6,
    more: r#"{"head_dim": 128, "attention_bias": false, "use_sliding_window": false}"#,
    bos: 151_643,
    eos: 151_645,
    ..LLAMA
};

const GEMMA2: ModelShape = ModelShape {
    name: "gemma2-2b",
    model_type: "gemma2",
    architecture: "Gemma2ForCausalLM",
    hidden: 2304,
    intermediate: 9216,
    layers: 26,
    heads: 8,
    kv_heads: 4,
    vocabulary: 256_000,
    context: 8192,
    norm_epsilon: 1e-6,
    tied_embeddings: true,
    more: r#"{"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "head_dim": 256,
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0, "attention_bias": false}"#,
    bos: 2,
    eos: 1,
    ..LLAMA
};

/// Small enough for any test; not offered in help.
const TINY: ModelShape = ModelShape {
    name: "tiny",
    hidden: 64,
    intermediate: 128,
    layers: 2,
    heads: 4,
    kv_heads: 2,
    vocabulary: 600,
    context: 1024,
    ..LLAMA
};

const SHAPES: [ModelShape; 24] = [
    ModelShape {
        name: "tinyllama-1.1b",
        hidden: 2048,
        intermediate: 5632,
        layers: 22,
        kv_heads: 4,
        context: 2048,
        ..LLAMA
    },
    LLAMA,
    LLAMA_3,
    ModelShape {
        name: "llama3.2-1b",
        hidden: 2048,
        intermediate: 8192,
        layers: 16,
        rope_factor: Some(32.0),
        tied_embeddings: true,
        ..LLAMA_3
    },
    ModelShape {
        name: "mistral-7b",
        model_type: "mistral",
        architecture: "MistralForCausalLM",
        intermediate: 14_336,
        kv_heads: 8,
        context: 32_768,
        sliding_window: Some(4096),
        ..LLAMA
    },
    SMOLLM2,
    ModelShape { name: "smollm2-360m", hidden: 960, intermediate: 2560, layers: 32, heads: 15, kv_heads: 5, ..SMOLLM2 },
    ModelShape {
        name: "smollm2-1.7b",
        hidden: 2048,
        intermediate: 8192,
        layers: 24,
        heads: 32,
        kv_heads: 32,
        rope_theta: 1.3e5,
        ..SMOLLM2
    },
    ModelShape {
        name: "qwen2.5-0.5b",
        hidden: 896,
        intermediate: 4864,
        layers: 24,
        heads: 14,
        kv_heads: 2,
        vocabulary: 151_936,
        context: 32_768,
        tied_embeddings: true,
        ..QWEN2
    },
    QWEN2,
    ModelShape {
        name: "qwen3-0.6b",
        hidden: 1024,
        intermediate: 3072,
        layers: 28,
        heads: 16,
        tied_embeddings: true,
        ..QWEN3
    },
    QWEN3,
    ModelShape {
        name: "qwen1.5-moe-a2.7b",
        model_type: "qwen2_moe",
        architecture: "Qwen2MoeForCausalLM",
        hidden: 2048,
        intermediate: 5632,
        layers: 24,
        heads: 16,
        kv_heads: 16,
        vocabulary: 151_936,
        context: 8192,
        more: r#"{"num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632, "norm_topk_prob": false, "decoder_sparse_step": 1}"#,
        ..QWEN2
    },
    ModelShape {
        name: "qwen3-30b-a3b",
        model_type: "qwen3_moe",
        architecture: "Qwen3MoeForCausalLM",
        hidden: 2048,
        intermediate: 6144,
        layers: 48,
        kv_heads: 4,
        more: r#"{"head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
            "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [], "use_sliding_window": false}"#,
        ..QWEN3
    },
    ModelShape {
        name: "gpt-oss-20b",
        model_type: "gpt_oss",
        architecture: "GptOssForCausalLM",
        hidden: 2880,
        intermediate: 2880,
        layers: 24,
        heads: 64,
        kv_heads: 8,
        vocabulary: 201_088,
        context: 131_072,
        rope_theta: 15e4,
        more: r#"{"head_dim": 64, "attention_bias": true, "num_local_experts": 32, "num_experts_per_tok": 4,
            "sliding_window": 128, "swiglu_limit": 7.0, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0,
            "beta_slow": 1.0, "truncate": false, "original_max_position_embeddings": 4096}}"#,
        bos: 199_998,
        eos: 200_002,
        ..LLAMA
    },
    ModelShape {
        name: "smollm3-3b",
        model_type: "smollm3",
        architecture: "SmolLM3ForCausalLM",
        hidden: 2048,
        layers: 36,
        heads: 16,
        kv_heads: 4,
        vocabulary: 128_256,
        context: 65_536,
        rope_theta: 5e6,
        norm_epsilon: 1e-6,
        tied_embeddings: true,
        more: r#"{"no_rope_layer_interval": 4, "use_sliding_window": false}"#,
        bos: 128_000,
        eos: 128_012,
        ..LLAMA
    },
    ModelShape {
        name: "granite3.3-2b",
        model_type: "granite",
        architecture: "GraniteForCausalLM",
        hidden: 2048,
        intermediate: 8192,
        layers: 40,
        kv_heads: 8,
        vocabulary: 49_159,
        context: 131_072,
        rope_theta: 1e7,
        tied_embeddings: true,
        more: r#"{"embedding_multiplier": 12.0, "attention_multiplier": 0.015625, "residual_multiplier": 0.22,
            "logits_scaling": 8.0, "attention_bias": false, "mlp_bias": false}"#,
        bos: 0,
        eos: 0,
        ..LLAMA
    },
    ModelShape {
        name: "olmo2-1b",
        model_type: "olmo2",
        architecture: "Olmo2ForCausalLM",
        hidden: 2048,
        intermediate: 8192,
        layers: 16,
        heads: 16,
        kv_heads: 16,
        vocabulary: 100_352,
        rope_theta: 5e5,
        norm_epsilon: 1e-6,
        bos: 100_257,
        eos: 100_257,
        ..LLAMA
    },
    GEMMA2,
    ModelShape {
        name: "gemma3-1b",
        model_type: "gemma3_text",
        architecture: "Gemma3ForCausalLM",
        hidden: 1152,
        intermediate: 6912,
        heads: 4,
        kv_heads: 1,
        vocabulary: 262_144,
        context: 32_768,
        rope_theta: 1e6,
        more: r#"{"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "head_dim": 256,
            "query_pre_attn_scalar": 256, "sliding_window": 512, "sliding_window_pattern": 6,
            "rope_local_base_freq": 10000.0, "attention_bias": false}"#,
        ..GEMMA2
    },
    ModelShape {
        name: "phi3-mini",
        model_type: "phi3",
        architecture: "Phi3ForCausalLM",
        hidden: 3072,
        intermediate: 8192,
        vocabulary: 32_064,
        more: r#"{"original_max_position_embeddings": 4096, "sliding_window": 2047}"#,
        eos: 32_000,
        ..LLAMA
    },
    ModelShape {
        name: "gpt2",
        model_type: "gpt2",
        architecture: "GPT2LMHeadModel",
        hidden: 768,
        intermediate: 3072,
        layers: 12,
        heads: 12,
        kv_heads: 12,
        vocabulary: 50_257,
        context: 1024,
        tied_embeddings: true,
        more: r#"{"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}"#,
        bos: 50_256,
        eos: 50_256,
        ..LLAMA
    },
    ModelShape {
        name: "pythia-160m",
        model_type: "gpt_neox",
        architecture: "GPTNeoXForCausalLM",
        hidden: 768,
        intermediate: 3072,
        layers: 12,
        heads: 12,
        kv_heads: 12,
        vocabulary: 50_304,
        context: 2048,
        more: r#"{"hidden_act": "gelu", "layer_norm_eps": 1e-5, "rotary_pct": 0.25, "rotary_emb_base": 10000,
            "use_parallel_residual": true}"#,
        bos: 0,
        eos: 0,
        ..LLAMA
    },
    OPT,
];

impl ModelShape {
    /// Names on the command line.
    pub fn names() -> Vec<&'static str> {
        SHAPES.iter().map(|shape| shape.name).collect()
    }

    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        SHAPES.into_iter().chain([TINY]).find(|shape| shape.name == name)
    }

    /// Blocks of the published model.
    pub const fn layers(&self) -> usize {
        self.layers
    }

    /// The group size that was asked for, or the largest usual one that divides every layer's inputs.
    pub fn group_size(&self, wanted: Option<usize>) -> Result<usize, SynthError> {
        let fits = |size: usize| size > 0 && [self.hidden, self.intermediate].iter().all(|n| n.is_multiple_of(size));
        let largest = GROUP_SIZES.into_iter().find(|size| fits(*size)).unwrap_or(GROUP_SIZES[GROUP_SIZES.len() - 1]);
        match wanted {
            None => Ok(largest),
            Some(size) if fits(size) => Ok(size),
            Some(size) => Err(SynthError::invalid(
                format!(
                    "--group-size {size} does not divide the inputs of {}'s layers: {} and {}",
                    self.name, self.hidden, self.intermediate
                ),
                format!("give {largest}, or leave it out"),
            )),
        }
    }

    /// Its config.json with this many blocks, its weights stored as `torch_dtype` says.
    pub(super) fn config(&self, layers: usize, torch_dtype: &str) -> Value {
        if self.model_type == OPT.model_type {
            return self.opt_config(layers, torch_dtype);
        }
        let mut config = json!({
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.norm_epsilon,
            "rope_theta": self.rope_theta,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied_embeddings,
            "attention_dropout": 0.0,
            "bos_token_id": self.bos,
            "eos_token_id": self.eos,
            "initializer_range": 0.02,
            "use_cache": true,
            "torch_dtype": torch_dtype,
        });
        if let Some(factor) = self.rope_factor {
            config["rope_scaling"] = json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            });
        }
        if self.model_type == "mistral" {
            config["sliding_window"] = json!(self.sliding_window);
        }
        if let (Value::Object(config), Ok(Value::Object(more))) = (&mut config, serde_json::from_str(self.more)) {
            config.extend(more);
        }
        config
    }
    fn opt_config(&self, layers: usize, torch_dtype: &str) -> Value {
        json!({
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "activation_function": "relu",
            "hidden_size": self.hidden,
            "word_embed_proj_dim": self.hidden,
            "ffn_dim": self.intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": self.heads,
            "max_position_embeddings": self.context,
            "do_layer_norm_before": true,
            "enable_bias": true,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied_embeddings,
            "dropout": 0.1,
            "attention_dropout": 0.0,
            "layerdrop": 0.0,
            "bos_token_id": self.bos,
            "eos_token_id": self.eos,
            "pad_token_id": 1,
            "init_std": 0.02,
            "use_cache": true,
            "torch_dtype": torch_dtype,
        })
    }
}
