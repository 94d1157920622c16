//! What of a family's equations the GPU engine has kernels for.

use super::ops::features::adds_changed_rows;
use crate::model::{Activation, Layout, ModelConfig};
use crate::{Dtype, EngineError};

/// Refuses a model that the kernels would compute wrongly.
pub(super) fn check(config: &ModelConfig, dtype: Dtype) -> Result<(), EngineError> {
    let features = &config.features;
    let packed = dtype.format.entry().layout != Layout::Dense;
    let experts = features.experts.is_some();
    let gated = matches!(config.activation, Activation::SiluGated | Activation::ClampedSwiglu { .. });
    let missing: Vec<&str> = [
        (experts && packed, "experts in int8 or awq"),
        (experts && !gated, "experts with another activation than SiLU or a clamped SwiGLU"),
        (experts && adds_changed_rows(config), "experts with norms behind them, or a residual scale"),
        (features.parallel_residual && adds_changed_rows(config), "attention and MLP side by side, changed"),
    ]
    .into_iter()
    .filter_map(|(there, words)| there.then_some(words))
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(EngineError::invalid(
        format!("the GPU engine does not run {} models such as this one: {}", config.family, missing.join(", ")),
        "run with `--engine cpu`, which runs every family",
    ))
}

/// Whether the fused kernel of the small-batch path computes all that the model is.
pub(super) fn is_plain(config: &ModelConfig) -> bool {
    config.features.is_plain() && matches!(config.activation, Activation::SiluGated | Activation::Relu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Features, family};

    #[test]
    fn a_family_that_no_kernel_computes_is_refused_by_name() {
        let refused_ones = [Family::Qwen2Moe, Family::Qwen3Moe, Family::GptOss];
        for family in family::ALL {
            let config = ModelConfig::example(family).unwrap();
            assert!(check(&config, Dtype::F16).is_ok(), "{family}");
            let refused = check(&config, Dtype::Int8).map_err(|error| error.to_string());
            match refused {
                Ok(()) => assert!(!refused_ones.contains(&family), "{family}"),
                Err(error) => {
                    assert!(refused_ones.contains(&family), "{error}");
                    assert!(error.contains(family.name()) && error.contains("--engine cpu"), "{error}");
                }
            }
        }
        let features = Features { parallel_residual: true, residual_scale: Some(0.5), ..Features::default() };
        let config = ModelConfig { features, ..ModelConfig::example(Family::GptNeoX).unwrap() };
        assert!(check(&config, Dtype::F32).unwrap_err().to_string().contains("side by side"));
    }

    #[test]
    fn only_a_plain_model_takes_the_fused_kernel() {
        let plain: Vec<&str> = family::ALL
            .into_iter()
            .filter(|family| is_plain(&ModelConfig::example(*family).unwrap()))
            .map(Family::name)
            .collect();
        // The example of SmolLM3 has no fourth layer.
        assert_eq!(plain, ["llama", "mistral", "qwen2", "smollm3", "phi3", "opt"]);
    }
}
