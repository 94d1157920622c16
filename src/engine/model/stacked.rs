//! Checkpoints that hold a projection of all of a layer's experts as one tensor, under the names of the single experts' projections.

use std::collections::BTreeMap;

use super::names::ExpertNames;
use super::weights::OpenedWeights;
use super::{AwqTensor, ModelConfig, RawTensor, TensorData, TensorNames, TensorPlace, TensorValues, Tensors};
use crate::EngineError;

/// The stored tensors of a layer: their names behind those of the experts, and which projections of each expert they hold.
const STORED: [(&str, &[&str]); 2] = [("gate_up_proj", &["gate_proj", "up_proj"]), ("down_proj", &["down_proj"])];

/// Where a projection of one expert lies.
struct Part {
    stored: String,
    expert: usize,
    /// Outputs first, first + step, … of the stored ones.
    first: usize,
    step: usize,
    /// `[outputs, inputs]`, or of a bias `[outputs]`.
    shape: Vec<usize>,
}

/// A checkpoint's tensors, with the single experts' in place of the stacked ones.
struct SingleExperts {
    stored: Box<dyn Tensors>,
    parts: BTreeMap<String, Part>,
}

impl ModelConfig {
    /// Puts the stacked tensors of every layer in the places of the single experts', where its family has them so.
    pub(super) fn stack_experts(&self, tensors: &mut Vec<(String, Vec<usize>)>) {
        let names = TensorNames::new(self, &[]);
        if !self.family.entry().names.stacked_experts {
            return;
        }
        for (layer, experts) in (0..self.layers).filter_map(|layer| Some((layer, self.experts_of(layer)?))) {
            let prefix = format!("{}.", names.experts(layer).prefix());
            let Some(first) = tensors.iter().position(|(name, _)| name.starts_with(&prefix)) else { continue };
            tensors.retain(|(name, _)| !name.starts_with(&prefix));
            let (count, hidden, inside) = (experts.count, self.hidden, experts.intermediate);
            let stacked = [
                ("gate_up_proj", vec![count, hidden, 2 * inside]),
                ("gate_up_proj_bias", vec![count, 2 * inside]),
                ("down_proj", vec![count, inside, hidden]),
                ("down_proj_bias", vec![count, hidden]),
            ];
            let stacked = stacked.into_iter().filter(|(name, _)| experts.biased || !name.ends_with("bias"));
            tensors.splice(first..first, stacked.map(|(name, shape)| (format!("{prefix}{name}"), shape)));
        }
    }
}

/// Puts the single experts of `config` in place of the stacked ones, where the files have those.
pub(super) fn open(config: &ModelConfig, opened: OpenedWeights) -> OpenedWeights {
    if !config.family.entry().names.stacked_experts {
        return opened;
    }
    let OpenedWeights { tensors: stored, mut shapes, stored_as, bytes } = opened;
    let names = TensorNames::new(config, &shapes.keys().cloned().collect::<Vec<_>>());
    let mut parts = BTreeMap::new();
    for layer in 0..config.layers {
        let before = parts.len();
        split(&names.experts(layer), &mut shapes, &mut parts);
        // A damaged config may claim more layers than fit into memory.
        if parts.len() == before {
            break;
        }
    }
    shapes.extend(parts.iter().map(|(name, part): (&String, &Part)| (name.clone(), part.shape.clone())));
    OpenedWeights { tensors: Box::new(SingleExperts { stored, parts }), shapes, stored_as, bytes }
}

/// Adds the parts of one layer, whose stored tensors are taken out of `shapes`. What has another shape is left there, and missed by name.
fn split(names: &ExpertNames, shapes: &mut BTreeMap<String, Vec<usize>>, parts: &mut BTreeMap<String, Part>) {
    let prefix = names.prefix();
    for (stem, projections) in STORED {
        for (ending, kind, dimensions) in [("", "weight", 3), ("_bias", "bias", 2)] {
            let stored = format!("{prefix}.{stem}{ending}");
            let Some(shape) = shapes.get(&stored).filter(|shape| shape.len() == dimensions).cloned() else { continue };
            shapes.remove(&stored);
            let step = projections.len();
            let outputs = shape[dimensions - 1] / step;
            let inputs = if kind == "weight" { Some(shape[1]) } else { None };
            for expert in 0..shape[0] {
                for (first, projection) in projections.iter().enumerate() {
                    let shape = std::iter::once(outputs).chain(inputs).collect();
                    let part = Part { stored: stored.clone(), expert, first, step, shape };
                    parts.insert(format!("{prefix}.{expert}.{projection}.{kind}"), part);
                }
            }
        }
    }
}

