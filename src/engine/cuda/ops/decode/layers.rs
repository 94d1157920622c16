//! What the fused decode kernel reads of a model, as device addresses.

use crate::model::{Activation, ModelConfig};

/// The weights `[outputs, inputs]` of a linear layer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WeightsRef {
    /// Of the element type, row-major, 16-byte aligned.
    Dense(u64),
    /// As `pack.rs` packs them.
    Int8 {
        /// i8 `[outputs, inputs]`, rows padded to 16 bytes.
        codes: u64,
        /// f32 `[outputs]`.
        scales: u64,
    },
    /// As `pack.rs` packs them, in tiles of the layer's pairs of rows.
    Awq {
        codes: u64,
        groups: u64,
        /// Inputs that share a scale.
        group_size: usize,
    },
}

impl WeightsRef {
    /// `Matrix::chunks` and `Matrix::scales` of `decode_stream.cuh`.
    pub(super) fn words(self) -> [u64; 2] {
        match self {
            Self::Dense(weights) => [weights, 0],
            Self::Int8 { codes, scales } => [codes, scales],
            Self::Awq { codes, groups, .. } => [codes, groups],
        }
    }
}

/// A linear layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinearRef {
    pub(crate) weights: WeightsRef,
    /// `[outputs]` of the element type.
    pub(crate) bias: Option<u64>,
}

/// A norm: `[hidden]` each, of the element type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormRef {
    pub(crate) weight: u64,
    /// Of `LayerNorm` only.
    pub(crate) bias: Option<u64>,
}

/// A layer of the decoder and its part of the KV cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerRef {
    pub(crate) attention_norm: NormRef,
    /// q, k and v stacked; output; gate and up stacked, or up alone; down.
    pub(crate) linears: [LinearRef; 4],
    pub(crate) mlp_norm: NormRef,
    /// `[blocks, kv_heads, 64, head_dim]`.
    pub(crate) keys: u64,
    /// The same shape.
    pub(crate) values: u64,
}

impl LayerRef {
    /// `Layer` of `decode_stream.cuh`.
    pub(super) fn words(&self) -> Vec<u64> {
        let matrix = |linear: &LinearRef| {
            let [chunks, scales] = linear.weights.words();
            [chunks, scales, linear.bias.unwrap_or(0)]
        };
        let norm = |norm: NormRef| [norm.weight, norm.bias.unwrap_or(0)];
        let mut words: Vec<u64> = self.linears.iter().flat_map(matrix).collect();
        words.extend([norm(self.attention_norm), norm(self.mlp_norm), [self.keys, self.values]].concat());
        words
    }
}

/// The final norm and the output projection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadRef {
    pub(crate) norm: NormRef,
    /// `[vocabulary, hidden]`, dense.
    pub(crate) table: u64,
}

/// How the linear layers of the decoder's layers are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Not at all.
    Dense,
    /// Eight bits.
    Int8,
    /// AWQ's four bits; `None` is one group a row.
    Awq {
        /// Inputs that share a scale, a multiple of 8.
        group_size: Option<usize>,
    },
}

/// Whether all linear layers of a decoder layer are packed in this way; a model with others takes the large-batch path.
pub(crate) fn reads(config: &ModelConfig, packing: Packing, linears: &[LinearRef; 4]) -> bool {
    inputs(config).iter().zip(linears).all(|(inputs, linear)| match (linear.weights, packing) {
        (WeightsRef::Dense(_), Packing::Dense) | (WeightsRef::Int8 { .. }, Packing::Int8) => true,
        (WeightsRef::Awq { group_size, .. }, Packing::Awq { group_size: expected }) => {
            group_size == expected.unwrap_or(*inputs)
        }
        _ => false,
    })
}

/// Inputs of the four linear layers.
pub(super) fn inputs(config: &ModelConfig) -> [usize; 4] {
    [config.hidden, config.heads * config.head_dim, config.hidden, config.intermediate]
}

/// Which rows of the four linear layers (q, k and v; output; gate and up, or up; down) the kernel finishes together: rows p and p + span
/// of every 2 span rows. `first` and `second` in `decode_layers.cuh` say the same.
pub(crate) fn pair_spans(config: &ModelConfig) -> [usize; 4] {
    [(config.head_dim / 2).max(1), 1, if is_gated(config) { config.intermediate } else { 1 }, 1]
}

pub(super) fn is_gated(config: &ModelConfig) -> bool {
    config.activation == Activation::SiluGated
}
