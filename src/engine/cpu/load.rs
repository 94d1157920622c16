//! From tensors on disk to layers in memory, checked and rounded to the run's precision.

use rayon::prelude::*;

use super::experts::ExpertLayer;
use super::linear::{Linear, Weights};
use super::ops::Norm;
use super::quantized::{Int4Weights, Int8Weights};
use crate::model::{
    AwqTensor, BlockNames, ExpertNames, Experts, LayerKind, Layout, ModelConfig, ModelSource, NormKind, PositionKind,
    Rotary, TensorNames,
};
use crate::{Arithmetic, EngineError, Precision};

/// One block of the decoder.
#[derive(Debug)]
pub struct Block {
    /// What is particular to the layer.
    pub kind: LayerKind,
    /// Before attention.
    pub attention_norm: Option<Norm>,
    /// q, k and v stacked: `[(heads + 2 · kv_heads) · head_dim, hidden]`.
    pub qkv: Linear,
    /// Of the queries and of the keys, before they are rotated.
    pub query_key_norms: Option<[Norm; 2]>,
    /// Scores of the heads that stand for no token.
    pub sinks: Option<Vec<f32>>,
    /// Out of attention: `[hidden, heads · head_dim]`.
    pub output: Linear,
    /// Behind attention.
    pub attention_after: Option<Norm>,
    /// Before the MLP.
    pub mlp_norm: Option<Norm>,
    /// gate and up stacked, or up alone; empty where there are experts.
    pub up: Linear,
    /// `[hidden, intermediate]`; empty where there are experts.
    pub down: Linear,
    /// In place of one MLP.
    pub experts: Option<ExpertLayer>,
    /// Behind the MLP.
    pub mlp_after: Option<Norm>,
}

/// Where positions enter.
#[derive(Debug)]
pub(crate) enum Positions {
    Rotary {
        rotary: Rotary,
        /// That of windowed layers, where it is another.
        windowed: Option<Rotary>,
    },
    /// `[positions + offset, hidden]`, read at position + offset.
    Learned { table: Weights, offset: usize },
}

/// A whole model in memory.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    /// What stored activations are rounded to.
    pub(crate) arithmetic: Arithmetic,
    /// `[vocabulary, hidden]`; also the output projection where embeddings are tied.
    pub(crate) embedding: Linear,
    pub(crate) positions: Positions,
    pub(crate) blocks: Vec<Block>,
    pub(crate) final_norm: Norm,
    /// The output projection, where it is a matrix of its own.
    pub(crate) head: Option<Linear>,
}

impl Model {
    /// Reads every tensor, blocks in parallel.
    pub(crate) fn load(source: &ModelSource, precision: Precision) -> Result<Self, EngineError> {
        source.check_format(precision.format)?;
        let mut model = Self::load_without_blocks(source, precision)?;
        let layers = 0..model.config.layers;
        model.blocks =
            layers.into_par_iter().map(|layer| Block::load(source, layer, precision)).collect::<Result<_, _>>()?;
        Ok(model)
    }

    /// Reads what lies outside the blocks; whoever works on one block at a time reads them with [`Block::load`].
    pub(crate) fn load_without_blocks(source: &ModelSource, precision: Precision) -> Result<Self, EngineError> {
        let config = source.config.clone();
        let names = TensorNames::new(&config, &source.tensors.names());
        let loader = Loader { source, config: &config, precision };
        let hidden = config.hidden;
        let embedding = loader.table(&names.embedding())?;
        let head = if config.tied_embeddings { None } else { Some(loader.table(&names.output())?) };
        let positions = match config.position {
            PositionKind::Rotary { theta, scaling } => {
                let usual = || Rotary::new(theta, scaling, config.rotated_elements());
                let rotary = Rotary::of(&config).unwrap_or_else(usual);
                Positions::Rotary { rotary, windowed: Rotary::of_windowed(&config) }
            }
            PositionKind::Learned { offset } => {
                let name = format!("{}.weight", names.positions());
                let table = source.values(&name, &[config.context_tokens + offset, hidden])?;
                Positions::Learned { table: loader.weights(&name, table)?, offset }
            }
        };
        let final_norm = loader.norm(&names.final_norm(), hidden)?;
        let (blocks, arithmetic) = (Vec::new(), precision.arithmetic);
        Ok(Self { config, arithmetic, embedding, positions, blocks, final_norm, head })
    }

