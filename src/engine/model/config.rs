//! One configuration for every family: what differs between them is data.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::facts::{CandleModel, FusedTensor, Names, TokenizerFacts};
use super::features::{Experts, Features, LayerKind, QueryKeyNorm};
use super::fields::Fields;
use crate::EngineError;

/// Everything that is particular to a family; the forward pass reads [`ModelConfig`] alone.
pub struct FamilyEntry {
    /// `model_type` in `config.json`, and the name in every file of this program.
    pub name: &'static str,
    /// The first of `architectures` in `config.json`.
    pub architecture: &'static str,
    /// One line for lists.
    pub description: &'static str,
    /// The configuration that a `config.json` describes, with transformers' own defaults where a key is absent.
    pub(super) read: fn(&Fields) -> Result<ModelConfig, EngineError>,
    /// Adds what only this family writes into a `config.json`, so that [`FamilyEntry::read`] reads it back.
    pub(super) write: fn(&ModelConfig, &mut Map<String, Value>),
    /// Its tensors.
    pub names: &'static Names,
    /// Which of them a file holds fused or transposed.
    pub(super) fused: fn(&ModelConfig) -> Vec<FusedTensor>,
    /// Its tokenizer's files.
    pub tokenizer: TokenizerFacts,
    /// Its GGUF files, where llama.cpp writes it under a name of its own.
    pub gguf: Option<GgufFacts>,
    /// Its model in candle-transformers, if there is one.
    pub candle: Option<CandleModel>,
}

/// How llama.cpp writes a family.
#[derive(Debug)]
pub struct GgufFacts {
    /// `general.architecture`, and the beginning of every key.
    pub architecture: &'static str,
    /// The converter has interleaved the rows of q and k, pair by pair, for rotary embedding of neighbours.
    pub interleaved_heads: bool,
    /// A BOS that the file names is one.
    pub has_bos: bool,
    /// It is a mixture of experts; dense families' files may claim to be one, and are then refused.
    pub has_experts: bool,
    /// Adds what llama.cpp knows of the family and no key says.
    pub(super) complete: fn(ModelConfig) -> ModelConfig,
}

/// A family of models: an entry of [`family::ALL`](super::family::ALL).
#[derive(Clone, Copy)]
pub struct Family(&'static FamilyEntry);

impl Family {
    pub(super) const fn new(entry: &'static FamilyEntry) -> Self {
        Self(entry)
    }

    /// What there is to know about it.
    pub const fn entry(self) -> &'static FamilyEntry {
        self.0
    }

    /// Whether its files hold projections fused, transposed or stacked.
    pub fn fuses_projections(self, config: &ModelConfig) -> bool {
        !(self.0.fused)(config).is_empty() || self.0.names.stacked_experts
    }

    /// The name in `config.json` and in every file.
    pub const fn name(self) -> &'static str {
        self.0.name
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Family {}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The normalisation in front of attention and MLP.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum NormKind {
    /// x / sqrt(mean(x²) + ε) · w (Zhang and Sennrich, 2019).
    Rms,
    /// (x − mean) / sqrt(var + ε) · w + b.
    Layer,
}

/// The MLP's non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Activation {
    /// Gated: silu(gate(x)) · up(x).
    SiluGated,
    /// Gated: gelu(gate(x)) · up(x), by the tanh approximation.
    GeluTanhGated,
    /// Gated, both clamped: g · sigmoid(alpha · g) · (u + 1), g = min(gate(x), limit), u = up(x) within ± limit.
    ClampedSwiglu {
        /// Of the sigmoid.
        alpha: f64,
        /// Of the gate from above, of up from both sides.
        limit: f64,
    },
    /// Plain: relu(up(x)).
    Relu,
    /// Plain: gelu(up(x)), by the error function.
    Gelu,
    /// Plain: gelu(up(x)), by the tanh approximation.
    GeluTanh,
}

impl Activation {
    /// Whether the MLP has a gate beside `up`.
    pub const fn is_gated(self) -> bool {
        matches!(self, Self::SiluGated | Self::GeluTanhGated | Self::ClampedSwiglu { .. })
    }
}

