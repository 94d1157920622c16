//! Which engine runs a model.

use std::sync::Arc;

use super::candle::CandleEngine;
use super::cpu::CpuEngine;
use super::model::ModelSource;
use super::{Dtype, Engine, EngineError};

/// The engines there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// The fastest that this machine has.
    Auto,
    /// The reference on the CPU.
    Cpu,
    /// candle-transformers' own models, one request at a time: an independent implementation to hold ours against.
    Candle,
}

impl EngineKind {
    /// Names on the command line.
    pub const NAMES: [&str; 3] = ["auto", "cpu", "candle"];

    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Auto, Self::Cpu, Self::Candle]
            .into_iter()
            .zip(Self::NAMES)
            .find(|(_, n)| *n == name)
            .map(|(kind, _)| kind)
    }

    /// Precisions that this engine can run, the ground truth first.
    pub const fn dtypes(self) -> &'static [Dtype] {
        match self {
            Self::Auto | Self::Cpu => &Dtype::ALL,
            Self::Candle => &Dtype::FLOATING,
        }
    }
}

/// How to open an engine.
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions {
    /// Which.
    pub kind: EngineKind,
    /// Precision.
    pub dtype: Dtype,
    /// Which GPU, by the driver's number; 0 for engines without one.
    pub device: usize,
    /// Requests that advance together at most; `None` lets the engine choose.
    pub batch: Option<usize>,
}

/// Loads a model into an engine, ready for the first request.
pub fn open(source: &Arc<ModelSource>, options: &OpenOptions) -> Result<Box<dyn Engine>, EngineError> {
    if options.device != 0 {
        return Err(EngineError::invalid(
            format!("--device {}: the engine asked for runs on the CPU, which is one device", options.device),
            "leave `--device` out; it numbers GPUs",
        ));
    }
    Ok(match options.kind {
        EngineKind::Auto | EngineKind::Cpu => Box::new(CpuEngine::load(source, options.dtype, options.batch)?),
        EngineKind::Candle => Box::new(CandleEngine::load(source, options.dtype)?),
    })
}