    /// Bytes of weights in memory.
    pub(crate) fn weight_bytes(&self) -> usize {
        let linear = |linear: &Linear| linear.weights.bytes();
        let experts = |layer: &ExpertLayer| {
            let shared = layer.shared.iter().flat_map(|(mlp, gate)| mlp.iter().chain([gate]));
            let all = layer.experts.iter().flatten().chain([&layer.router]).chain(shared);
            all.map(linear).sum::<usize>()
        };
        let block = |block: &Block| {
            let dense = [&block.qkv, &block.output, &block.up, &block.down].map(linear).iter().sum::<usize>();
            dense + block.experts.as_ref().map_or(0, experts)
        };
        let table = match &self.positions {
            Positions::Learned { table, .. } => table.bytes(),
            Positions::Rotary { .. } => 0,
        };
        linear(&self.embedding)
            + table
            + self.head.as_ref().map_or(0, linear)
            + self.blocks.iter().map(block).sum::<usize>()
    }
}

impl Block {
    /// Reads one block.
    pub(crate) fn load(source: &ModelSource, layer: usize, precision: Precision) -> Result<Self, EngineError> {
        let names = TensorNames::new(&source.config, &source.tensors.names());
        let kind = source.config.layer_kind(layer);
        let loader = Loader { source, config: &source.config, precision };
        match source.config.experts_of(layer) {
            None => loader.block(kind, &names.block(layer), None),
            Some(experts) => {
                let experts = loader.experts(experts, &names.experts(layer))?;
                loader.block(kind, &names.block(layer), Some(experts))
            }
        }
    }
}

struct Loader<'a> {
    source: &'a ModelSource,
    config: &'a ModelConfig,
    precision: Precision,
}

