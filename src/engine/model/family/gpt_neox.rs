//! GPT-NeoX and Pythia: layer norms, biases, a part of each head rotated, attention and MLP side by side.

use serde_json::{Map, Value, json};

use super::rotation::Rotation;
use super::{gpt2, rotary_gated};
use crate::EngineError;
use crate::model::config::{Activation, Family, FamilyEntry, ModelConfig, NormKind};
use crate::model::facts::{FusedTensor, Names, TokenizerFacts};
use crate::model::features::Features;
use crate::model::fields::Fields;

/// `rotary_pct` where a file has none.
const ROTATED_PART: f64 = 0.25;

const NAMES: Names = Names {
    prefix: "gpt_neox.",
    head: "embed_out",
    blocks: "layers",
    embedding: "embed_in",
    positions: None,
    final_norm: "final_layer_norm",
    attention_norm: "input_layernorm",
    qkv: ["attention.query", "attention.key", "attention.value"],
    query_key_norms: [""; 2],
    output: "attention.dense",
    attention_after: "",
    mlp_norm: "post_attention_layernorm",
    up: &["mlp.dense_h_to_4h"],
    down: "mlp.dense_4h_to_h",
    mlp_after: "",
    router: "mlp.gate",
    stacked_experts: false,
};

const ENTRY: FamilyEntry = FamilyEntry {
    name: "gpt_neox",
    architecture: "GPTNeoXForCausalLM",
    description: "GPT-NeoX and Pythia: layer norms, partly rotated heads, attention and MLP side by side",
    read,
    write,
    names: &NAMES,
    fused,
    tokenizer: TokenizerFacts::USUAL,
    gguf: None,
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Layer norms, partly rotated heads, attention and MLP side by side.
    pub const GptNeoX: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    // Its files have names of their own for the rotation.
    let mut map = fields.map.clone();
    for (own, usual) in [("rotary_emb_base", "rope_theta"), ("rotary_pct", "partial_rotary_factor")] {
        if let Some(value) = fields.map.get(own) {
            map.entry(usual).or_insert_with(|| json!(value));
        }
    }
    let fields = &Fields { file: fields.file, map: &map };
    let hidden = fields.required("hidden_size")?;
    let heads = fields.required("num_attention_heads")?;
    let head_dim = rotary_gated::divide_heads(hidden, heads, fields.file)?;
    let context_tokens = fields.count("max_position_embeddings")?.unwrap_or(2048);
    let rotation = Rotation::read(fields, (10_000.0, Some(ROTATED_PART)), head_dim, context_tokens)?;
    let bias = fields.flag("attention_bias")?.unwrap_or(true);
    Ok(ModelConfig {
        family: Family::GptNeoX,
        vocabulary: fields.required("vocab_size")?,
        hidden,
        intermediate: fields.required("intermediate_size")?,
        layers: fields.required("num_hidden_layers")?,
        heads,
        kv_heads: heads,
        head_dim,
        context_tokens: rotation.context_tokens,
        norm: NormKind::Layer,
        norm_epsilon: fields.number("layer_norm_eps")?.unwrap_or(1e-5),
        activation: gpt2::activation(fields, "hidden_act", Activation::Gelu)?,
        position: rotation.position,
        sliding_window: None,
        qkv_bias: bias,
        output_bias: bias,
        mlp_bias: true,
        tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        features: Features {
            parallel_residual: fields.flag("use_parallel_residual")?.unwrap_or(true),
            rotated_elements: rotation.rotated_elements,
            rotary_divisors: rotation.divisors,
            ..Features::default()
        },
    })
}

/// Query, key and value of a head lie together.
fn fused(config: &ModelConfig) -> Vec<FusedTensor> {
    let width = config.head_dim;
    let outputs = |part: usize| {
        let first = move |head: usize| (3 * head + part) * width;
        (0..config.heads).map(|head| first(head)..first(head) + width).collect()
    };
    let parts = NAMES.qkv.into_iter().enumerate().map(|(part, name)| (name, outputs(part)));
    vec![FusedTensor { stored: "attention.query_key_value", transposed: false, parts: parts.collect() }]
}

fn write(_: &ModelConfig, _: &mut Map<String, Value>) {
    // No GGUF file is read into it.
}
