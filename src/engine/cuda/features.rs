//! What of a family's equations the GPU engine has kernels for.

use crate::EngineError;
use crate::model::{Activation, ModelConfig};

/// Refuses a model that the kernels would compute wrongly.
pub(super) fn check(config: &ModelConfig) -> Result<(), EngineError> {
    let mut missing = config.features.in_words();
    missing.extend(match config.activation {
        Activation::SiluGated | Activation::Relu => None,
        Activation::Gelu | Activation::GeluTanh | Activation::GeluTanhGated => Some("gelu"),
    });
    if missing.is_empty() {
        return Ok(());
    }
    Err(EngineError::invalid(
        format!("the GPU engine does not run {} models such as this one: {}", config.family, missing.join(", ")),
        "run with `--engine cpu`, which runs every family",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::family;

    #[test]
    fn a_family_that_no_kernel_computes_is_refused_by_name() {
        for family in family::ALL {
            let config = ModelConfig::example(family).unwrap();
            let plain =
                config.features.is_plain() && matches!(config.activation, Activation::SiluGated | Activation::Relu);
            match check(&config) {
                Ok(()) => assert!(plain, "{family}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!plain && error.contains(family.name()) && error.contains("--engine cpu"), "{error}");
                }
            }
        }
    }
}
