//! Checkpoints that hold several projections as one tensor, or a projection transposed, under the names of the single ones.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use half::{bf16, f16};

use super::facts::FusedTensor;
use super::files::read_failure;
use super::weights::OpenedWeights;
use super::{ModelConfig, RawTensor, TensorData, TensorNames, TensorPlace, TensorValues, Tensors, WeightFormat};
use crate::EngineError;

/// Refuses packed weights of a family whose files fuse projections: what is packed there is no single one.
pub(super) fn refuse_packed(config: &ModelConfig, format: WeightFormat, place: &str) -> Result<(), EngineError> {
    if !config.family.fuses_projections(config) {
        return Ok(());
    }
    Err(EngineError::invalid(
        format!("{place} holds {} weights of {}, whose projections are fused", format.name(), config.family),
        "take the model in full precision, or in a format that is read as dense weights (compressed-tensors, GPTQ)",
    ))
}

impl ModelConfig {
    /// Name and shape of every tensor that a checkpoint of this model holds, dense, fused and transposed as its family has them.
    pub fn stored_tensors(&self) -> Vec<(String, Vec<usize>)> {
        let fused = (self.family.entry().fused)(self);
        let names = TensorNames::new(self, &[]);
        let mut tensors: Vec<(String, Vec<usize>)> = names.clone().tensors(self).collect();
        for layer in 0..self.layers {
            for tensor in &fused {
                for kind in ["weight", "bias"] {
                    let name = |part: &str| format!("{}.{kind}", names.in_block(layer, part));
                    tensor.fuse(&name, &mut tensors);
                }
            }
        }
        self.stack_experts(&mut tensors);
        tensors
    }
}

/// Where a single projection lies in a fused tensor.
struct Part {
    stored: String,
    transposed: bool,
    outputs: Vec<Range<usize>>,
    shape: Vec<usize>,
}

/// A checkpoint's tensors, with the single projections in place of the fused ones.
struct SingleTensors {
    stored: Box<dyn Tensors>,
    parts: BTreeMap<String, Part>,
}

/// Puts the single projections of `config` in place of the fused ones, where the files have those; `place` names the files.
pub(super) fn open(config: &ModelConfig, opened: OpenedWeights, place: &str) -> Result<OpenedWeights, EngineError> {
    let fused = (config.family.entry().fused)(config);
    if fused.is_empty() {
        return Ok(opened);
    }
    let OpenedWeights { tensors: stored, mut shapes, stored_as, bytes } = opened;
    let names = TensorNames::new(config, &shapes.keys().cloned().collect::<Vec<_>>());
    let mut parts = BTreeMap::new();
    for layer in 0..config.layers {
        let before = parts.len();
        for tensor in &fused {
            for kind in ["weight", "bias"] {
                let name = |part: &str| format!("{}.{kind}", names.in_block(layer, part));
                if let Some(shape) = shapes.remove(&name(tensor.stored)) {
                    tensor.split(&name, &shape, place, &mut parts)?;
                }
            }
        }
        // A damaged config may claim more blocks than fit into memory.
        if parts.len() == before {
            break;
        }
    }
    shapes.extend(parts.iter().map(|(name, part)| (name.clone(), part.shape.clone())));
    let tensors = Box::new(SingleTensors { stored, parts });
    Ok(OpenedWeights { tensors, shapes, stored_as, bytes })
}

impl FusedTensor {
    /// Puts the stored tensor in the place of the first of its parts, where these are among `tensors`.
    fn fuse(&self, name: &dyn Fn(&str) -> String, tensors: &mut Vec<(String, Vec<usize>)>) {
        let parts: Vec<String> = self.parts.iter().map(|(part, _)| name(part)).collect();
        let Some(first) = tensors.iter().position(|(name, _)| parts.contains(name)) else { return };
        let mut shape = vec![self.parts.iter().flat_map(|(_, outputs)| outputs).map(Range::len).sum()];
        shape.extend(tensors[first].1.get(1));
        if self.transposed {
            shape.reverse();
        }
        tensors[first] = (name(self.stored), shape);
        let stored = tensors[first].0.clone();
        tensors.retain(|(name, _)| *name == stored || !parts.contains(name));
    }

    /// Adds the parts of one stored tensor of this shape.
    fn split(
        &self,
        name: &dyn Fn(&str) -> String,
        shape: &[usize],
        place: &str,
        parts: &mut BTreeMap<String, Part>,
    ) -> Result<(), EngineError> {
        let expected: usize = self.parts.iter().flat_map(|(_, outputs)| outputs).map(Range::len).sum();
        let (outputs, inputs, transposed) = match *shape {
            [outputs] => (outputs, None, false),
            [inputs, outputs] if self.transposed => (outputs, Some(inputs), true),
            [outputs, inputs] => (outputs, Some(inputs), false),
            _ => (0, None, false),
        };
        let stored = name(self.stored);
        if outputs != expected {
            return Err(EngineError::invalid(
                format!(
                    "tensor `{stored}` in {place} has shape {shape:?}, but the config calls for {expected} outputs"
                ),
                "take the weights and config.json from one repository and one revision",
            ));
        }
        for (part, outputs) in &self.parts {
            let shape = std::iter::once(outputs.iter().map(Range::len).sum()).chain(inputs).collect();
            let part_of = Part { stored: stored.clone(), transposed, outputs: outputs.clone(), shape };
            parts.insert(name(part), part_of);
        }
        Ok(())
    }
}

