//! A model's weights in device memory: one allocation, every matrix at an address of its own.

use std::ops::Range;

use super::buffer::Buffer;
use super::device::Device;
use super::element::ElementType;
use super::layer::{ExpertLayer, Layer, Linear};
use super::load::{Transfer, transfer};
use super::ops::elementwise::{Elementwise, NormWeights, PositionTables};
use super::ops::experts::ExpertMatrices;
use super::packing::Packer;
use crate::model::{
    ExpertNames, Experts, LayerKind, ModelConfig, ModelSource, NormKind, PositionKind, Rotary, TensorNames,
};
use crate::{Dtype, EngineError};

/// Matrices begin at multiples of this, so that every kernel may load its widest words.
const ALIGNMENT: usize = 256;

/// All weights of a model, in device memory.
#[derive(Debug)]
pub(crate) struct DeviceWeights {
    /// Holds what the addresses below point to.
    arena: Buffer,
    /// Hold the tables of angles.
    angles: Vec<Buffer>,
    /// Holds packed weights.
    packed: Vec<Buffer>,
    /// element `[vocabulary, hidden]`.
    pub(crate) embedding: u64,
    pub(crate) positions: PositionTables,
    /// Those of windowed layers, where they are others.
    windowed_positions: Option<PositionTables>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: NormWeights,
    /// The output projection; the embedding where they are tied.
    pub(crate) head: Linear,
}

impl DeviceWeights {
    /// Reads every tensor and rounds it to the run's precision.
    pub(crate) fn load(
        device: &Device,
        source: &ModelSource,
        dtype: Dtype,
        elementwise: &Elementwise,
    ) -> Result<Self, EngineError> {
        // The same walk twice: once to learn the size, once with the addresses.
        let element = elementwise.element();
        let mut layout = Layout::new(source, element, 0);
        let _ = layout.everything();
        let (size, memory) = (layout.size, device.memory()?);
        if size > memory.free {
            return Err(memory.too_little(&device.name, &format!("{} in {dtype}", source.name), size));
        }
        let arena = Buffer::new(device, size)?;
        let mut layout = Layout::new(source, element, arena.pointer());
        let places = layout.everything();
        let Places { embedding, learned, mut layers, final_norm, head } = places;
        let packer = Packer::new(device, source, dtype.format, 0..layers.len())?;
        // A packed layer's dense copy is made from its codes.
        let transfers: Vec<Transfer> =
            layout.transfers.into_iter().filter(|transfer| !packer.makes(&transfer.name)).collect();
        transfer(device, source, dtype.arithmetic, elementwise, &transfers)?;
        let packed = packer.pack(&mut layers)?;
        let mut positions = PositionTables { learned, ..PositionTables::default() };
        let (mut angles, mut windowed_positions) = (Vec::new(), None);
        if let Some(rotary) = Rotary::of(&source.config) {
            angles.push(positions.rotate(device, &source.config, &rotary)?);
        }
        if let Some(rotary) = Rotary::of_windowed(&source.config) {
            let tables = windowed_positions.insert(PositionTables::default());
            angles.push(tables.rotate(device, &source.config, &rotary)?);
        }
        Ok(Self { arena, angles, packed, embedding, positions, windowed_positions, layers, final_norm, head })
    }

    /// What depends on positions in a layer of this kind.
    pub(crate) fn positions_of(&self, kind: LayerKind) -> &PositionTables {
        self.windowed_positions.as_ref().filter(|_| kind.windowed).unwrap_or(&self.positions)
    }

    /// Reads one layer anew, from another checkpoint of the model, into the places of its own. It is dense from then on for whoever asks:
    /// what the fused decode kernel reads is not made.
    pub(crate) fn reload_layer(
        &self,
        device: &Device,
        (source, dtype): (&ModelSource, Dtype),
        elementwise: &Elementwise,
        layer: usize,
    ) -> Result<(), EngineError> {
        let mut layout = Layout::new(source, elementwise.element(), self.arena.pointer());
        let mut layers = layout.everything().layers;
        let packer = Packer::new(device, source, dtype.format, layer..layer + 1)?;
        let own = layout.of_layers.get(layer).cloned().unwrap_or_default();
        let transfers = layout.transfers.drain(own).filter(|transfer| !packer.makes(&transfer.name));
        let transfers: Vec<Transfer> = transfers.collect();
        transfer(device, source, dtype.arithmetic, elementwise, &transfers)?;
        // Dense copies lie in the arena; the codes that they were made of go.
        packer.pack(&mut layers[layer..=layer]).map(|_| ())
    }

