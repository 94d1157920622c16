//! A layer of the decoder, as device addresses.

use super::ops::decode::{LinearRef, WeightsRef};
use super::ops::elementwise::NormWeights;
use super::ops::experts::ExpertMatrices;

/// A linear layer in device memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// element `[outputs, inputs]`.
    pub(crate) weights: u64,
    /// element `[outputs]`, 0 for none.
    pub(crate) bias: u64,
    /// The same weights as the fused decode kernel reads them, where they are packed.
    pub(crate) packed: Option<WeightsRef>,
}

impl Linear {
    /// In a layer that has none.
    pub(crate) const ABSENT: Self = Self { outputs: 0, inputs: 0, weights: 0, bias: 0, packed: None };

    /// As the fused decode kernel takes it.
    fn decode_ref(&self) -> LinearRef {
        let weights = self.packed.unwrap_or(WeightsRef::Dense(self.weights));
        LinearRef { weights, bias: (self.bias != 0).then_some(self.bias) }
    }
}

/// The experts of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpertLayer {
    /// `[experts, hidden]`.
    pub(crate) router: Linear,
    /// gate and up stacked, of each.
    pub(crate) up: ExpertMatrices,
    pub(crate) down: ExpertMatrices,
    /// The shared MLP: gate and up stacked, down, and the address of its gate, element `[hidden]`.
    pub(crate) shared: Option<(Linear, Linear, u64)>,
}

/// One layer of the decoder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    pub(crate) attention_norm: NormWeights,
    /// q, k and v stacked.
    pub(crate) qkv: Linear,
    /// Of queries and keys.
    pub(crate) query_key_norms: Option<[NormWeights; 2]>,
    /// Element `[heads]`; 0 where there are none.
    pub(crate) sinks: u64,
    pub(crate) output: Linear,
    /// Behind attention.
    pub(crate) attention_after: Option<NormWeights>,
    pub(crate) mlp_norm: NormWeights,
    /// gate and up stacked, or up alone; absent where there are experts.
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    /// In place of one MLP.
    pub(crate) experts: Option<ExpertLayer>,
    /// Behind the MLP.
    pub(crate) mlp_after: Option<NormWeights>,
}

impl Layer {
    /// Its linear layers as the fused decode kernel takes them.
    pub(crate) fn decode_refs(&self) -> [LinearRef; 4] {
        [&self.qkv, &self.output, &self.up, &self.down].map(Linear::decode_ref)
    }
}