impl Part {
    /// Its elements out of a stored tensor that lies in a file as it is, of whose bytes no others are read.
    fn read(&self, place: &TensorPlace<'_>) -> io::Result<TensorValues> {
        match place.element {
            "f32" => self.gather(place, f32::from_le_bytes).map(TensorValues::F32),
            "f16" => self.gather(place, f16::from_le_bytes).map(TensorValues::F16),
            _ => self.gather(place, bf16::from_le_bytes).map(TensorValues::Bf16),
        }
    }

    fn gather<T: Copy, const N: usize>(&self, place: &TensorPlace<'_>, from: fn([u8; N]) -> T) -> io::Result<Vec<T>> {
        let inputs = self.shape.get(1).copied().unwrap_or(1);
        let mut values = Vec::with_capacity(self.shape.iter().product());
        // Element numbers that follow one another in the file.
        let mut read = |run: Range<usize>| -> io::Result<()> {
            let bytes = place.blob.read_at(place.offset + (run.start * N) as u64, run.len() * N)?;
            values.extend(bytes.as_chunks::<N>().0.iter().map(|element| from(*element)));
            Ok(())
        };
        if !self.transposed {
            for outputs in &self.outputs {
                read(outputs.start * inputs..outputs.end * inputs)?;
            }
            return Ok(values);
        }
        let stored_outputs = place.bytes as usize / N / inputs.max(1);
        for row in 0..inputs {
            for outputs in &self.outputs {
                read(row * stored_outputs + outputs.start..row * stored_outputs + outputs.end)?;
            }
        }
        let outputs = self.shape[0];
        let column = |output: usize| values.iter().copied().skip(output).step_by(outputs.max(1));
        Ok((0..outputs).flat_map(column).collect())
    }

    /// Its elements out of those of the stored tensor, which has so many outputs.
    fn take<T: Copy>(&self, values: &[T], stored_outputs: usize) -> Vec<T> {
        let inputs = self.shape.get(1).copied().unwrap_or(1);
        let mut taken = Vec::with_capacity(self.shape.iter().product());
        for output in self.outputs.iter().flat_map(Clone::clone) {
            if self.transposed {
                taken.extend((0..inputs).map(|input| values[input * stored_outputs + output]));
            } else {
                taken.extend_from_slice(&values[output * inputs..(output + 1) * inputs]);
            }
        }
        taken
    }
}

impl Tensors for SingleTensors {
    fn names(&self) -> Vec<String> {
        let fused: BTreeSet<&String> = self.parts.values().map(|part| &part.stored).collect();
        let mut names = self.stored.names();
        names.retain(|name| !fused.contains(name));
        names.extend(self.parts.keys().cloned());
        names.sort_unstable();
        names
    }

    fn read(&self, name: &str) -> Result<TensorData, EngineError> {
        let Some(part) = self.parts.get(name) else { return self.stored.read(name) };
        if let Some(place) = self.stored.place(&part.stored) {
            let values = part.read(&place).map_err(|source| read_failure(&place.blob.path(), source))?;
            return Ok(TensorData { shape: part.shape.clone(), values });
        }
        let TensorData { shape, values } = self.stored.read(&part.stored)?;
        let outputs = shape.get(usize::from(part.transposed)).copied().unwrap_or(1);
        let values = match values {
            TensorValues::F32(values) => TensorValues::F32(part.take(&values, outputs)),
            TensorValues::F16(values) => TensorValues::F16(part.take(&values, outputs)),
            TensorValues::Bf16(values) => TensorValues::Bf16(part.take(&values, outputs)),
            TensorValues::I32(values) => TensorValues::I32(part.take(&values, outputs)),
        };
        Ok(TensorData { shape: part.shape.clone(), values })
    }

    fn element(&self, name: &str) -> Option<&str> {
        self.stored.element(self.parts.get(name).map_or(name, |part| &part.stored))
    }

    fn raw(&self, name: &str) -> Result<RawTensor, EngineError> {
        self.stored.raw(name)
    }

