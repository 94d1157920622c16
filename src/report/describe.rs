//! Models and decoding in words.

use super::words::count_in_words;
use crate::record::{GenerationPlan, ModelPlan, StoredWeights, TargetPlan};
use crate::text::bytes;

/// `bundled (llama, 722,048 parameters, stored as f32, 2.9 MB)`.
pub(crate) fn model(model: &ModelPlan) -> String {
    let unknown = || "unknown".to_owned();
    let family = model.family.map_or_else(unknown, |family| family.to_string());
    let parameters = model.parameters.map_or_else(unknown, count_in_words);
    let stored_as = model.stored_as.clone().unwrap_or_else(unknown);
    if let Some(endpoint) = &model.endpoint {
        let tokenizer = endpoint.tokenizer.as_ref().map_or_else(unknown, Clone::clone);
        return format!(
            "{} (at {}; {} route, prompts as {}, tokenizer {tokenizer}; weights unknown)",
            model.name, model.source, endpoint.api, endpoint.prompts
        );
    }
    if (model.family, model.parameters, &model.stored_as) == (None, None, &None) {
        return format!("{} (at {}; family, parameters and weights unknown)", model.name, model.source);
    }
    let weights = match model.weights {
        // Such a name says how many bits a weight has.
        Some(weights) if ["f32", "f16", "bf16"].contains(&stored_as.as_str()) => format!(", {}", bytes(weights.bytes)),
        weights => size(weights),
    };
    format!("{} ({family}, {parameters} parameters, stored as {stored_as}{weights})", model.name)
}

/// `, 4.8 bits a weight, 105.5 MB`; nothing where it is not known.
fn size(weights: Option<StoredWeights>) -> String {
    weights.map_or_else(String::new, |weights| {
        format!(", {:.1} bits a weight, {}", weights.bits_per_weight, bytes(weights.bytes))
    })
}

/// `bundled-awq, awq-int4 (group 64), 6.3 bits a weight, 567.3 kB`: the model's AWQ form, where it lies in files of its own.
pub(crate) fn awq(target: &TargetPlan) -> Option<String> {
    target.awq.as_ref().map(|awq| format!("{}, {}{}", awq.name, awq.stored_as, size(awq.weights)))
}

/// Further checkpoints: (variant, `model-g32, awq-int4 (group 32), in f16`).
pub(crate) fn variants(target: &TargetPlan) -> Vec<(String, String)> {
    let words = |plan: &crate::record::VariantPlan| {
        let precision = plan.precision.filter(|precision| !precision.format.is_packed());
        let precision = precision.map_or_else(String::new, |precision| format!(", in {precision}"));
        match &plan.stored_as {
            Some(stored_as) => format!("{}, {stored_as}{}{precision}", plan.name, size(plan.weights)),
            None => format!("{} at {}, weights unknown", plan.name, plan.source),
        }
    };
    target.variants.iter().map(|(name, plan)| (name.to_string(), words(plan))).collect()
}

/// `greedy, at most 512 tokens`.
pub(crate) fn decoding(generation: &GenerationPlan) -> String {
    let mut words = Vec::new();
    if !generation.is_known() {
        words.push("unknown, for the completions were made elsewhere".to_owned());
    } else if generation.temperature == 0.0 {
        words.push("greedy".to_owned());
    } else {
        words.push(format!("temperature {}", generation.temperature));
        if generation.top_p < 1.0 {
            words.push(format!("top-p {}", generation.top_p));
        }
        if generation.top_k > 0 {
            words.push(format!("top-k {}", generation.top_k));
        }
        words.push(format!("seed {}", generation.seed));
    }
    if generation.is_known() {
        words.push(format!("at most {} tokens", generation.max_tokens));
    }
    if generation.repeats > 1 {
        words.push(format!("{} completions a sample", generation.repeats));
    }
    words.join(", ")
}
