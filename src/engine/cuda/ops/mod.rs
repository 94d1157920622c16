//! Kernels and their launches, in pairs: `ops/x.rs` checks shapes and chooses grids, `kernels/x.cu` computes.

pub(super) mod argmax;
pub(super) mod attention;
pub(super) mod compare;
pub(super) mod decode;
pub(super) mod elementwise;
pub(super) mod experts;
pub(super) mod features;
pub(super) mod gemm_f32;
pub(super) mod gemm_few;
pub(super) mod pack;
pub(super) mod token_scores;
pub(super) mod transfer;