    fn place(&self, name: &str) -> Option<TensorPlace<'_>> {
        let Some(part) = self.parts.get(name) else { return self.stored.place(name) };
        let stored = self.stored.place(&part.stored)?;
        let [outputs] = &part.outputs[..] else { return None };
        if part.transposed {
            return None;
        }
        let count: usize = part.shape.iter().product();
        let element = if stored.element == "f32" { size_of::<f32>() } else { size_of::<half::f16>() };
        let row = (count / outputs.len().max(1) * element) as u64;
        Some(TensorPlace {
            offset: stored.offset + outputs.start as u64 * row,
            bytes: outputs.len() as u64 * row,
            ..stored
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Blob;
    use crate::model::Family;

    fn part(outputs: &[Range<usize>], inputs: usize, transposed: bool) -> Part {
        let rows = outputs.iter().map(Range::len).sum();
        Part { stored: String::new(), transposed, outputs: outputs.to_vec(), shape: vec![rows, inputs] }
    }

    #[test]
    fn tensors_are_listed_as_files_hold_them() {
        let stored = |family| ModelConfig::example(family).unwrap().stored_tensors();
        let shape =
            |family, name: &str| stored(family).into_iter().find(|(found, _)| found == name).map(|(_, shape)| shape);
        assert_eq!(shape(Family::Phi3, "model.layers.1.self_attn.qkv_proj.weight").unwrap(), [128, 64]);
        assert_eq!(shape(Family::Phi3, "model.layers.1.mlp.gate_up_proj.weight").unwrap(), [256, 64]);
        assert_eq!(shape(Family::Gpt2, "transformer.h.1.attn.c_attn.weight").unwrap(), [64, 192]);
        assert_eq!(shape(Family::Gpt2, "transformer.h.1.attn.c_attn.bias").unwrap(), [192]);
        assert_eq!(shape(Family::Gpt2, "transformer.h.1.mlp.c_proj.weight").unwrap(), [256, 64]);
        assert_eq!(shape(Family::GptNeoX, "gpt_neox.layers.0.attention.query_key_value.weight").unwrap(), [192, 64]);
        assert!(stored(Family::Phi3).iter().all(|(name, _)| !name.contains("q_proj")));
    }

    #[test]
    fn parts_are_taken_output_by_output() {
        // [outputs 6, inputs 2]: output o holds 10 o and 10 o + 1.
        let values: Vec<u32> = (0..6).flat_map(|output| [10 * output, 10 * output + 1]).collect();
        assert_eq!(part(std::slice::from_ref(&(2..4)), 2, false).take(&values, 6), [20, 21, 30, 31]);
        assert_eq!(part(&[0..1, 3..4], 2, false).take(&values, 6), [0, 1, 30, 31]);
        let transposed: Vec<u32> = (0..2).flat_map(|input| (0..6).map(move |output| 10 * output + input)).collect();
        assert_eq!(part(std::slice::from_ref(&(2..4)), 2, true).take(&transposed, 6), [20, 21, 30, 31]);
    }

    #[test]
    fn a_part_is_read_from_its_own_bytes_alone() {
        let element = |output: usize, input: usize| (10 * output + input) as f32;
        let rows: Vec<f32> = (0..6).flat_map(|output| (0..2).map(move |input| element(output, input))).collect();
        let columns: Vec<f32> = (0..2).flat_map(|input| (0..6).map(move |output| element(output, input))).collect();
        let wanted = [0.0, 1.0, 30.0, 31.0, 40.0, 41.0];
        let (file, outputs) = (tempfile::NamedTempFile::new().unwrap(), [0..1, 3..5]);
        for (stored, transposed, own) in
            [(&rows, false, [0..2, 6..10].as_slice()), (&columns, true, &[0..1, 3..5, 6..7, 9..11])]
        {
            // Whatever is not the part's own is no number.
            let of_part = |at: usize| own.iter().any(|run| run.contains(&at));
            let kept = stored.iter().enumerate().map(|(at, value)| if of_part(at) { *value } else { f32::NAN });
            let kept: Vec<f32> = kept.collect();
            for element in ["f32", "f16", "bf16"] {
                let bytes: Vec<u8> = match element {
                    "f32" => kept.iter().flat_map(|value| value.to_le_bytes()).collect(),
                    "f16" => kept.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
                    _ => kept.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
                };
                // The tensor begins behind seven other bytes.
                std::fs::write(file.path(), [&[0xff; 7], bytes.as_slice()].concat()).unwrap();
                let blob = Blob::open(file.path()).unwrap();
                let place = TensorPlace { blob: &blob, offset: 7, bytes: bytes.len() as u64, element };
                let values = part(&outputs, 2, transposed).read(&place).unwrap();
                assert_eq!(values.name(), element);
                let values: Vec<f32> = match values {
                    TensorValues::F32(values) => values,
                    TensorValues::F16(values) => values.into_iter().map(f32::from).collect(),
                    TensorValues::Bf16(values) => values.into_iter().map(f32::from).collect(),
                    TensorValues::I32(_) => panic!("no floats"),
                };
                assert_eq!(values, wanted, "{element}, transposed: {transposed}");
            }
        }
    }
}
