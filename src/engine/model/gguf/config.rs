//! The shape of a model from a GGUF file's keys.

use super::Header;
use super::header::{GgufTensor, Value};
use crate::EngineError;
use crate::fault::Fault;
use crate::files::Blob;
use crate::model::family;
use crate::model::features::{Experts, LayerKind};
use crate::model::files::read_failure;
use crate::model::{
    Activation, Family, Features, ModelConfig, NormKind, NormPlaces, PositionKind, QueryKeyNorm, RotaryScaling,
};

/// The configuration that a GGUF file describes; `blobs` are its parts.
pub(in crate::model) fn model_config(header: &Header, blobs: &[Blob]) -> Result<ModelConfig, EngineError> {
    let architecture = header.text("general.architecture")?.ok_or_else(|| header.missing("general.architecture"))?;
    let family = family_of(header, architecture)?;
    let key = |name: &str| format!("{architecture}.{name}");
    refuse_variants(header, architecture, family)?;
    let file = header.path.display().to_string();
    let hidden = header.required(&key("embedding_length"))?;
    let heads = header.required(&key("attention.head_count"))?;
    let theta = header.number(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let epsilon = key("attention.layer_norm_rms_epsilon");
    let embedding = header.tensors.get("token_embd.weight");
    let biased = |layer_tensor: &str| header.tensors.contains_key(&format!("blk.0.{layer_tensor}.bias"));
    let config = ModelConfig {
        family,
        vocabulary: match embedding.and_then(|tensor| tensor.shape.first()) {
            Some(rows) => *rows,
            None => header.required(&key("vocab_size"))?,
        },
        hidden,
        intermediate: header.required(&key("feed_forward_length"))?,
        layers: header.required(&key("block_count"))?,
        heads,
        kv_heads: header.count(&key("attention.head_count_kv"))?.unwrap_or(heads),
        head_dim: match header.count(&key("attention.key_length"))? {
            Some(width) => width,
            None => family::divide_heads(hidden, heads, &file)?,
        },
        context_tokens: header.required(&key("context_length"))?,
        norm: NormKind::Rms,
        norm_epsilon: header.number(&epsilon)?.ok_or_else(|| header.missing(&epsilon))?,
        activation: Activation::SiluGated,
        position: PositionKind::Rotary { theta, scaling: scaling(header, architecture, blobs, theta)? },
        sliding_window: header.count(&key("attention.sliding_window"))?.filter(|window| *window > 0),
        qkv_bias: biased("attn_q"),
        output_bias: biased("attn_output"),
        mlp_bias: biased("ffn_up"),
        tied_embeddings: !header.tensors.contains_key("output.weight"),
        features: Features { experts: experts(header, architecture)?, ..features(header, architecture, heads)? },
    };
    // More layers than there are tensors are damage, which is found when the tensors are: nothing is listed for them.
    let config = match &family.entry().gguf {
        Some(gguf) if config.layers <= header.tensors.len() => with_dense_layers((gguf.complete)(config), header),
        _ => config,
    };
    config.check(&file)?;
    Ok(config)
}

/// What the keys, and the names of the tensors, say of a model beyond the plain decoder.
fn features(header: &Header, architecture: &str, heads: usize) -> Result<Features, EngineError> {
    let in_block = |name: &str| header.tensors.get(&format!("blk.0.{name}.weight"));
    let number = |name: &str| -> Result<Option<f64>, EngineError> {
        let key = format!("{architecture}.{name}");
        match header.number(&key)? {
            Some(value) if !value.is_finite() || value < 0.0 => {
                Err(header.refused(&key, &format!("{value}, not above 0"), "convert the model anew"))
            }
            // A zero stands for none.
            value => Ok(value.filter(|value| *value > 0.0)),
        }
    };
    let factor = |name: &str| number(name).map(|factor| factor.filter(|factor| factor.to_bits() != 1.0_f64.to_bits()));
    // The norm has the width of a head, or of all heads.
    let rows = |name: &str| in_block(name).and_then(|tensor| tensor.shape.first().copied());
    let query_key_norm = rows("attn_q_norm")
        .zip(rows("attn_q"))
        .map(|(norm, queries)| if norm == queries && heads > 1 { QueryKeyNorm::Row } else { QueryKeyNorm::Head });
    let norms = match (in_block("attn_norm"), in_block("post_attention_norm")) {
        (Some(_), Some(_)) => NormPlaces::Both,
        (None, Some(_)) => NormPlaces::After,
        (_, None) => NormPlaces::Before,
    };
    Ok(Features {
        norms,
        query_key_norm,
        attention_scale: number("attention.scale")?,
        attention_cap: number("attn_logit_softcapping")?,
        logits_cap: number("final_logit_softcapping")?,
        embedding_scale: factor("embedding_scale")?,
        residual_scale: factor("residual_scale")?,
        logits_divisor: factor("logit_scale")?,
        windowed_theta: number("rope.freq_base_swa")?,
        ..Features::default()
    })
}

/// The experts, where the file has any.
fn experts(header: &Header, architecture: &str) -> Result<Option<Experts>, EngineError> {
    let key = |name: &str| format!("{architecture}.{name}");
    let Some(count) = header.count(&key("expert_count"))?.filter(|count| *count > 0) else { return Ok(None) };
    let chosen = header.required(&key("expert_used_count"))?;
    let intermediate = match header.count(&key("expert_feed_forward_length"))? {
        Some(width) => width,
        // As llama.cpp has it for files of before there was the key.
        None => header.required(&key("feed_forward_length"))?.checked_div(chosen).unwrap_or_default(),
    };
    let shared = header.tensors.get("blk.0.ffn_up_shexp.weight").and_then(|tensor| tensor.shape.first().copied());
    let biased = header.tensors.contains_key("blk.0.ffn_gate_inp.bias");
    Ok(Some(Experts { count, chosen, intermediate, normalised: false, shared, biased }))
}

/// Layers of a mixture of experts that have one MLP, by their tensors.
fn with_dense_layers(config: ModelConfig, header: &Header) -> ModelConfig {
    let is_dense = |layer: usize| header.tensors.contains_key(&format!("blk.{layer}.ffn_gate.weight"));
    let dense: Vec<bool> = (0..config.layers).map(is_dense).collect();
    if config.features.experts.is_none() || !dense.contains(&true) {
        return config;
    }
    let kind = |(layer, dense): (usize, bool)| LayerKind { dense, ..config.layer_kind(layer) };
    let layers = dense.into_iter().enumerate().map(kind).collect();
    ModelConfig { features: Features { layers, ..config.features }, ..config }
}

fn family_of(header: &Header, architecture: &str) -> Result<Family, EngineError> {
    let known = family::ALL.iter().filter_map(|family| Some((family.entry().gguf.as_ref()?.architecture, *family)));
    let known: Vec<(&str, Family)> = known.collect();
    known.iter().find(|(name, _)| *name == architecture).map(|(_, family)| *family).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let Fault { what, hint } = Fault::unknown("family", architecture, &names);
        EngineError::invalid(format!("{}: {what} in a GGUF file", header.path.display()), hint)
    })
}