impl Part {
    /// Its elements out of those of its expert, `[inputs, outputs · step]`.
    fn take(&self, values: &[f32]) -> Vec<f32> {
        let (outputs, inputs) = (self.shape[0], self.shape.get(1).copied().unwrap_or(1));
        let stride = outputs * self.step;
        let mut taken = Vec::with_capacity(outputs * inputs);
        for output in 0..outputs {
            let at = self.first + output * self.step;
            taken.extend((0..inputs).map(|input| values[input * stride + at]));
        }
        taken
    }
}

impl Tensors for SingleExperts {
    fn names(&self) -> Vec<String> {
        let stacked: std::collections::BTreeSet<&String> = self.parts.values().map(|part| &part.stored).collect();
        let mut names = self.stored.names();
        names.retain(|name| !stacked.contains(name));
        names.extend(self.parts.keys().cloned());
        names.sort_unstable();
        names
    }

    fn read(&self, name: &str) -> Result<TensorData, EngineError> {
        let Some(part) = self.parts.get(name) else { return self.stored.read(name) };
        let raw = self.stored.raw_entry(&part.stored, part.expert)?;
        let expected = part.shape.iter().product::<usize>() * part.step;
        let values = raw.floats().filter(|values| values.len() == expected).ok_or_else(|| {
            EngineError::invalid(
                format!("tensor `{}` is stored as {}, or cut off", part.stored, raw.element),
                "F32, F16 and BF16 are read, and MXFP4 with a `quantization_config` that says so",
            )
        })?;
        Ok(TensorData { shape: part.shape.clone(), values: TensorValues::F32(part.take(&values)) })
    }

    fn element(&self, name: &str) -> Option<&str> {
        self.stored.element(self.parts.get(name).map_or(name, |part| &part.stored))
    }

    fn raw(&self, name: &str) -> Result<RawTensor, EngineError> {
        self.stored.raw(name)
    }

    fn place(&self, name: &str) -> Option<TensorPlace<'_>> {
        if self.parts.contains_key(name) { None } else { self.stored.place(name) }
    }

    fn is_packed(&self, layer: &str) -> bool {
        self.stored.is_packed(layer)
    }

    fn read_packed(&self, layer: &str) -> Result<Option<AwqTensor>, EngineError> {
        self.stored.read_packed(layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;

    #[test]
    fn an_experts_outputs_are_taken_from_where_they_lie() {
        // [inputs 2, outputs 6]: input i, output o holds 10 i + o; gate and up output by output.
        let values: Vec<f32> =
            (0..2).flat_map(|input| (0..6).map(move |output| (10 * input + output) as f32)).collect();
        let part =
            |first, shape: &[usize]| Part { stored: String::new(), expert: 0, first, step: 2, shape: shape.to_vec() };
        assert_eq!(part(0, &[3, 2]).take(&values), [0.0, 10.0, 2.0, 12.0, 4.0, 14.0]);
        assert_eq!(part(1, &[3, 2]).take(&values), [1.0, 11.0, 3.0, 13.0, 5.0, 15.0]);
        assert_eq!(part(1, &[3]).take(&values[..6]), [1.0, 3.0, 5.0]);
    }

    #[test]
    fn tensors_are_listed_as_files_hold_them() {
        let config = ModelConfig::example(Family::GptOss).unwrap();
        let experts = config.features.experts.unwrap();
        let stored = config.stored_tensors();
        let shape = |name: &str| stored.iter().find(|(found, _)| found == name).map(|(_, shape)| shape.clone());
        let inside = 2 * experts.intermediate;
        assert_eq!(shape("model.layers.1.mlp.experts.gate_up_proj").unwrap(), [experts.count, config.hidden, inside]);
        assert_eq!(shape("model.layers.0.mlp.experts.gate_up_proj_bias").unwrap(), [experts.count, inside]);
        assert_eq!(shape("model.layers.0.mlp.router.bias").unwrap(), [experts.count]);
        assert_eq!(shape("model.layers.0.self_attn.sinks").unwrap(), [config.heads]);
        assert!(stored.iter().all(|(name, _)| !name.contains("experts.0")));
    }
}
