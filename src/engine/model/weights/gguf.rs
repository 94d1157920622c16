//! Tensors of a GGUF file under Hugging Face names, dequantised.

use std::collections::BTreeMap;

use candle_core::quantized::GgmlDType;

use super::elements::{self, ElementType};
use super::safetensors::unknown_tensor;
use super::{OpenedWeights, TensorData, TensorValues, Tensors};
use crate::EngineError;
use crate::files::Blob;
use crate::model::files::read_failure;
use crate::model::gguf::{BlockType, GgufTensor, Header, file_type};
use crate::model::names::ExpertNames;
use crate::model::{BlockNames, ModelConfig, TensorNames};

/// The tensors of one GGUF file.
pub(in crate::model) struct GgufTensors {
    /// The parts of a split file, or the only one.
    blobs: Vec<Blob>,
    tensors: BTreeMap<String, Place>,
}

struct Place {
    tensor: GgufTensor,
    /// Number of heads whose rows llama.cpp's converter has interleaved; `None` where it has not.
    interleaved_heads: Option<usize>,
    /// The converter has added 1 to a norm's weights, which the model adds itself.
    one_added: bool,
}

impl GgufTensors {
    /// The tensors that `header` lists in `blobs`.
    pub(in crate::model) fn open(blobs: Vec<Blob>, header: Header, config: &ModelConfig) -> OpenedWeights {
        let mut tensors = BTreeMap::new();
        let own = file_type(&header);
        let mut bytes_by_type: BTreeMap<String, usize> = BTreeMap::new();
        let names = TensorNames::new(config, &[]);
        let interleaved = config.family.entry().gguf.as_ref().is_some_and(|gguf| gguf.interleaved_heads);
        for (name, tensor) in header.tensors {
            *bytes_by_type.entry(tensor.block_type.name()).or_default() += tensor.bytes;
            for (name, tensor) in of_experts(&name, &tensor, &names, config) {
                tensors.insert(name, Place { tensor, interleaved_heads: None, one_added: false });
            }
            // Tensors of other names belong to no family that is read.
            if let Some((name, part)) = hugging_face_name(&name, &names, config) {
                let interleaved_heads = match part {
                    "attn_q" if interleaved => Some(config.heads),
                    "attn_k" if interleaved => Some(config.kv_heads),
                    _ => None,
                };
                let one_added = config.features.zero_centred_norms && part.ends_with("_norm");
                let tensor = if part == "ffn_gate_inp_shexp" { as_row(&tensor) } else { tensor };
                tensors.insert(name, Place { tensor, interleaved_heads, one_added });
            }
        }
        let shapes = tensors.iter().map(|(name, place)| (name.clone(), place.tensor.shape.clone())).collect();
        let total = bytes_by_type.values().map(|bytes| *bytes as u64).sum();
        let stored_as = stored_as(own, &bytes_by_type);
        OpenedWeights { tensors: Box::new(Self { blobs, tensors }), shapes, stored_as, bytes: total }
    }
}

/// The file's own name of what it is stored as, where its tensors bear it out: a mixture has none but that. Otherwise the type of most bytes.
fn stored_as(own: Option<&'static str>, bytes_by_type: &BTreeMap<String, usize>) -> String {
    const PLAIN: [&str; 3] = ["f32", "f16", "bf16"];
    let most = bytes_by_type.iter().max_by_key(|(_, bytes)| **bytes).map(|(name, _)| name.as_str()).unwrap_or_default();
    let is_quantized = |name: &str| !PLAIN.contains(&name);
    match own {
        Some(own) if is_quantized(own) && bytes_by_type.keys().any(|name| is_quantized(name)) => own,
        _ => most,
    }
    .to_owned()
}

