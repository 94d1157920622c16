//! The engine's entry.

use super::CudaEngine;
use crate::Dtype;
use crate::kind::{EngineEntry, EngineKind};

const ENTRY: EngineEntry = EngineEntry {
    name: "cuda",
    description: "the engine on an NVIDIA GPU: every family and precision, kernels of our own",
    dtypes: &Dtype::ALL,
    on_gpu: || true,
    open: |source, options, device| Ok(Box::new(CudaEngine::load(source, options, device)?)),
};

#[expect(non_upper_case_globals, reason = "engines read like the variants of one type")]
impl EngineKind {
    /// The engine on an NVIDIA GPU.
    pub const Cuda: Self = Self::new(&ENTRY);
}