/// How rotary frequencies are stretched for long contexts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum RotaryScaling {
    /// As they are.
    None,
    /// Every position divided by the factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3's piecewise scaling.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low_frequency_factor: f64,
        /// Wavelengths below `original / high` are kept.
        high_frequency_factor: f64,
        /// The context before stretching.
        original_context_tokens: usize,
    },
    /// `YaRN` (Peng et al., 2023): low frequencies are divided, high ones kept, with a ramp between.
    Yarn {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Frequencies that turn more often than this within the original context are kept.
        beta_fast: f64,
        /// Frequencies that turn less often than this are divided.
        beta_slow: f64,
        /// The context before stretching.
        original_context_tokens: usize,
        /// Whether the ramp's ends are rounded to whole frequencies.
        truncate: bool,
        /// Factor of cosines and sines.
        magnitude: f64,
    },
    /// `LongRoPE` (Ding et al., 2024) within the original context: each frequency has a divisor of its own,
    /// [`Features::rotary_divisors`].
    LongRope {
        /// Factor of cosines and sines.
        magnitude: f64,
    },
}

/// Where a token's position enters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum PositionKind {
    /// Rotary embedding of q and k, halves rotated (Su et al., 2021; the Hugging Face layout).
    Rotary {
        /// Base of the frequencies.
        theta: f64,
        /// Stretching.
        scaling: RotaryScaling,
    },
    /// A learned table added to the embedding, read at `position + offset`.
    Learned {
        /// 2 for OPT.
        offset: usize,
    },
}

/// The shape of a decoder-only transformer.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the file's tensors")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Which family the file named.
    pub family: Family,
    /// Tokens in the embedding table.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the MLP.
    pub intermediate: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest context, in tokens.
    pub context_tokens: usize,
    /// Norm kind.
    pub norm: NormKind,
    /// ε inside the norms.
    pub norm_epsilon: f64,
    /// MLP kind.
    pub activation: Activation,
    /// Position kind.
    pub position: PositionKind,
    /// Attention sees this many tokens back, itself included; `None` sees all.
    pub sliding_window: Option<usize>,
    /// Biases on q, k, v.
    pub qkv_bias: bool,
    /// Bias on the attention's output projection.
    pub output_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// The output projection is the embedding table.
    pub tied_embeddings: bool,
    /// What it computes beyond all this.
    #[serde(default, skip_serializing_if = "Features::is_plain")]
    pub features: Features,
}

impl ModelConfig {
    /// Number of weights, norms and biases left out.
    pub fn parameters(&self) -> u64 {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let projections = if self.activation.is_gated() { 3 } else { 2 };
        let attention = self.hidden * (2 * q + 2 * kv);
        let mlp = |layer| match self.experts_of(layer) {
            Some(experts) => experts.parameters(self.hidden),
            None => projections * self.hidden * self.intermediate,
        };
        (0..self.layers).map(|layer| (attention + mlp(layer)) as u64).sum::<u64>() + self.table_parameters()
    }

    /// Of them, the weights of the embedding and the output projection.
    pub fn table_parameters(&self) -> u64 {
        let tables = if self.tied_embeddings { 1 } else { 2 };
        (tables * self.vocabulary * self.hidden) as u64
    }

    /// What is particular to a layer.
    pub fn layer_kind(&self, layer: usize) -> LayerKind {
        self.features.layers.get(layer).copied().unwrap_or(LayerKind::USUAL)
    }

    /// Tokens that a layer's attention sees back, itself included; `None` sees all.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| self.layer_kind(layer).windowed)
    }

    /// The experts of a layer, where it has them.
    pub fn experts_of(&self, layer: usize) -> Option<Experts> {
        self.features.experts.filter(|_| !self.layer_kind(layer).dense)
    }

    /// Elements of a head that are rotated.
    pub fn rotated_elements(&self) -> usize {
        self.features.rotated_elements.unwrap_or(self.head_dim)
    }

    /// Factor of the attention's scores.
    pub fn attention_scale(&self) -> f32 {
        self.features.attention_scale.map_or_else(|| 1.0 / (self.head_dim as f32).sqrt(), |scale| scale as f32)
    }

    /// Widths of the norms of queries and of keys, where there are any.
    pub fn query_key_norms(&self) -> Option<[usize; 2]> {
        self.features.query_key_norm.map(|norm| match norm {
            QueryKeyNorm::Head => [self.head_dim; 2],
            QueryKeyNorm::Row => [self.heads * self.head_dim, self.kv_heads * self.head_dim],
        })
    }
}