    /// Bytes of device memory.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.bytes()
            + self.angles.iter().map(Buffer::bytes).sum::<usize>()
            + self.packed.iter().map(Buffer::bytes).sum::<usize>()
    }
}

impl PositionTables {
    /// Takes cosines and sines of every position, f32 `[2, context, rotated / 2]` in the buffer that is returned.
    fn rotate(&mut self, device: &Device, config: &ModelConfig, rotary: &Rotary) -> Result<Buffer, EngineError> {
        let positions: Vec<usize> = (0..config.context_tokens).collect();
        let (cosines, sines) = rotary.cos_sin(&positions);
        let buffer = Buffer::of(device, &[cosines.as_slice(), sines.as_slice()].concat())?;
        self.cosines = buffer.pointer();
        self.sines = buffer.at(size_of_val(cosines.as_slice()));
        Ok(buffer)
    }
}

/// What [`DeviceWeights`] holds, as addresses.
struct Places {
    embedding: u64,
    learned: u64,
    layers: Vec<Layer>,
    final_norm: NormWeights,
    head: Linear,
}

/// Gives every tensor its place, in the order of the forward pass.
struct Layout<'a> {
    config: &'a ModelConfig,
    names: TensorNames,
    element: ElementType,
    base: u64,
    size: usize,
    transfers: Vec<Transfer>,
    /// Which of them are a layer's.
    of_layers: Vec<Range<usize>>,
}

impl<'a> Layout<'a> {
    fn new(source: &'a ModelSource, element: ElementType, base: u64) -> Self {
        let names = TensorNames::new(&source.config, &source.tensors.names());
        Self { config: &source.config, names, element, base, size: 0, transfers: Vec::new(), of_layers: Vec::new() }
    }

    fn everything(&mut self) -> Places {
        let config = self.config;
        let (vocabulary, hidden) = (config.vocabulary, config.hidden);
        let embedding = self.tensors(&[(&self.names.embedding(), vocabulary)], "weight", Some(hidden));
        let learned = match config.position {
            PositionKind::Learned { offset } => {
                self.tensors(&[(&self.names.positions(), config.context_tokens + offset)], "weight", Some(hidden))
            }
            PositionKind::Rotary { .. } => 0,
        };
        let layers = (0..config.layers).map(|layer| self.layer(layer)).collect();
        let final_norm = self.norm(&self.names.final_norm(), hidden);
        let head = if config.tied_embeddings {
            embedding
        } else {
            self.tensors(&[(&self.names.output(), vocabulary)], "weight", Some(hidden))
        };
        let head = Linear { outputs: vocabulary, inputs: hidden, weights: head, bias: 0, packed: None };
        Places { embedding, learned, layers, final_norm, head }
    }

