//! Weights of four and eight bits: codes for the small-batch path, and a dense copy for the large-batch path.
//!
//! A GEMM of many rows is bound by arithmetic, and tensor cores multiply binary16: there the codes would have to be unpacked again and
//! again. So both are held; `weight_bytes` counts both.

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::Buffer;
use super::device::Device;
use super::element::ElementType;
use super::layer::{Layer, Linear};
use super::load::{Transfer, transfer};
use super::ops::decode::{Packing, WeightsRef, pair_spans};
use super::ops::elementwise::Elementwise;
use super::ops::pack::{AwqShape, AwqSource, Pack, int8_code_bytes};
use crate::model::{AwqTensor, Layout, ModelSource, TensorNames, WeightFormat};
use crate::{Arithmetic, EngineError};

/// How a layout packs the linear layers within blocks.
pub(crate) fn packing(source: &ModelSource, format: WeightFormat) -> Packing {
    match format.entry().layout {
        Layout::Dense => Packing::Dense,
        Layout::Int8 => Packing::Int8,
        Layout::Int4 => Packing::Awq { group_size: source.quantization.as_ref().and_then(|config| config.group_size) },
    }
}

/// Layers of one model, and which of their linear layers are packed.
pub(crate) struct Packer<'a> {
    device: &'a Device,
    source: &'a ModelSource,
    layout: Layout,
    /// Of each, in the order of [`linears`]: the names of the parts, and whether they are packed.
    layers: Vec<[Stack; 4]>,
}

/// Projections of one input, one below the other.
struct Stack {
    /// With their outputs.
    parts: Vec<(String, usize)>,
    packed: bool,
    /// Rows between the two of a pair.
    span: usize,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(
        device: &'a Device,
        source: &'a ModelSource,
        format: WeightFormat,
        layers: Range<usize>,
    ) -> Result<Self, EngineError> {
        let (config, names) = (&source.config, TensorNames::new(&source.config, &source.tensors.names()));
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        // The kernels read eight weights of one group at a time; checkpoints with smaller groups run from dense copies.
        let group_size = source.quantization.as_ref().and_then(|config| config.group_size);
        let fits = [config.hidden, q, config.intermediate].iter().all(|inputs| inputs.is_multiple_of(8))
            && group_size.is_none_or(|group_size| group_size.is_multiple_of(8));
        let layout = format.entry().layout;
        if layout == Layout::Int8 && !fits {
            let name = format.name();
            return Err(EngineError::invalid(
                format!("{} has layers whose inputs are no multiple of 8, which {name} on a GPU needs", source.name),
                format!("run {name} with `--engine cpu`"),
            ));
        }
        let spans = pair_spans(config);
        let stack = |parts: Vec<(String, usize)>, span| {
            let packed = match layout {
                Layout::Dense => false,
                Layout::Int8 => true,
                // A stack that is packed in part only stays dense.
                Layout::Int4 => fits && parts.iter().all(|(name, _)| source.tensors.is_packed(name)),
            };
            Stack { parts, packed, span }
        };
        let layers = layers.map(|layer| {
            let names = names.block(layer);
            [
                stack(names.qkv.into_iter().zip([q, kv, kv]).collect(), spans[0]),
                stack(vec![(names.output, config.hidden)], spans[1]),
                stack(names.up.into_iter().map(|name| (name, config.intermediate)).collect(), spans[2]),
                stack(vec![(names.down, config.hidden)], spans[3]),
            ]
        });
        Ok(Self { device, source, layout, layers: layers.collect() })
    }

    /// Whether the dense copy of this tensor is made from codes.
    pub(crate) fn makes(&self, tensor: &str) -> bool {
        let stacks = self.layers.iter().flatten().filter(|stack| stack.packed);
        tensor
            .strip_suffix(".weight")
            .is_some_and(|layer| stacks.flat_map(|stack| &stack.parts).any(|(name, _)| name == layer))
    }

