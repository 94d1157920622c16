//! GPT-2: learned positions, layer norms, biases, a plain MLP, and every projection stored transposed.

use serde_json::{Map, Value};

use super::rotary_gated;
use crate::EngineError;
use crate::model::config::{Activation, Family, FamilyEntry, ModelConfig, NormKind, PositionKind};
use crate::model::facts::{FusedTensor, Names, TokenizerFacts};
use crate::model::features::Features;
use crate::model::fields::{Fields, unsupported};

const NAMES: Names = Names {
    prefix: "transformer.",
    head: "lm_head",
    blocks: "h",
    embedding: "wte",
    positions: Some("wpe"),
    final_norm: "ln_f",
    attention_norm: "ln_1",
    qkv: ["attn.q_attn", "attn.k_attn", "attn.v_attn"],
    query_key_norms: [""; 2],
    output: "attn.c_proj",
    attention_after: "",
    mlp_norm: "ln_2",
    up: &["mlp.c_fc"],
    down: "mlp.c_proj",
    mlp_after: "",
    router: "mlp.gate",
    stacked_experts: false,
};

const ENTRY: FamilyEntry = FamilyEntry {
    name: "gpt2",
    architecture: "GPT2LMHeadModel",
    description: "GPT-2: learned positions, layer norms, biases, a plain MLP",
    read,
    write,
    names: &NAMES,
    fused,
    tokenizer: TokenizerFacts { vocabulary_and_merges: true, ..TokenizerFacts::USUAL },
    gguf: None,
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Learned positions, layer norms, biases, a plain MLP.
    pub const Gpt2: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    // Its files have names of their own for what all others name alike; transformers takes both.
    let required = |own: &str, usual: &str| match fields.count(own)? {
        Some(count) => Ok(count),
        None => fields.required(usual),
    };
    for (key, supported) in
        [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false), ("add_cross_attention", false)]
    {
        if fields.flag(key)?.unwrap_or(supported) != supported {
            return Err(unsupported(fields, key, &format!("`{key}` = {}", !supported)));
        }
    }
    let hidden = required("n_embd", "hidden_size")?;
    let heads = required("n_head", "num_attention_heads")?;
    Ok(ModelConfig {
        family: Family::Gpt2,
        vocabulary: fields.required("vocab_size")?,
        hidden,
        intermediate: fields.count("n_inner")?.unwrap_or(4 * hidden),
        layers: required("n_layer", "num_hidden_layers")?,
        heads,
        kv_heads: heads,
        head_dim: rotary_gated::divide_heads(hidden, heads, fields.file)?,
        context_tokens: required("n_positions", "max_position_embeddings")?,
        norm: NormKind::Layer,
        norm_epsilon: fields.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        activation: activation(fields, "activation_function", Activation::GeluTanh)?,
        position: PositionKind::Learned { offset: 0 },
        sliding_window: None,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        features: Features::default(),
    })
}

/// A plain MLP's non-linearity by transformers' names.
pub(super) fn activation(fields: &Fields, key: &str, default: Activation) -> Result<Activation, EngineError> {
    match fields.text(key)? {
        None => Ok(default),
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluTanh),
        Some("gelu") => Ok(Activation::Gelu),
        Some("relu") => Ok(Activation::Relu),
        Some(other) => Err(unsupported(fields, key, &format!("`{other}`"))),
    }
}

fn fused(config: &ModelConfig) -> Vec<FusedTensor> {
    let (hidden, intermediate) = (config.hidden, config.intermediate);
    let transposed = |stored, parts: &[_]| FusedTensor { transposed: true, ..FusedTensor::stacked(stored, parts) };
    let [q, k, v] = NAMES.qkv;
    let mut all = vec![
        transposed("attn.c_attn", &[(q, hidden), (k, hidden), (v, hidden)]),
        transposed(NAMES.output, &[(NAMES.output, hidden)]),
        transposed(NAMES.down, &[(NAMES.down, hidden)]),
    ];
    all.extend(NAMES.up.iter().map(|name| transposed(name, &[(*name, intermediate)])));
    all
}

fn write(_: &ModelConfig, _: &mut Map<String, Value>) {
    // No GGUF file is read into it.
}
