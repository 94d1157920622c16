//! What a family's entry says of its files.

use std::ops::Range;

/// Where a family keeps its tensors, in Hugging Face's spelling, without `.weight` and `.bias`.
#[derive(Debug)]
pub struct Names {
    /// In front of everything but the output projection.
    pub prefix: &'static str,
    /// The output projection, where it is not the embedding table.
    pub head: &'static str,
    /// In front of a block's number.
    pub blocks: &'static str,
    /// The embedding table.
    pub embedding: &'static str,
    /// The table of learned positions, where there is one.
    pub positions: Option<&'static str>,
    /// The norm before the output projection.
    pub final_norm: &'static str,
    /// Within a block: the norm before attention.
    pub attention_norm: &'static str,
    /// q, k and v projections.
    pub qkv: [&'static str; 3],
    /// The norms of queries and keys, where there are any.
    pub query_key_norms: [&'static str; 2],
    /// The attention's output projection.
    pub output: &'static str,
    /// The norm behind attention, where there is one.
    pub attention_after: &'static str,
    /// The norm before the MLP.
    pub mlp_norm: &'static str,
    /// gate and up, or up alone where the MLP is not gated.
    pub up: &'static [&'static str],
    /// The MLP's output projection.
    pub down: &'static str,
    /// The norm behind the MLP, where there is one.
    pub mlp_after: &'static str,
    /// What chooses among experts, where there are any.
    pub router: &'static str,
    /// The experts' MLPs lie in one tensor, `[experts, inputs, outputs]`, gate and up output by output.
    pub stacked_experts: bool,
}

/// A tensor of a block as a file has it, with the projections that it holds.
pub(super) struct FusedTensor {
    /// Its name within a block, without `.weight` and `.bias`.
    pub(super) stored: &'static str,
    /// `[inputs, outputs]` in place of `[outputs, inputs]`.
    pub(super) transposed: bool,
    /// Names of the single projections within a block, with the outputs of each in their order.
    pub(super) parts: Vec<(&'static str, Vec<Range<usize>>)>,
}

impl FusedTensor {
    /// Projections one below the other.
    pub(super) fn stacked(stored: &'static str, parts: &[(&'static str, usize)]) -> Self {
        let mut end = 0;
        let parts = parts.iter().map(|(name, outputs)| {
            end += outputs;
            (*name, std::iter::once(end - outputs..end).collect())
        });
        Self { stored, transposed: false, parts: parts.collect() }
    }
}

/// What a family's tokenizer files leave to their reader.
#[derive(Debug)]
pub struct TokenizerFacts {
    /// GPT-2's `vocab.json` and `merges.txt` will do where there is no `tokenizer.json`.
    pub vocabulary_and_merges: bool,
    /// Special tokens that no file need name.
    pub special_tokens: &'static [&'static str],
    /// BOS is put in front of a text whatever `tokenizer.json` says, unless the tokenizer config says otherwise.
    pub adds_bos: bool,
    /// The same for every model whose tokenizer config names one of these classes, of this family or another.
    pub framing_classes: &'static [&'static str],
    /// `config.json` names BOS and EOS even where a tokenizer config does not.
    pub config_names_ends: bool,
}

impl TokenizerFacts {
    /// The files say everything.
    pub const USUAL: Self = Self {
        vocabulary_and_merges: false,
        special_tokens: &[],
        adds_bos: false,
        framing_classes: &[],
        config_names_ends: false,
    };
}

/// Which of candle-transformers' models computes a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandleModel {
    /// `models::llama`.
    Llama,
    /// `models::mistral`.
    Mistral,
    /// `models::qwen2`.
    Qwen2,
}