impl Tensors for GgufTensors {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn read(&self, name: &str) -> Result<TensorData, EngineError> {
        let Place { tensor, interleaved_heads, one_added } =
            self.tensors.get(name).ok_or_else(|| unknown_tensor(name))?;
        let mut values = self.values(tensor)?;
        if let Some(heads) = interleaved_heads {
            values = match values {
                TensorValues::F32(values) => TensorValues::F32(halves(&values, &tensor.shape, *heads)),
                TensorValues::F16(values) => TensorValues::F16(halves(&values, &tensor.shape, *heads)),
                TensorValues::Bf16(values) => TensorValues::Bf16(halves(&values, &tensor.shape, *heads)),
                TensorValues::I32(values) => TensorValues::I32(halves(&values, &tensor.shape, *heads)),
            };
        }
        if *one_added && let TensorValues::F32(values) = &mut values {
            for value in values {
                *value -= 1.0;
            }
        }
        Ok(TensorData { shape: tensor.shape.clone(), values })
    }
}

impl GgufTensors {
    fn values(&self, tensor: &GgufTensor) -> Result<TensorValues, EngineError> {
        let blob = &self.blobs[tensor.file];
        let failure = |source| read_failure(&blob.path(), source);
        let count = tensor.shape.iter().product();
        let plain = match tensor.block_type {
            BlockType::Candle(GgmlDType::F32) => Some(ElementType::F32),
            BlockType::Candle(GgmlDType::F16) => Some(ElementType::F16),
            BlockType::Candle(GgmlDType::BF16) => Some(ElementType::Bf16),
            _ => None,
        };
        if let Some(kind) = plain {
            return elements::read(blob, tensor.offset, count, kind).map_err(failure);
        }
        let bytes = blob.read_at(tensor.offset, tensor.bytes).map_err(failure)?;
        tensor.block_type.dequantize(bytes, count).map(TensorValues::F32)
    }
}

/// `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight` and `attn_q`.
fn hugging_face_name<'a>(name: &'a str, names: &TensorNames, config: &ModelConfig) -> Option<(String, &'a str)> {
    let (stem, kind) = name.rsplit_once('.')?;
    let (part, ours) = match in_block(stem) {
        Some((layer, "attn_sinks")) => return Some((names.block(layer).sinks, "attn_sinks")),
        // Where there is no norm behind attention, what is called so is the one in front of the MLP.
        Some((layer, part @ "post_attention_norm")) if !config.features.has_norms_after() => {
            (part, names.block(layer).mlp_norm)
        }
        Some((layer, part)) => {
            let shared = || beside_experts(part, &names.experts(layer)).filter(|_| config.features.experts.is_some());
            (part, part_of_block(part, names.block(layer)).or_else(shared)?)
        }
        None => (stem, outside_blocks(stem, names)?),
    };
    Some((format!("{ours}.{kind}"), part))
}

/// `blk.3.attn_q` → 3 and `attn_q`.
fn in_block(stem: &str) -> Option<(usize, &str)> {
    let (layer, part) = stem.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse().ok()?, part))
}

/// The experts' own tensors where `tensor` holds those of all: they lie in it one behind the other, each of whole blocks.
fn of_experts(name: &str, tensor: &GgufTensor, names: &TensorNames, config: &ModelConfig) -> Vec<(String, GgufTensor)> {
    const STACKED: [&str; 3] = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];
    let found = name.rsplit_once('.').and_then(|(stem, kind)| Some((in_block(stem)?, kind)));
    let Some(((layer, part), kind)) = found else { return Vec::new() };
    let (Some(projection), Some((count, shape))) =
        (STACKED.iter().position(|stacked| *stacked == part), tensor.shape.split_first())
    else {
        return Vec::new();
    };
    // Another number than the file's own is missed by the names of what there should be.
    if config.experts_of(layer).is_none_or(|experts| experts.count != *count) {
        return Vec::new();
    }
    let (names, bytes) = (names.experts(layer), tensor.bytes / count);
    let one = |expert: usize| {
        let offset = tensor.offset + (expert * bytes) as u64;
        let tensor = GgufTensor { shape: shape.to_vec(), offset, bytes, ..tensor.clone() };
        (format!("{}.{kind}", names.mlp(Some(expert))[projection]), tensor)
    };
    (0..*count).map(one).collect()
}