    fn layer(&mut self, layer: usize) -> Layer {
        let first = self.transfers.len();
        let (config, names) = (self.config, self.names.block(layer));
        let (hidden, intermediate) = (config.hidden, config.intermediate);
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let [query, key, value] = &names.qkv;
        let up: Vec<(&str, usize)> = names.up.iter().map(|name| (name.as_str(), intermediate)).collect();
        let (before, after) = (config.features.has_norms_before(), config.features.has_norms_after());
        let absent = NormWeights { weight: 0, bias: 0, epsilon: 0.0 };
        let experts = config.experts_of(layer);
        let dense = experts.is_none();
        let of_experts = self.names.experts(layer);
        let layer = Layer {
            attention_norm: if before { self.norm(&names.attention_norm, hidden) } else { absent },
            qkv: self.linear(&[(query, q), (key, kv), (value, kv)], hidden, config.qkv_bias),
            query_key_norms: config.query_key_norms().map(|[query, key]| {
                let [of_queries, of_keys] = &names.query_key_norms;
                [self.norm(of_queries, query), self.norm(of_keys, key)]
            }),
            sinks: if config.features.attention_sinks {
                self.tensors(&[(&names.sinks, config.heads)], "", None)
            } else {
                0
            },
            output: self.linear(&[(&names.output, hidden)], q, config.output_bias),
            attention_after: after.then(|| self.norm(&names.attention_after, hidden)),
            mlp_norm: if before { self.norm(&names.mlp_norm, hidden) } else { absent },
            up: if dense { self.linear(&up, hidden, config.mlp_bias) } else { Linear::ABSENT },
            down: if dense {
                self.linear(&[(&names.down, hidden)], intermediate, config.mlp_bias)
            } else {
                Linear::ABSENT
            },
            experts: experts.map(|experts| self.experts(experts, &of_experts)),
            mlp_after: after.then(|| self.norm(&names.mlp_after, hidden)),
        };
        self.of_layers.push(first..self.transfers.len());
        layer
    }

    fn experts(&mut self, experts: Experts, names: &ExpertNames) -> ExpertLayer {
        let (hidden, inside) = (self.config.hidden, experts.intermediate);
        let mlps: Vec<[String; 3]> = (0..experts.count).map(|expert| names.mlp(Some(expert))).collect();
        let up: Vec<(&str, usize)> =
            mlps.iter().flat_map(|[gate, up, _]| [(gate.as_str(), inside), (up.as_str(), inside)]).collect();
        let down: Vec<(&str, usize)> = mlps.iter().map(|[.., down]| (down.as_str(), hidden)).collect();
        ExpertLayer {
            router: self.linear(&[(&names.router, experts.count)], hidden, experts.biased),
            up: ExpertMatrices {
                outputs: 2 * inside,
                inputs: hidden,
                weights: self.tensors(&up, "weight", Some(hidden)),
                bias: if experts.biased { self.tensors(&up, "bias", None) } else { 0 },
            },
            down: ExpertMatrices {
                outputs: hidden,
                inputs: inside,
                weights: self.tensors(&down, "weight", Some(inside)),
                bias: if experts.biased { self.tensors(&down, "bias", None) } else { 0 },
            },
            shared: experts.shared.map(|width| {
                let [gate, up, down] = names.mlp(None);
                let up = self.linear(&[(&gate, width), (&up, width)], hidden, false);
                let down = self.linear(&[(&down, hidden)], width, false);
                (up, down, self.tensors(&[(&names.shared_gate, 1)], "weight", Some(hidden)))
            }),
        }
    }

    fn linear(&mut self, parts: &[(&str, usize)], inputs: usize, bias: bool) -> Linear {
        let outputs = parts.iter().map(|(_, outputs)| outputs).sum();
        let weights = self.tensors(parts, "weight", Some(inputs));
        let bias = if bias { self.tensors(parts, "bias", None) } else { 0 };
        Linear { outputs, inputs, weights, bias, packed: None }
    }

    fn norm(&mut self, name: &str, width: usize) -> NormWeights {
        let weight = self.tensors(&[(name, width)], "weight", None);
        let bias = if self.config.norm == NormKind::Layer { self.tensors(&[(name, width)], "bias", None) } else { 0 };
        NormWeights { weight, bias, epsilon: self.config.norm_epsilon as f32 }
    }

    /// Tensors of `(name, rows)` one below the other; the address of the first. Their names end with the kind, where there is one.
    fn tensors(&mut self, parts: &[(&str, usize)], kind: &str, columns: Option<usize>) -> u64 {
        self.size = self.size.next_multiple_of(ALIGNMENT);
        let first = self.base + self.size as u64;
        for (name, rows) in parts {
            let shape: Vec<usize> = std::iter::once(*rows).chain(columns).collect();
            let count: usize = shape.iter().product();
            let to = self.base + self.size as u64;
            let name = if kind.is_empty() { (*name).to_owned() } else { format!("{name}.{kind}") };
            self.transfers.push(Transfer { name, shape, to });
            self.size += count * self.element.bytes();
        }
        first
    }
}
