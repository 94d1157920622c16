//! AWQ checkpoints: packed layers as they are for those who compute from them, and as dense tensors for everyone else.

use std::collections::BTreeMap;

use super::{OpenedWeights, TensorData, TensorPlace, TensorValues, Tensors};
use crate::engine::EngineError;
use crate::engine::model::{AwqConfig, AwqTensor};
use crate::fault::Fault;

/// The three tensors of a packed layer.
const PARTS: [&str; 3] = ["qweight", "qzeros", "scales"];

/// Other tensors that a quantised layer can consist of, and the layout that they belong to.
const STRANGERS: [(&str, &str); 3] =
    [("weight_packed", "compressed-tensors"), ("g_idx", "gptq"), ("weight_scale", "fp8 or int8")];

/// A set of tensors whose packed layers also answer to the name of their weights: `read("….q_proj.weight")` gives
/// (q − z) · s in f32, exactly.
pub(in crate::engine::model) struct AwqTensors {
    stored: Box<dyn Tensors>,
    /// By name, without `.qweight`.
    layers: BTreeMap<String, Layer>,
    place: String,
}

#[derive(Debug, Clone, Copy)]
struct Layer {
    outputs: usize,
    inputs: usize,
    group_size: usize,
}

impl AwqTensors {
    /// Finds the packed layers and holds their three shapes against each other; the shapes that come back are those of
    /// the dense tensors.
    pub(in crate::engine::model) fn open(
        opened: OpenedWeights,
        config: &AwqConfig,
        place: &str,
    ) -> Result<OpenedWeights, EngineError> {
        let OpenedWeights { tensors: stored, shapes: stored_shapes, .. } = opened;
        let mut layers = BTreeMap::new();
        let mut shapes = BTreeMap::new();
        for (name, shape) in &stored_shapes {
            match name.rsplit_once('.') {
                Some((layer, part)) if PARTS.contains(&part) => {
                    // Whichever part comes first finds the layer, or what is missing of it.
                    if !layers.contains_key(layer) {
                        layers.insert(layer.to_owned(), find_layer(layer, &stored_shapes, config, place)?);
                    }
                }
                Some((_, part)) if STRANGERS.iter().any(|(stranger, _)| *stranger == part) => {
                    return Err(another_layout(name, place));
                }
                _ => {
                    shapes.insert(name.clone(), shape.clone());
                }
            }
        }
        if layers.is_empty() {
            return Err(EngineError::invalid(
                format!("no packed layer in {place}, though its config says AWQ: no tensor ends in `.qweight`"),
                "take the weights and config.json from one repository and one revision",
            ));
        }
        for (name, layer) in &layers {
            shapes.insert(format!("{name}.weight"), vec![layer.outputs, layer.inputs]);
        }
        let tensors = Box::new(Self { stored, layers, place: place.to_owned() });
        Ok(OpenedWeights { tensors, shapes, stored_as: config.in_words() })
    }

    fn read_layer(&self, name: &str, layer: Layer) -> Result<AwqTensor, EngineError> {
        let [qweight, qzeros, scales] = PARTS.map(|part| format!("{name}.{part}"));
        let whole_numbers = |name: &str| match self.stored.read(name)?.values {
            TensorValues::I32(values) => Ok(values),
            other => Err(self.stored_otherwise(name, &other, "i32")),
        };
        let scales = match self.stored.read(&scales)?.values {
            TensorValues::F16(values) => values,
            other => return Err(self.stored_otherwise(&scales, &other, "f16")),
        };
        let tensor = AwqTensor {
            inputs: layer.inputs,
            outputs: layer.outputs,
            group_size: layer.group_size,
            qweight: whole_numbers(&qweight)?,
            qzeros: whole_numbers(&qzeros)?,
            scales,
        };
        match tensor.check() {
            Ok(()) => Ok(tensor),
            Err(EngineError::Invalid(Fault { what, hint })) => {
                Err(EngineError::invalid(format!("layer `{name}` of {}: {what}", self.place), hint))
            }
            Err(other) => Err(other),
        }
    }

    fn stored_otherwise(&self, name: &str, values: &TensorValues, needed: &str) -> EngineError {
        EngineError::invalid(
            format!(
                "tensor `{name}` of {} is stored as {}; the gemm layout has {needed} there",
                self.place,
                values.name()
            ),
            "take a checkpoint in AutoAWQ's gemm layout",
        )
    }
}

impl Tensors for AwqTensors {
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

    fn read_awq(&self, layer: &str) -> Result<Option<AwqTensor>, EngineError> {
        self.layers.get(layer).map(|shape| self.read_layer(layer, *shape)).transpose()
    }
}

/// A layer's dimensions by the shape of its `qweight`, with the other two held against it.
fn find_layer(
    name: &str,
    shapes: &BTreeMap<String, Vec<usize>>,
    config: &AwqConfig,
    place: &str,
) -> Result<Layer, EngineError> {
    let shape_of = |part: &str| {
        shapes.get(&format!("{name}.{part}")).map(Vec::as_slice).ok_or_else(|| {
            EngineError::invalid(
                format!("no tensor `{name}.{part}` in {place}: a packed layer has {}", PARTS.join(", ")),
                "fetch the weights again; a checkpoint without zero points or scales cannot be read",
            )
        })
    };
    let shape = shape_of("qweight")?;
    let [inputs, words] = *shape else {
        return Err(EngineError::invalid(
            format!("tensor `{name}.qweight` in {place} has shape {shape:?}, not [inputs, outputs / 8]"),
            "take a checkpoint in AutoAWQ's gemm layout",
        ));
    };
    let outputs = words.saturating_mul(8);
    let group_size = config.group_of(inputs);
    if group_size == 0 || !inputs.is_multiple_of(group_size) {
        return Err(EngineError::invalid(
            format!("layer `{name}` of {place} has {inputs} inputs, which do not divide into groups of {group_size}"),
            "the group size of config.json and the weights belong to different checkpoints, or the layout is another \
             (gemv has [outputs, inputs / 8])",
        ));
    }
    let groups = inputs / group_size;
    for (part, expected) in [("qzeros", [groups, words]), ("scales", [groups, outputs])] {
        let found = shape_of(part)?;
        if found != expected {
            return Err(EngineError::invalid(
                format!(
                    "tensor `{name}.{part}` in {place} has shape {found:?}, but `qweight` of shape {shape:?} in groups \
                     of {group_size} calls for {expected:?}"
                ),
                "the group size in config.json may be that of another checkpoint, or the layout is another (gemv has \
                 [outputs, inputs / 8])",
            ));
        }
    }
    Ok(Layer { outputs, inputs, group_size })
}

fn another_layout(name: &str, place: &str) -> EngineError {
    let part = name.rsplit('.').next().unwrap_or_default();
    let layout = STRANGERS.iter().find(|(stranger, _)| *stranger == part).map_or("another", |(_, layout)| layout);
    EngineError::invalid(
        format!("tensor `{name}` in {place} belongs to the layout {layout}, though the config says AWQ"),
        "take a checkpoint in AutoAWQ's gemm layout, or make one: `evalsuite quantize --model MODEL --out DIR`",
    )
}
