//! `OLMo` 2: norms behind attention and MLP in place of those in front, and norms of all queries and keys of a row.

use super::rotary_gated::{self, Defaults};
use crate::EngineError;
use crate::model::config::{Family, FamilyEntry, GgufFacts, ModelConfig};
use crate::model::facts::{Names, TokenizerFacts};
use crate::model::features::{Features, NormPlaces, QueryKeyNorm};
use crate::model::fields::Fields;

const NAMES: Names = Names {
    attention_after: "post_attention_layernorm",
    mlp_after: "post_feedforward_layernorm",
    ..rotary_gated::NAMES
};

const ENTRY: FamilyEntry = FamilyEntry {
    name: "olmo2",
    architecture: "Olmo2ForCausalLM",
    description: "OLMo 2: norms behind attention and MLP, and over all queries and keys of a row",
    read,
    write: rotary_gated::write,
    names: &NAMES,
    fused: |_| Vec::new(),
    tokenizer: TokenizerFacts::USUAL,
    gguf: Some(GgufFacts {
        architecture: "olmo2",
        interleaved_heads: false,
        has_bos: true,
        has_experts: false,
        complete: |config| config,
    }),
    candle: None,
};

#[expect(non_upper_case_globals, reason = "families read like the variants of one type")]
impl Family {
    /// Norms behind attention and MLP, and over all queries and keys of a row.
    pub const Olmo2: Self = Self::new(&ENTRY);
}

fn read(fields: &Fields) -> Result<ModelConfig, EngineError> {
    let defaults = Defaults { norm_epsilon: 1e-5, ..Defaults::LLAMA };
    let config = rotary_gated::read_with_bias(Family::Olmo2, fields, &defaults)?;
    let features = Features { norms: NormPlaces::After, query_key_norm: Some(QueryKeyNorm::Row), ..config.features };
    Ok(ModelConfig { features, ..config })
}
