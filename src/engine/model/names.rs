//! Where a family keeps its tensors: names in Hugging Face's spelling.

use super::config::{Family, ModelConfig};

/// The tensors of one block, without `.weight` and `.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockNames {
    /// The norm before attention.
    pub attention_norm: String,
    /// q, k and v projections.
    pub qkv: [String; 3],
    /// The attention's output projection.
    pub output: String,
    /// The norm before the MLP.
    pub mlp_norm: String,
    /// gate and up, or up alone where the MLP is not gated.
    pub up: Vec<String>,
    /// The MLP's output projection.
    pub down: String,
}

/// The names of a family's tensors, under the prefix that the files at hand use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorNames {
    prefix: String,
    family: Family,
}

impl TensorNames {
    /// `present` is every name in the files: a base model is sometimes saved without the leading `model.`.
    pub fn new(config: &ModelConfig, present: &[String]) -> Self {
        let full = match config.family {
            Family::Opt => "model.decoder.",
            Family::Llama | Family::Mistral | Family::Qwen2 => "model.",
        };
        let probe = format!("{full}embed_tokens.weight");
        let prefix = if present.contains(&probe) { full } else { full.strip_prefix("model.").unwrap_or(full) };
        let prefix = if present.contains(&format!("{prefix}embed_tokens.weight")) { prefix } else { full };
        Self { prefix: prefix.to_owned(), family: config.family }
    }

    /// The embedding table.
    pub fn embedding(&self) -> String {
        format!("{}embed_tokens", self.prefix)
    }

    /// The table of learned positions.
    pub fn positions(&self) -> String {
        format!("{}embed_positions", self.prefix)
    }

    /// The norm before the output projection.
    pub fn final_norm(&self) -> String {
        let name = if self.family == Family::Opt { "final_layer_norm" } else { "norm" };
        format!("{}{name}", self.prefix)
    }

    /// The output projection, where it is not the embedding table.
    pub fn output(&self) -> String {
        "lm_head".to_owned()
    }

    /// One block.
    pub fn block(&self, layer: usize) -> BlockNames {
        let name = |rest: &str| format!("{}layers.{layer}.{rest}", self.prefix);
        let qkv = ["q", "k", "v"].map(|part| name(&format!("self_attn.{part}_proj")));
        match self.family {
            Family::Opt => BlockNames {
                attention_norm: name("self_attn_layer_norm"),
                qkv,
                output: name("self_attn.out_proj"),
                mlp_norm: name("final_layer_norm"),
                up: vec![name("fc1")],
                down: name("fc2"),
            },
            Family::Llama | Family::Mistral | Family::Qwen2 => BlockNames {
                attention_norm: name("input_layernorm"),
                qkv,
                output: name("self_attn.o_proj"),
                mlp_norm: name("post_attention_layernorm"),
                up: vec![name("mlp.gate_proj"), name("mlp.up_proj")],
                down: name("mlp.down_proj"),
            },
        }
    }
}
