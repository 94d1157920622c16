//! Kernels and their launches, one pair a file: `ops/x.rs` checks shapes and chooses grids, `kernels/x.cu` computes.

pub(super) mod argmax;
pub(super) mod attention;
pub(super) mod decode;
#[cfg(test)]
mod decode_fixture;
pub(super) mod elementwise;
pub(super) mod gemm_f32;
pub(super) mod pack;
