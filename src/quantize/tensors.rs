//! What the checkpoint holds, tensor by tensor.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use super::block::values;
use super::round::{Codes, codes};
use super::{QuantizeError, Scheme, StoredFormat, compressed_tensors};
use crate::checkpoint::safetensors::Tensor;
use crate::engine::cpu::{Block, Norm};
use crate::engine::model::{
    AwqTensor, BlockNames, Features, ModelConfig, ModelSource, NormKind, PositionKind, QueryKeyNorm, TensorNames,
    TensorValues,
};

/// Refuses what the search and the files have no form for.
pub(super) fn check_features(source: &ModelSource) -> Result<(), QuantizeError> {
    let ModelConfig { family, features, .. } = &source.config;
    let plain = Features { query_key_norm: None, ..features.clone() };
    let fuses = family.fuses_projections(&source.config);
    if plain.is_plain() && features.query_key_norm != Some(QueryKeyNorm::Row) && !fuses {
        return Ok(());
    }
    let mut why = features.in_words();
    why.extend(fuses.then_some("fused or transposed projections"));
    Err(QuantizeError::invalid(
        format!("{} is a {family} model, which is not quantised here ({})", source.name, why.join(", ")),
        "run it in `--dtype int8`, or take a checkpoint of it that is quantised already",
    ))
}

/// A block's tensors: linear layers rounded and packed, or in binary16 where there is no format for them, as norms and biases are.
pub(super) fn of_block(
    block: &Block,
    config: &ModelConfig,
    names: &BlockNames,
    packed: Option<(StoredFormat, Scheme)>,
) -> Result<Vec<Tensor>, QuantizeError> {
    let mut tensors = Vec::new();
    let [query_norm, key_norm] = block.query_key_norms.as_ref().map_or([None, None], |[q, k]| [Some(q), Some(k)]);
    for (name, found) in [
        (&names.attention_norm, block.attention_norm.as_ref()),
        (&names.mlp_norm, block.mlp_norm.as_ref()),
        (&names.query_key_norms[0], query_norm),
        (&names.query_key_norms[1], key_norm),
    ] {
        if let Some(found) = found {
            norm(&mut tensors, name, found)?;
        }
    }
    let mut shapes = names.linear_shapes(config).into_iter();
    for stacked in [&block.qkv, &block.output, &block.up, &block.down] {
        let mut first = 0;
        while first < stacked.outputs {
            let Some((name, [outputs, inputs])) = shapes.next() else { break };
            let rows = first..first + outputs;
            let weights = &values(stacked)[rows.start * inputs..rows.end * inputs];
            let shape = [outputs, inputs];
            match packed {
                None => tensors.push(half(format!("{name}.weight"), &shape, weights)?),
                Some((format, scheme)) => {
                    let codes = codes(weights, inputs, scheme);
                    tensors.extend(match format {
                        StoredFormat::Awq => awq(name, shape, &codes, scheme.group_of(inputs))?.into(),
                        StoredFormat::CompressedTensors => compressed_tensors::layer(name, shape, &codes, scheme)?,
                    });
                }
            }
            if let Some(bias) = &stacked.bias {
                tensors.push(half(format!("{name}.bias"), &[outputs], &bias[rows])?);
            }
            first += outputs;
        }
    }
    Ok(tensors)
}

/// A layer in `AutoAWQ`'s GEMM layout.
fn awq(
    name: &str,
    [outputs, inputs]: [usize; 2],
    codes: &Codes,
    group_size: usize,
) -> Result<[Tensor; 3], QuantizeError> {
    let packed =
        AwqTensor::pack(outputs, inputs, group_size, &codes.q, &codes.zeros, &codes.scales).map_err(|error| {
            let error = error.to_string();
            let (what, hint) = error.split_once("\nhint: ").unwrap_or((&error, "report this with the model's name"));
            QuantizeError::invalid(format!("{name} cannot be packed: {what}"), hint)
        })?;
    let groups = inputs / group_size;
    let words = |values: &[i32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let name_of = |part: &str| format!("{name}.{part}");
    Ok([
        Tensor::new(name_of("qweight"), "I32", &[inputs, outputs / 8], words(&packed.qweight)),
        Tensor::new(name_of("qzeros"), "I32", &[groups, outputs / 8], words(&packed.qzeros)),
        Tensor::new(name_of("scales"), "F16", &[groups, outputs], bytes(&packed.scales)),
    ])
}

fn norm(tensors: &mut Vec<Tensor>, name: &str, norm: &Norm) -> Result<(), QuantizeError> {
    tensors.push(half(format!("{name}.weight"), &[norm.weight.len()], &norm.weight)?);
    if let Some(bias) = &norm.bias {
        tensors.push(half(format!("{name}.bias"), &[bias.len()], bias)?);
    }
    Ok(())
}

/// Names of the tensors outside the blocks.
pub(super) fn outside_blocks(config: &ModelConfig, names: &TensorNames) -> Vec<String> {
    let mut all = vec![format!("{}.weight", names.embedding())];
    if matches!(config.position, PositionKind::Learned { .. }) {
        all.push(format!("{}.weight", names.positions()));
    }
    all.push(format!("{}.weight", names.final_norm()));
    if config.norm == NormKind::Layer {
        all.push(format!("{}.bias", names.final_norm()));
    }
    if !config.tied_embeddings {
        all.push(format!("{}.weight", names.output()));
    }
    all
}

/// A tensor of the source as it is, in binary16.
pub(super) fn copied(source: &ModelSource, name: &str) -> Result<Tensor, QuantizeError> {
    let data = source.tensors.read(name)?;
    match data.values {
        TensorValues::F32(values) => half(name.to_owned(), &data.shape, &values),
        TensorValues::Bf16(values) => {
            let values: Vec<f32> = values.into_iter().map(half::bf16::to_f32).collect();
            half(name.to_owned(), &data.shape, &values)
        }
        TensorValues::F16(values) => {
            check(name, values.iter().map(|value| value.to_f32()))?;
            Ok(Tensor::new(name.to_owned(), "F16", &data.shape, bytes(&values)))
        }
        TensorValues::I32(_) => Err(QuantizeError::invalid(
            format!("tensor {name} of {} holds packed codes, not weights", source.name),
            "quantise the full-precision model that it came from",
        )),
    }
}

/// Binary32 values in binary16, to nearest, ties to even.
fn half(name: String, shape: &[usize], values: &[f32]) -> Result<Tensor, QuantizeError> {
    check(&name, values.iter().copied())?;
    let mut rounded = vec![f16::ZERO; values.len()];
    rounded.convert_from_f32_slice(values);
    Ok(Tensor::new(name, "F16", shape, bytes(&rounded)))
}

/// A checkpoint in binary16 holds nothing that is not a number and nothing beyond its range.
fn check(name: &str, values: impl Iterator<Item = f32>) -> Result<(), QuantizeError> {
    match values.enumerate().find(|(_, value)| !f16::from_f32(*value).is_finite()) {
        None => Ok(()),
        Some((index, value)) => Err(QuantizeError::invalid(
            format!("tensor {name} holds {value} at element {index}, which binary16 cannot hold"),
            if value.is_finite() {
                "int4 checkpoints keep scales, norms, biases and embeddings in f16, and this model's do not fit into it"
            } else {
                "the file is damaged or the training diverged: fetch it again, or take another checkpoint"
            },
        )),
    }
}

fn bytes(values: &[f16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