impl Loader<'_> {
    /// A block, with these experts in place of its MLP.
    fn block(&self, kind: LayerKind, names: &BlockNames, experts: Option<ExpertLayer>) -> Result<Block, EngineError> {
        let config = self.config;
        let (hidden, intermediate) = (config.hidden, config.intermediate);
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let [query, key, value] = &names.qkv;
        let up: Vec<&str> = names.up.iter().map(String::as_str).collect();
        let expected = if config.activation.is_gated() { 2 } else { 1 };
        debug_assert_eq!(up.len(), expected, "the family's names and its activation agree");
        let norm = |there: bool, name| there.then(|| self.norm(name, hidden)).transpose();
        let (before, after) = (config.features.has_norms_before(), config.features.has_norms_after());
        let query_key_norms = match config.query_key_norms() {
            Some([query, key]) => {
                let [of_queries, of_keys] = &names.query_key_norms;
                Some([self.norm(of_queries, query)?, self.norm(of_keys, key)?])
            }
            None => None,
        };
        let sinks = || self.rounded(&names.sinks, self.source.values(&names.sinks, &[config.heads])?);
        let sinks = config.features.attention_sinks.then(sinks).transpose()?;
        Ok(Block {
            kind,
            attention_norm: norm(before, &names.attention_norm)?,
            qkv: self.linear(&[query, key, value], &[q, kv, kv], hidden, config.qkv_bias)?,
            query_key_norms,
            sinks,
            output: self.linear(&[&names.output], &[hidden], q, config.output_bias)?,
            attention_after: norm(after, &names.attention_after)?,
            mlp_norm: norm(before, &names.mlp_norm)?,
            up: match experts {
                None => self.linear(&up, &vec![intermediate; up.len()], hidden, config.mlp_bias)?,
                Some(_) => Linear::empty(),
            },
            down: match experts {
                None => self.linear(&[&names.down], &[hidden], intermediate, config.mlp_bias)?,
                Some(_) => Linear::empty(),
            },
            experts,
            mlp_after: norm(after, &names.mlp_after)?,
        })
    }

    fn experts(&self, experts: Experts, names: &ExpertNames) -> Result<ExpertLayer, EngineError> {
        let hidden = self.config.hidden;
        let mlp = |expert, inside: usize| -> Result<[Linear; 2], EngineError> {
            let [gate, up, down] = names.mlp(expert);
            let up = self.linear(&[&gate, &up], &[inside, inside], hidden, experts.biased)?;
            Ok([up, self.linear(&[&down], &[hidden], inside, experts.biased)?])
        };
        // What chooses and weighs stays in floating point in every precision.
        let dense = |name: &str, outputs: usize, biased: bool| -> Result<Linear, EngineError> {
            let [weight, bias] = ["weight", "bias"].map(|kind| format!("{name}.{kind}"));
            let weights = self.weights(&weight, self.source.values(&weight, &[outputs, hidden])?)?;
            let bias = biased.then(|| self.rounded(&bias, self.source.values(&bias, &[outputs])?)).transpose()?;
            Ok(Linear { outputs, inputs: hidden, weights, bias })
        };
        let shared = match experts.shared {
            Some(inside) => Some((mlp(None, inside)?, dense(&names.shared_gate, 1, false)?)),
            None => None,
        };
        let all = (0..experts.count).map(|expert| mlp(Some(expert), experts.intermediate));
        Ok(ExpertLayer {
            router: dense(&names.router, experts.count, experts.biased)?,
            experts: all.collect::<Result<_, _>>()?,
            chosen: experts.chosen,
            normalised: experts.normalised,
            shared,
        })
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm, EngineError> {
        let vector = |suffix: &str| {
            let name = format!("{name}.{suffix}");
            let values = self.source.values(&name, &[width])?;
            self.rounded(&name, values)
        };
        let bias = if self.config.norm == NormKind::Layer { Some(vector("bias")?) } else { None };
        let mut weight = vector("weight")?;
        if self.config.features.zero_centred_norms {
            for weight in &mut weight {
                *weight += 1.0;
            }
        }
        Ok(Norm { kind: self.config.norm, weight, bias, epsilon: self.config.norm_epsilon as f32 })
    }

    /// The embedding or the output projection, which stay in floating point in every precision.
    fn table(&self, name: &str) -> Result<Linear, EngineError> {
        let (outputs, inputs) = (self.config.vocabulary, self.config.hidden);
        let name = format!("{name}.weight");
        let values = self.source.values(&name, &[outputs, inputs])?;
        Ok(Linear { outputs, inputs, weights: self.weights(&name, values)?, bias: None })
    }

    /// Several projections of one input, stacked into one matrix.
    fn linear(&self, names: &[&str], outputs: &[usize], inputs: usize, bias: bool) -> Result<Linear, EngineError> {
        let mut biases = Vec::new();
        for (name, outputs) in names.iter().zip(outputs) {
            if bias {
                let name = format!("{name}.bias");
                biases.extend(self.rounded(&name, self.source.values(&name, &[*outputs])?)?);
            }
        }
        let weights = match self.precision.format.entry().layout {
            Layout::Int8 => Weights::Int8(Int8Weights::new(&self.stacked(names, outputs, inputs)?, inputs)),
            Layout::Int4 => self.packed(names, outputs, inputs)?,
            Layout::Dense => self.weights(&format!("{}.weight", names[0]), self.stacked(names, outputs, inputs)?)?,
        };
        Ok(Linear { outputs: outputs.iter().sum(), inputs, weights, bias: bias.then_some(biases) })
    }

    /// Projections of one input as binary32, one below the other.
    fn stacked(&self, names: &[&str], outputs: &[usize], inputs: usize) -> Result<Vec<f32>, EngineError> {
        let mut values = Vec::with_capacity(outputs.iter().sum::<usize>() * inputs);
        for (name, outputs) in names.iter().zip(outputs) {
            values.extend(self.source.values(&format!("{name}.weight"), &[*outputs, inputs])?);
        }
        Ok(values)
    }

    /// The same as the checkpoint packs them. A layer that it leaves as it is runs in binary16.
    fn packed(&self, names: &[&str], outputs: &[usize], inputs: usize) -> Result<Weights, EngineError> {
        let tensors: Vec<Option<AwqTensor>> =
            names.iter().map(|name| self.source.tensors.read_packed(name)).collect::<Result<_, _>>()?;
        if tensors.iter().all(Option::is_some) {
            return Ok(Weights::Int4(Int4Weights::stack(tensors.into_iter().flatten().collect())));
        }
        if tensors.iter().all(Option::is_none) {
            return self.weights(&format!("{}.weight", names[0]), self.stacked(names, outputs, inputs)?);
        }
        // Some of q, k and v are packed and some are not: binary32 holds the values of both.
        let mut values = Vec::with_capacity(outputs.iter().sum::<usize>() * inputs);
        for ((name, outputs), tensor) in names.iter().zip(outputs).zip(&tensors) {
            let name = format!("{name}.weight");
            values.extend(match tensor {
                Some(tensor) => tensor.dequantize(),
                None => self.rounded(&name, self.source.values(&name, &[*outputs, inputs])?)?,
            });
        }
        Ok(Weights::F32(values))
    }

    fn weights(&self, name: &str, values: Vec<f32>) -> Result<Weights, EngineError> {
        self.source.check_range(name, &values, self.precision.arithmetic)?;
        Ok(Weights::new(values, self.precision.arithmetic))
    }

    fn rounded(&self, name: &str, mut values: Vec<f32>) -> Result<Vec<f32>, EngineError> {
        self.source.check_range(name, &values, self.precision.arithmetic)?;
        super::ops::round(&mut values, self.precision.arithmetic);
        Ok(values)
    }
}
