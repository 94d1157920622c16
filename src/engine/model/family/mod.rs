//! The families that are read: each is a file here, which says all that is particular to it, and a line in [`ALL`].
//! The forward pass knows none of them; it reads [`ModelConfig`](super::ModelConfig).

mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod granite;
mod llama;
mod mistral;
mod olmo2;
mod opt;
mod phi3;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod rotary_gated;
mod rotation;
mod smollm3;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::config::Family;

pub(super) use rotary_gated::divide_heads;

/// Every family.
pub const ALL: [Family; 16] = [
    Family::Llama,
    Family::Mistral,
    Family::Qwen2,
    Family::Qwen3,
    Family::Qwen2Moe,
    Family::Qwen3Moe,
    Family::GptOss,
    Family::SmolLM3,
    Family::Granite,
    Family::Olmo2,
    Family::Gemma2,
    Family::Gemma3,
    Family::Phi3,
    Family::Gpt2,
    Family::GptNeoX,
    Family::Opt,
];

/// By `model_type`.
pub fn named(name: &str) -> Option<Family> {
    ALL.into_iter().find(|family| family.name() == name)
}

impl<'de> Deserialize<'de> for Family {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        named(&name).ok_or_else(|| D::Error::custom(format!("unknown family `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::ModelConfig;

    #[test]
    fn names_are_written_and_read_as_ever() {
        let stored =
            [("llama", Family::Llama), ("mistral", Family::Mistral), ("qwen2", Family::Qwen2), ("opt", Family::Opt)];
        for (name, family) in stored {
            let written = serde_json::to_string(&family).unwrap();
            assert_eq!(written, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Family>(&written).unwrap(), family);
        }
        let error = serde_json::from_str::<Family>("\"lama\"").unwrap_err().to_string();
        assert!(error.contains("unknown family `lama`"), "{error}");
    }

    #[test]
    fn every_entry_is_whole_and_no_two_are_alike() {
        let distinct = |names: Vec<&str>| names.iter().collect::<BTreeSet<_>>().len() == names.len();
        assert!(distinct(ALL.iter().map(|family| family.name()).collect()));
        assert!(distinct(ALL.iter().map(|family| family.entry().architecture).collect()));
        assert!(distinct(ALL.iter().filter_map(|family| Some(family.entry().gguf.as_ref()?.architecture)).collect()));
        for family in ALL {
            let config = ModelConfig::example(family).unwrap();
            assert_eq!(config.family, family);
            assert!(!family.entry().description.is_empty());
        }
    }
}
