//! The engine on NVIDIA GPUs: kernels of our own and cuBLASLt's GEMMs, in the same binary that runs without a
//! GPU. Nothing of CUDA is needed to build; its libraries are loaded when the engine opens (`README.md`).
//!
//! `device.rs` finds the libraries and the GPU, `requirements.rs` decides whether they suffice, `compile.rs` turns
//! `kernels/*.cu` into machine code and keeps it on disk, `buffer.rs` and `kernel.rs` hold memory and launches: the only
//! modules that call the driver. `ops/` pairs each kernel with its launch.
#![expect(unsafe_code, reason = "the driver's interface is C; each call says why it is sound")]

mod buffer;
mod cache;
mod compile;
mod device;
mod element;
mod energy;
mod engine;
mod entry;
mod features;
mod forward;
mod kernel;
mod layer;
mod load;
mod matmul;
mod model;
mod ops;
mod packing;
mod reading;
mod requirements;
mod step_buffers;
#[cfg(test)]
mod testing;
mod weights;

pub(super) use device::Device;
pub use device::{describe, is_present};
pub(super) use engine::CudaEngine;
pub use reading::DeviceLogits;

/// Tokens in a block of the key and value cache.
pub(crate) const BLOCK_TOKENS: usize = 64;