/// Llama 3's scaling from the divisors of the frequencies that llama.cpp's converter makes of it. The numbers are those of
/// every Llama since 3.1, with the factor that the divisors show: they are computed from these and held against the file's.
fn llama3_scaling(
    header: &Header,
    tensor: &GgufTensor,
    blobs: &[Blob],
    theta: f64,
) -> Result<RotaryScaling, EngineError> {
    let blob = &blobs[tensor.file];
    let bytes = blob.read_at(tensor.offset, tensor.bytes).map_err(|source| read_failure(&blob.path(), source))?;
    let divisors = tensor.block_type.dequantize(bytes, tensor.shape.iter().product())?;
    let divisors: Vec<f64> = divisors.into_iter().map(f64::from).collect();
    scaling_of(&divisors, theta).ok_or_else(|| {
        EngineError::invalid(
            format!("{}: its rotary factors (`rope_freqs.weight`) are not those of a Llama 3", header.path.display()),
            "take the model's safetensors folder, whose config.json names the scaling",
        )
    })
}

fn scaling_of(divisors: &[f64], theta: f64) -> Option<RotaryScaling> {
    const ORIGINAL: [usize; 6] = [8192, 4096, 2048, 16_384, 32_768, 131_072];
    const TOLERANCE: f64 = 1e-4;
    let (low, high) = (1.0, 4.0);
    let factor = divisors.iter().copied().fold(1.0, f64::max);
    let divisor = |index: usize, original: usize| {
        let frequency = 1.0 / theta.powf(index as f64 / divisors.len() as f64);
        let wavelength = std::f64::consts::TAU / frequency;
        let smooth = (original as f64 / wavelength - low) / (high - low);
        if smooth >= 1.0 {
            1.0
        } else if smooth <= 0.0 {
            factor
        } else {
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    let matches = |original: &usize| {
        divisors.iter().enumerate().all(|(index, found)| {
            let expected = divisor(index, *original);
            (found - expected).abs() <= TOLERANCE * expected
        })
    };
    let original_context_tokens = ORIGINAL.into_iter().find(matches)?;
    let scaling = RotaryScaling::Llama3 {
        factor,
        low_frequency_factor: low,
        high_frequency_factor: high,
        original_context_tokens,
    };
    Some(if factor == 1.0 { RotaryScaling::None } else { scaling })
}

fn scaling(header: &Header, architecture: &str, blobs: &[Blob], theta: f64) -> Result<RotaryScaling, EngineError> {
    if let Some(factors) = header.tensors.get("rope_freqs.weight") {
        return llama3_scaling(header, factors, blobs, theta);
    }
    let key = format!("{architecture}.rope.scaling.type");
    let factor = format!("{architecture}.rope.scaling.factor");
    // Before November 2023 the factor had a key of its own, and there was no type.
    let older = format!("{architecture}.rope.scale_linear");
    let value = match header.number(&factor)? {
        Some(value) => Some((&factor, value)),
        None => header.number(&older)?.map(|value| (&older, value)),
    };
    if let Some((key, value)) = value.filter(|(_, value)| !value.is_finite() || *value < 0.0) {
        return Err(header.refused(key, &format!("{value}, not above 0"), "convert the model anew"));
    }
    match header.text(&key)? {
        Some("none") => Ok(RotaryScaling::None),
        // llama.cpp takes a factor without a type for a linear one, and 0 for none.
        None | Some("linear") => match value {
            Some((_, 0.0 | 1.0)) => Ok(RotaryScaling::None),
            Some((_, factor)) => Ok(RotaryScaling::Linear { factor }),
            None if header.get(&key).is_some() => Err(header.missing(&factor)),
            None => Ok(RotaryScaling::None),
        },
        Some("yarn") => yarn(header, architecture, value.map_or(1.0, |(_, factor)| factor)),
        Some(other) => {
            let Fault { what, hint } = Fault::unknown("rotary scaling", other, &["none", "linear", "yarn"]);
            Err(EngineError::invalid(format!("{}: {what}", header.path.display()), hint))
        }
    }
}

/// `YaRN` as llama.cpp has it: its betas and magnitude are those of the paper where no key says otherwise.
fn yarn(header: &Header, architecture: &str, factor: f64) -> Result<RotaryScaling, EngineError> {
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    let number = |name: &str, default: f64| header.number(&key(name)).map(|value| value.unwrap_or(default));
    let usual = if factor > 1.0 { 0.1 * libm::log(factor) + 1.0 } else { 1.0 };
    Ok(RotaryScaling::Yarn {
        factor,
        beta_fast: number("yarn_beta_fast", 32.0)?,
        beta_slow: number("yarn_beta_slow", 1.0)?,
        original_context_tokens: header.required(&key("original_context_length"))?,
        truncate: true,
        magnitude: usual * number("attn_factor", 1.0)?,
    })
}

/// What shares the architecture's name and not its equations.
fn refuse_variants(header: &Header, architecture: &str, family: Family) -> Result<(), EngineError> {
    let experts = format!("{architecture}.expert_count");
    let has_experts = family.entry().gguf.as_ref().is_some_and(|gguf| gguf.has_experts);
    if !has_experts && header.count(&experts)?.is_some_and(|count| count > 0) {
        return Err(header.refused(&experts, "above 0: a mixture of experts", "choose a dense model"));
    }
    for name in ["attention.head_count", "attention.head_count_kv", "feed_forward_length"] {
        let key = format!("{architecture}.{name}");
        if matches!(header.get(&key), Some(Value::Array(_))) {
            return Err(header.refused(&key, "different from layer to layer", "choose a model of equal layers"));
        }
    }
    let rotated = format!("{architecture}.rope.dimension_count");
    let width = match header.count(&format!("{architecture}.attention.key_length"))? {
        Some(width) => Some(width),
        None => header
            .required(&format!("{architecture}.embedding_length"))?
            .checked_div(header.required(&format!("{architecture}.attention.head_count"))?),
    };
    match header.count(&rotated)? {
        Some(count) if Some(count) != width => {
            Err(header.refused(&rotated, &format!("{count}: a part of each head"), "choose another model"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What llama.cpp's converter writes for Llama-3.2-1B: heads of 64, base 500,000, factor 32.
    const LLAMA_3_2: [f64; 32] = [
        1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.651_329, 3.292_262, 9.666_729,
        32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0,
    ];

    #[test]
    fn llama_3s_scaling_is_known_by_its_divisors() {
        let scaling = RotaryScaling::Llama3 {
            factor: 32.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context_tokens: 8192,
        };
        assert_eq!(scaling_of(&LLAMA_3_2, 500_000.0), Some(scaling));
        assert_eq!(scaling_of(&LLAMA_3_2, 10_000.0), None, "another base has other divisors");
        assert_eq!(scaling_of(&[1.0; 32], 10_000.0), Some(RotaryScaling::None));
        let mut other = LLAMA_3_2;
        other[16] *= 1.01;
        assert_eq!(scaling_of(&other, 500_000.0), None);
    }
}
