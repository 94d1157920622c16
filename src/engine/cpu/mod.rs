//! The reference engine on the CPU: every family, every precision, the same bits on any machine.
//!
//! Weights are held in the run's precision and stored activations are rounded to it; sums are binary32, as on a GPU.

mod attention;
mod calibration;
mod engine;
mod entry;
mod experts;
mod forward;
mod kv_cache;
mod linear;
mod load;
mod ops;
mod quantized;
mod reading;
mod simd;
#[cfg(test)]
mod tests;
mod widened;

pub use calibration::Calibration;
pub use engine::CpuEngine;
pub use linear::{Linear, Matrix, Weights};
pub use load::Block;
pub use ops::{Norm, add};
pub use simd::InstructionSet;
