//! Open Pre-trained Transformers (Zhang et al., 2022), in the shape that all sizes but 350m have: learned positions,
//! layer norms, biases, a plain two-layer MLP.

use serde_json::{Map, Value, json};

use super::rotary_gated;
use crate::EngineError;
use crate::model::config::{Activation, Family, FamilyEntry, ModelConfig, NormKind, PositionKind};
use crate::model::facts::{Names, TokenizerFacts};
use crate::model::features::Features;
use crate::model::fields::{Fields, unsupported};

const ENTRY: FamilyEntry = FamilyEntry {
    name: "opt",
    architecture: "OPTForCausalLM",
    description: "OPT: learned positions, layer norms, biases, a plain two-layer MLP",
    read,
    write,
    names: &Names {
        prefix: "model.decoder.",
        head: "lm_head",
        blocks: "layers",
        embedding: "embed_tokens",
        positions: Some("embed_positions"),
        final_norm: "final_layer_norm",
        attention_norm: "self_attn_layer_norm",
        qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        query_key_norms: [""; 2],
        output: "self_attn.out_proj",
        attention_after: "",
        mlp_norm: "final_layer_norm",
        up: &["fc1"],
        down: "fc2",
        mlp_after: "",
        router: "mlp.gate",
        stacked_experts: false,
    },
    fused: |_| Vec::new(),
    // Its folders have no tokenizer.json, and may lack the tokenizer config: what they leave out is known from the
    // paper's code.
    tokenizer: TokenizerFacts {
        vocabulary_and_merges: true,
        special_tokens: &["</s>", "<pad>"],
        adds_bos: true,
        config_names_ends: true,
        ..TokenizerFacts::USUAL
    },
    gguf: None,
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Learned positions, layer norms, biases, a plain two-layer MLP.
    pub const Opt: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let hidden = fields.required("hidden_size")?;
    let heads = fields.required("num_attention_heads")?;
    let head_dim = rotary_gated::divide_heads(hidden, heads, fields.file)?;
    fields.only("activation_function", "relu")?;
    for (key, supported) in
        [("do_layer_norm_before", true), ("layer_norm_elementwise_affine", true), ("_remove_final_layer_norm", false)]
    {
        if fields.flag(key)?.unwrap_or(supported) != supported {
            return Err(unsupported(fields, key, &format!("`{key}` = {}", !supported)));
        }
    }
    if fields.count("word_embed_proj_dim")?.is_some_and(|width| width != hidden) {
        return Err(unsupported(fields, "word_embed_proj_dim", "an embedding narrower than the residual stream"));
    }
    let bias = fields.flag("enable_bias")?.unwrap_or(true);
    Ok(ModelConfig {
        family: Family::Opt,
        vocabulary: fields.required("vocab_size")?,
        hidden,
        intermediate: fields.required("ffn_dim")?,
        layers: fields.required("num_hidden_layers")?,
        heads,
        kv_heads: heads,
        head_dim,
        context_tokens: fields.count("max_position_embeddings")?.unwrap_or(2048),
        norm: NormKind::Layer,
        norm_epsilon: 1e-5,
        activation: Activation::Relu,
        position: PositionKind::Learned { offset: 2 },
        sliding_window: None,
        qkv_bias: bias,
        output_bias: bias,
        mlp_bias: bias,
        tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        features: Features::default(),
    })
}

fn write(config: &ModelConfig, json: &mut Map<String, Value>) {
    let keys = [
        ("ffn_dim", json!(config.intermediate)),
        ("activation_function", json!("relu")),
        ("do_layer_norm_before", json!(true)),
        ("enable_bias", json!(config.qkv_bias)),
        ("word_embed_proj_dim", json!(config.hidden)),
    ];
    json.extend(keys.map(|(key, value)| (key.to_owned(), value)));
}