/// llama.cpp's names of what stands beside the experts of a block.
fn beside_experts(part: &str, names: &ExpertNames) -> Option<String> {
    let [gate, up, down] = names.mlp(None);
    Some(match part {
        "ffn_gate_inp" => names.router.clone(),
        "ffn_gate_inp_shexp" => names.shared_gate.clone(),
        "ffn_gate_shexp" => gate,
        "ffn_up_shexp" => up,
        "ffn_down_shexp" => down,
        _ => return None,
    })
}

/// A matrix of one row, which llama.cpp's converter writes as a vector.
fn as_row(tensor: &GgufTensor) -> GgufTensor {
    let shape = match tensor.shape.as_slice() {
        [columns] => vec![1, *columns],
        other => other.to_vec(),
    };
    GgufTensor { shape, ..tensor.clone() }
}

/// llama.cpp's names of what lies outside the blocks.
fn outside_blocks(part: &str, names: &TensorNames) -> Option<String> {
    Some(match part {
        "token_embd" => names.embedding(),
        "output_norm" => names.final_norm(),
        "output" => names.output(),
        _ => return None,
    })
}

/// llama.cpp's names of what is in a block.
fn part_of_block(part: &str, names: BlockNames) -> Option<String> {
    let [query, key, value] = names.qkv;
    let [query_norm, key_norm] = names.query_key_norms;
    let mut up = names.up.into_iter();
    Some(match part {
        "attn_norm" => names.attention_norm,
        "attn_q" => query,
        "attn_k" => key,
        "attn_v" => value,
        "attn_output" => names.output,
        "ffn_norm" => names.mlp_norm,
        "ffn_gate" => up.next().filter(|_| up.len() > 0)?,
        "ffn_up" => up.next_back()?,
        "ffn_down" => names.down,
        "attn_q_norm" => query_norm,
        "attn_k_norm" => key_norm,
        "post_attention_norm" => names.attention_after,
        "post_ffw_norm" => names.mlp_after,
        _ => return None,
    })
}

