//! Where a job's numbers come from: the model and its AWQ form, in the words of plans and records.

use std::sync::Arc;

use crate::engine::model::{ModelConfig, ModelSource, NormKind, PositionKind};
use crate::record::{AwqPlan, ModelPlan, StoredWeights};

/// The provenance of a model whose files are here, but for their hash.
pub(super) fn model_plan(model: &ModelSource) -> ModelPlan {
    ModelPlan {
        name: model.name.clone(),
        source: model.source.clone(),
        sha256: None,
        stored_as: Some(model.stored_as.clone()),
        weights: Some(weights(model)),
        quantized: model.is_quantized(),
        family: Some(model.config.family),
        parameters: Some(parameters(&model.config)),
        endpoint: None,
    }
}

/// The provenance of a model's AWQ form, but for its hash.
pub(super) fn awq_plan(awq: &Arc<ModelSource>) -> AwqPlan {
    AwqPlan {
        name: awq.name.clone(),
        source: awq.source.clone(),
        sha256: String::new(),
        stored_as: awq.stored_as.clone(),
        weights: Some(weights(awq)),
    }
}

fn weights(source: &ModelSource) -> StoredWeights {
    StoredWeights::new(source.weight_bytes, parameters(&source.config))
}

/// Parameters of a decoder of this shape.
fn parameters(config: &ModelConfig) -> u64 {
    let (hidden, intermediate) = (config.hidden, config.intermediate);
    let (query, key_value) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let bias = |present: bool, width: usize| if present { width } else { 0 };
    let learned = |width: usize| match config.norm {
        NormKind::Rms => width,
        NormKind::Layer => 2 * width,
    };
    let attention = hidden * (query + 2 * key_value)
        + bias(config.qkv_bias, query + 2 * key_value)
        + query * hidden
        + bias(config.output_bias, hidden);
    let inner = if config.activation.is_gated() { 2 * intermediate } else { intermediate };
    let mlp = (inner + intermediate) * hidden + bias(config.mlp_bias, inner + hidden);
    let positions = match config.position {
        PositionKind::Rotary { .. } => 0,
        PositionKind::Learned { offset } => (config.context_tokens + offset) * hidden,
    };
    let tables = config.vocabulary * hidden * if config.tied_embeddings { 1 } else { 2 };
    let norms = 2 * (usize::from(config.features.has_norms_before()) + usize::from(config.features.has_norms_after()));
    let query_key_norms: usize = config.query_key_norms().into_iter().flatten().map(learned).sum();
    let block = attention + norms * learned(hidden) + query_key_norms;
    let mlps =
        (0..config.layers).map(|layer| config.experts_of(layer).map_or(mlp, |experts| experts.parameters(hidden)));
    (tables + positions + config.layers * block + mlps.sum::<usize>() + learned(hidden)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::Family;

    #[test]
    fn parameters_of_published_models() {
        let smollm2 = ModelConfig {
            vocabulary: 49_152,
            hidden: 576,
            intermediate: 1536,
            layers: 30,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            ..ModelConfig::example(Family::Llama).unwrap()
        };
        assert_eq!(parameters(&smollm2), 134_515_008);
        let opt_125m = ModelConfig {
            vocabulary: 50_272,
            hidden: 768,
            intermediate: 3072,
            layers: 12,
            heads: 12,
            kv_heads: 12,
            head_dim: 64,
            context_tokens: 2048,
            ..ModelConfig::example(Family::Opt).unwrap()
        };
        assert_eq!(parameters(&opt_125m), 125_239_296);
    }
}
