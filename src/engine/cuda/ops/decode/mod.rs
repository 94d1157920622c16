//! The small-batch path: one decode step of up to eight sequences, all layers and the logits, in one fused kernel
//! (`kernels/decode.cu`; `kernels/decode_plain.cu` computes the same in plain kernels, for its tests).

mod fused;
mod layers;
mod shape;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod phase_tests;
#[cfg(test)]
mod plain;
#[cfg(test)]
mod plain_tests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub(crate) use fused::Decode;
pub(crate) use layers::{HeadRef, LayerRef, LinearRef, NormRef, Packing, WeightsRef, pair_spans, reads};
pub(crate) use shape::supports;
