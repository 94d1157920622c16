//! Models and decoding in words.

use super::words::count_in_words;
use crate::record::{GenerationPlan, ModelPlan};

/// `bundled (llama, 1.8 M parameters, stored as f32)`.
pub(crate) fn model(model: &ModelPlan) -> String {
    let family = model.family;
    format!("{} ({family}, {} parameters, stored as {})", model.name, count_in_words(model.parameters), model.stored_as)
}

/// `greedy, at most 512 tokens`.
pub(crate) fn decoding(generation: &GenerationPlan) -> String {
    let mut words = Vec::new();
    if generation.temperature == 0.0 {
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
    words.push(format!("at most {} tokens", generation.max_tokens));
    if generation.repeats > 1 {
        words.push(format!("{} completions a sample", generation.repeats));
    }
    words.join(", ")
}
