//! Checkpoints with packed layers: these as they are for those who compute from them, and as dense tensors for everyone
//! else.

use std::collections::BTreeMap;

use super::entry::{CheckpointFormat, Found, PackedShape, Quantization};
use crate::EngineError;
use crate::fault::Fault;
use crate::model::AwqTensor;
use crate::model::weights::{OpenedWeights, TensorData, TensorPlace, TensorValues, Tensors};

/// A set of tensors whose packed layers also answer to the name of their weights: `read("….q_proj.weight")` gives the
/// exact values that the codes stand for, in f32.
pub(in crate::model) struct PackedTensors {
    format: &'static CheckpointFormat,
    stored: Box<dyn Tensors>,
    /// By name, without the ending of a part.
    layers: BTreeMap<String, PackedShape>,
    place: String,
}

impl PackedTensors {
    /// Finds the packed layers and holds the shapes of their parts against each other; the shapes that come back are
    /// those of the dense tensors.
    pub(in crate::model) fn open(
        opened: OpenedWeights,
        format: &'static CheckpointFormat,
        quantization: &Quantization,
        place: &str,
    ) -> Result<OpenedWeights, EngineError> {
        let OpenedWeights { tensors: stored, shapes: stored_shapes, bytes, .. } = opened;
        let found = Found { shapes: &stored_shapes, quantization, place };
        let mut layers = BTreeMap::new();
        let mut shapes = BTreeMap::new();
        for (name, shape) in &stored_shapes {
            match name.rsplit_once('.') {
                Some((layer, part)) if format.parts.contains(&part) => {
                    // Whichever part comes first finds the layer, or what is missing of it.
                    if !layers.contains_key(layer) {
                        layers.insert(layer.to_owned(), (format.find)(layer, &found)?);
                    }
                }
                Some((_, part)) => {
                    if let Some((_, layout)) = format.strangers.iter().find(|(stranger, _)| *stranger == part) {
                        return Err(another_layout(name, layout, format, place));
                    }
                    shapes.insert(name.clone(), shape.clone());
                }
                None => _ = shapes.insert(name.clone(), shape.clone()),
            }
        }
        if layers.is_empty() {
            let (title, part) = (format.title, format.parts[0]);
            return Err(EngineError::invalid(
                format!("no packed layer in {place}, though its config says {title}: no tensor ends in `.{part}`"),
                "take the weights and config.json from one repository and one revision",
            ));
        }
        for (name, layer) in &layers {
            shapes.insert(format!("{name}.weight"), vec![layer.outputs, layer.inputs]);
        }
        let stored_as = match quantization.group_size {
            Some(group) => format!("{} (group {group})", format.stored_as),
            None => format!("{} (one group a row)", format.stored_as),
        };
        let tensors = Box::new(Self { format, stored, layers, place: place.to_owned() });
        Ok(OpenedWeights { tensors, shapes, stored_as, bytes })
    }

    fn read_layer(&self, name: &str, layer: PackedShape) -> Result<AwqTensor, EngineError> {
        let tensor = (self.format.read)(name, layer, self.stored.as_ref(), &self.place)?;
        match tensor.check() {
            Ok(()) => Ok(tensor),
            Err(EngineError::Invalid(Fault { what, hint })) => {
                Err(EngineError::invalid(format!("layer `{name}` of {}: {what}", self.place), hint))
            }
            Err(other) => Err(other),
        }
    }
}

impl Tensors for PackedTensors {
    fn names(&self) -> Vec<String> {
        let packed = |name: &String| match name.rsplit_once('.') {
            Some((layer, part)) => part != "bias" && self.layers.contains_key(layer),
            None => false,
        };
        let mut names: Vec<String> = self.stored.names();
        names.retain(|name| !packed(name));
        names.extend(self.layers.keys().map(|layer| format!("{layer}.weight")));
        names.sort_unstable();
        names
    }

    fn read(&self, name: &str) -> Result<TensorData, EngineError> {
        let packed = name.strip_suffix(".weight").and_then(|name| self.layers.get_key_value(name));
        let Some((name, layer)) = packed else { return self.stored.read(name) };
        let values = TensorValues::F32(self.read_layer(name, *layer)?.dequantize());
        Ok(TensorData { shape: vec![layer.outputs, layer.inputs], values })
    }

    fn place(&self, name: &str) -> Option<TensorPlace<'_>> {
        let packed = name.strip_suffix(".weight").is_some_and(|layer| self.layers.contains_key(layer));
        if packed { None } else { self.stored.place(name) }
    }

    fn is_packed(&self, layer: &str) -> bool {
        self.layers.contains_key(layer)
    }

    fn read_packed(&self, layer: &str) -> Result<Option<AwqTensor>, EngineError> {
        self.layers.get(layer).map(|shape| self.read_layer(layer, *shape)).transpose()
    }
}

fn another_layout(name: &str, layout: &str, format: &CheckpointFormat, place: &str) -> EngineError {
    EngineError::invalid(
        format!("tensor `{name}` in {place} belongs to the layout {layout}, though the config says {}", format.title),
        format!("take a checkpoint in {}, or {}", format.reads, format.hint),
    )
}
