//! The engine's entry.

use super::CpuEngine;
use crate::Dtype;
use crate::kind::{EngineEntry, EngineKind};

const ENTRY: EngineEntry = EngineEntry {
    name: "cpu",
    description: "the reference on the CPU: every family and precision, the same bits on any machine",
    dtypes: &Dtype::ALL,
    on_gpu: || false,
    open: |source, options, _| Ok(Box::new(CpuEngine::load(source, options.dtype, options.batch)?)),
};

#[expect(non_upper_case_globals, reason = "engines read like the variants of one type")]
impl EngineKind {
    /// The reference on the CPU.
    pub const Cpu: Self = Self::new(&ENTRY);
}