    /// Packs what is to be packed of the same layers, fills the dense copies, and sets the codes' addresses in `layers`. The returned buffers own them.
    pub(crate) fn pack(&self, layers: &mut [Layer]) -> Result<Vec<Buffer>, EngineError> {
        if self.layers.iter().flatten().all(|stack| !stack.packed) {
            return Ok(Vec::new());
        }
        let pack = Pack::load(self.device)?;
        let stacks = layers.iter_mut().zip(&self.layers);
        let stacks: Vec<(&mut Linear, &Stack)> = stacks
            .flat_map(|(layer, stacks)| linears(layer).into_iter().zip(stacks))
            .filter(|(_, stack)| stack.packed)
            .collect();
        match self.layout {
            Layout::Dense => Ok(Vec::new()),
            Layout::Int8 => self.int8(&pack, stacks),
            Layout::Int4 => self.int4(&pack, stacks),
        }
    }

    fn int8(&self, pack: &Pack, stacks: Vec<(&mut Linear, &Stack)>) -> Result<Vec<Buffer>, EngineError> {
        let device = self.device;
        // Codes are rounded from the values as the files hold them, not from values that binary16 has rounded before.
        let elementwise = Elementwise::load(device, &self.source.config, ElementType::F32)?;
        let mut buffers = Vec::new();
        for (linear, stack) in stacks {
            let (outputs, inputs) = (linear.outputs, linear.inputs);
            let exact = Buffer::new(device, outputs * inputs * size_of::<f32>())?;
            let mut row = 0;
            let mut transfers = Vec::new();
            for (name, outputs) in &stack.parts {
                let to = exact.at(row * inputs * size_of::<f32>());
                transfers.push(Transfer { name: format!("{name}.weight"), shape: vec![*outputs, inputs], to });
                row += outputs;
            }
            transfer(device, self.source, Arithmetic::F32, &elementwise, &transfers)?;
            let (codes, scales) = (
                Buffer::new(device, int8_code_bytes(outputs, inputs))?,
                Buffer::new(device, outputs * size_of::<f32>())?,
            );
            let packed = (codes.pointer(), scales.pointer());
            pack.int8(device, (exact.pointer(), ElementType::F32), [outputs, inputs], packed)?;
            pack.int8_dense(device, packed, [outputs, inputs], linear.weights)?;
            device.synchronize()?;
            linear.packed = Some(WeightsRef::Int8 { codes: packed.0, scales: packed.1 });
            buffers.extend([codes, scales]);
        }
        Ok(buffers)
    }

    fn int4(&self, pack: &Pack, stacks: Vec<(&mut Linear, &Stack)>) -> Result<Vec<Buffer>, EngineError> {
        let device = self.device;
        let read = |stack: &Stack| -> Result<Vec<AwqTensor>, EngineError> {
            let tensors = stack.parts.iter().filter_map(|(name, _)| self.source.tensors.read_packed(name).transpose());
            tensors.collect()
        };
        let tensors: Vec<Vec<AwqTensor>> = stacks.par_iter().map(|(_, stack)| read(stack)).collect::<Result<_, _>>()?;
        let mut buffers = Vec::new();
        for ((linear, stack), parts) in stacks.into_iter().zip(tensors) {
            let (outputs, inputs) = (linear.outputs, linear.inputs);
            let group_size = parts.first().map_or(inputs, |part| part.group_size);
            let shape = AwqShape { outputs, inputs, group_size, span: stack.span };
            let codes = Buffer::new(device, shape.code_bytes())?;
            let groups = Buffer::new(device, shape.group_bytes())?;
            let packed = (codes.pointer(), groups.pointer());
            let mut first_output = 0;
            for part in &parts {
                let qweight = Buffer::of(device, &part.qweight)?;
                let (qzeros, scales) = (Buffer::of(device, &part.qzeros)?, Buffer::of(device, &part.scales)?);
                let source = AwqSource {
                    outputs: part.outputs,
                    qweight: qweight.pointer(),
                    qzeros: qzeros.pointer(),
                    scales: scales.pointer(),
                };
                pack.awq(device, &shape, &source, packed, first_output)?;
                // The copy in the checkpoint's layout is freed at the end of this iteration.
                device.synchronize()?;
                first_output += part.outputs;
            }
            pack.awq_dense(device, &shape, packed, linear.weights)?;
            linear.packed = Some(WeightsRef::Awq { codes: packed.0, groups: packed.1, group_size });
            buffers.extend([codes, groups]);
        }
        device.synchronize()?;
        Ok(buffers)
    }
}

/// A block's linear layers, in the order of the forward pass.
fn linears(layer: &mut Layer) -> [&mut Linear; 4] {
    [&mut layer.qkv, &mut layer.output, &mut layer.up, &mut layer.down]
}
