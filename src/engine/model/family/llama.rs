//! Llama and its likes: `TinyLlama`, `SmolLM2`, Llama-2 and -3.

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, GgufFacts, ModelConfig};
use crate::model::facts::{CandleModel, TokenizerFacts};
use crate::model::fields::Fields;

const ENTRY: FamilyEntry = FamilyEntry {
    name: "llama",
    architecture: "LlamaForCausalLM",
    description: "Llama and its likes: TinyLlama, SmolLM2, Llama-2 and -3",
    read,
    write: rotary_gated::write,
    names: &rotary_gated::NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts {
        // transformers' classes of this name put BOS in front of a text whatever tokenizer.json says.
        framing_classes: &["LlamaTokenizer", "LlamaTokenizerFast"],
        ..TokenizerFacts::USUAL
    },
    gguf: Some(GgufFacts {
        architecture: "llama",
        interleaved_heads: true,
        has_bos: true,
        has_experts: false,
        complete: |config| config,
    }),
    candle: Some(CandleModel::Llama),
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Llama and its likes.
    pub const Llama: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    Ok(ModelConfig { mlp_bias, ..rotary_gated::read_with_bias(Family::Llama, fields, &Defaults::LLAMA)? })
}