/// Undoes the interleaving of rows by which llama.cpp's converter turns Hugging Face's rotary layout (first half, second
/// half) into Llama's own (pairs): row 2i of a head is row i of its first half, row 2i+1 row i of its second.
fn halves<T: Copy>(values: &[T], shape: &[usize], heads: usize) -> Vec<T> {
    let rows = shape.first().copied().unwrap_or(1);
    let (row, half) = (values.len() / rows, rows / heads / 2);
    let mut restored = Vec::with_capacity(values.len());
    for head in 0..heads {
        for part in 0..2 {
            for i in 0..half {
                let from = (head * half * 2 + i * 2 + part) * row;
                restored.extend_from_slice(&values[from..from + row]);
            }
        }
    }
    restored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;

    #[test]
    fn halves_puts_even_rows_of_each_head_before_odd_ones() {
        let values = [0, 0, 1, 1, 2, 2, 3, 3, 10, 10, 11, 11, 12, 12, 13, 13];
        let expected = [0, 0, 2, 2, 1, 1, 3, 3, 10, 10, 12, 12, 11, 11, 13, 13];
        assert_eq!(halves(&values, &[8, 2], 2), expected);
        assert_eq!(halves(&[0, 1, 2, 3], &[4], 1), [0, 2, 1, 3]);
    }

    #[test]
    fn the_file_s_own_label_counts_where_the_tensors_bear_it_out() {
        let types = |types: &[(&str, usize)]| types.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        let mixture = types(&[("Q4_K", 60), ("Q6_K", 30), ("f32", 1)]);
        assert_eq!(stored_as(Some("Q4_K_M"), &mixture), "Q4_K_M");
        assert_eq!(stored_as(None, &mixture), "Q4_K");
        assert_eq!(stored_as(Some("f16"), &mixture), "Q4_K", "a label that was copied from the file it was made of");
        // A tied embedding in f16 may be the larger part of a small model.
        assert_eq!(stored_as(Some("Q4_0"), &types(&[("Q4_0", 5), ("f16", 9)])), "Q4_0");
        assert_eq!(stored_as(Some("Q4_K_M"), &types(&[("f16", 9), ("f32", 1)])), "f16");
        assert_eq!(stored_as(Some("bf16"), &types(&[("bf16", 9), ("f32", 1)])), "bf16");
    }

    #[test]
    fn names_follow_hugging_face() {
        let config = ModelConfig::example(Family::Llama).unwrap();
        let names = TensorNames::new(&config, &[]);
        for (theirs, ours, part) in [
            ("blk.12.attn_q.bias", "model.layers.12.self_attn.q_proj.bias", "attn_q"),
            ("blk.0.ffn_gate.weight", "model.layers.0.mlp.gate_proj.weight", "ffn_gate"),
            ("blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight", "ffn_up"),
            ("output_norm.weight", "model.norm.weight", "output_norm"),
            ("output.weight", "lm_head.weight", "output"),
        ] {
            assert_eq!(hugging_face_name(theirs, &names, &config), Some((ours.to_owned(), part)));
        }
        for unknown in
            ["rope_freqs.weight", "blk.x.attn_q.weight", "blk.0.attn_qkv.weight", "blk.0.ffn_gate_inp.weight"]
        {
            assert_eq!(hugging_face_name(unknown, &names, &config), None);
        }
        let opt = ModelConfig::example(Family::Opt).unwrap();
        let plain = TensorNames::new(&opt, &[]);
        assert_eq!(hugging_face_name("blk.0.ffn_gate.weight", &plain, &opt), None, "its MLP has no gate");
    }

    #[test]
    fn experts_lie_one_behind_the_other() {
        let config = ModelConfig::example(Family::Qwen2Moe).unwrap();
        let names = TensorNames::new(&config, &[]);
        let count = config.features.experts.unwrap().count;
        let tensor = |count: usize| GgufTensor {
            shape: vec![count, 2, 32],
            block_type: BlockType::Candle(GgmlDType::Q8_0),
            file: 1,
            offset: 640,
            bytes: count * 68,
        };
        let found = of_experts("blk.1.ffn_up_exps.weight", &tensor(count), &names, &config);
        assert_eq!(found.len(), count);
        let (name, last) = &found[count - 1];
        assert_eq!(*name, format!("model.layers.1.mlp.experts.{}.up_proj.weight", count - 1));
        assert_eq!((last.file, last.offset, last.bytes), (1, 640 + 68 * (count as u64 - 1), 68));
        assert_eq!(last.shape, [2, 32]);
        assert!(of_experts("blk.1.ffn_up_exps.weight", &tensor(count + 1), &names, &config).is_empty());
        assert!(of_experts("blk.1.ffn_up.weight", &tensor(count), &names, &config).is_empty());
        for (theirs, ours) in [
            ("blk.1.ffn_gate_inp.weight", "model.layers.1.mlp.gate.weight"),
            ("blk.1.ffn_gate_inp_shexp.weight", "model.layers.1.mlp.shared_expert_gate.weight"),
            ("blk.1.ffn_down_shexp.weight", "model.layers.1.mlp.shared_expert.down_proj.weight"),
        ] {
            assert_eq!(hugging_face_name(theirs, &names, &config).map(|(name, _)| name).as_deref(), Some(ours));
        }
        let config = ModelConfig::example(Family::GptOss).unwrap();
        let names = TensorNames::new(&config, &[]);
        for (theirs, ours) in [
            ("blk.1.attn_sinks.weight", "model.layers.1.self_attn.sinks"),
            ("blk.1.post_attention_norm.weight", "model.layers.1.post_attention_layernorm.weight"),
            ("blk.1.ffn_gate_inp.bias", "model.layers.1.mlp.router.bias"),
        ] {
            assert_eq!(hugging_face_name(theirs, &names, &config).map(|(name, _)| name).as_deref(), Some(ours));
        }
    }
}
