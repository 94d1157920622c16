//! Which engine runs a model.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::candle::CandleEngine;
use super::cpu::CpuEngine;
use super::cuda::{CudaEngine, Device};
use super::model::ModelSource;
use super::{Dtype, Engine, EngineError};

/// The engines there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// The fastest that this machine has.
    Auto,
    /// The reference on the CPU.
    Cpu,
    /// The engine on an NVIDIA GPU.
    Cuda,
    /// candle-transformers' own models, one request at a time: an independent implementation to hold ours against.
    Candle,
}

impl EngineKind {
    /// Names on the command line.
    pub const NAMES: [&str; 4] = ["auto", "cpu", "cuda", "candle"];

    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Auto, Self::Cpu, Self::Cuda, Self::Candle]
            .into_iter()
            .zip(Self::NAMES)
            .find(|(_, n)| *n == name)
            .map(|(kind, _)| kind)
    }

    /// Precisions that this engine can run, the ground truth first.
    pub const fn dtypes(self) -> &'static [Dtype] {
        match self {
            Self::Auto | Self::Cpu | Self::Cuda => &Dtype::ALL,
            Self::Candle => &Dtype::FLOATING,
        }
    }
}

/// Whether requests that share a batch may change each other's last bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Batching {
    /// A request's tokens depend on the request alone: what golden files and resumed runs rest on. Always so on the CPU.
    #[default]
    Invariant,
    /// The fastest order of summation for each size of batch; near-ties may fall otherwise in another batch.
    Fast,
}

impl Batching {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Invariant, Self::Fast];

    /// The name on the command line and in every file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invariant => "invariant",
            Self::Fast => "fast",
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
    /// Requests that advance together at most; `None` lets the engine choose.
    pub batch: Option<usize>,
    /// Which GPU, by the driver's number; 0 for engines without one.
    pub device: usize,
    /// Whether a request's tokens may depend on its batch.
    pub batching: Batching,
}

impl OpenOptions {
    /// On the first card, with nothing that depends on the batch.
    pub const fn new(kind: EngineKind, dtype: Dtype, batch: Option<usize>) -> Self {
        Self { kind, dtype, batch, device: 0, batching: Batching::Invariant }
    }
}

/// Refuses a device that this engine cannot run on, whatever the model. Once before a job: each precision's engine would
/// say the same, with a run folder begun.
pub fn check_device(kind: EngineKind, device: usize) -> Result<(), EngineError> {
    if on_gpu(kind, device)? {
        Device::open(device)?;
    }
    Ok(())
}

/// Whether the engine runs on a GPU here.
fn on_gpu(kind: EngineKind, device: usize) -> Result<bool, EngineError> {
    let on_gpu = match kind {
        EngineKind::Auto => super::cuda::is_present(),
        EngineKind::Cuda => true,
        EngineKind::Cpu | EngineKind::Candle => false,
    };
    if device != 0 && !on_gpu {
        return Err(EngineError::invalid(
            format!("--device {device}: the engine asked for runs on the CPU, which is one device"),
            "leave `--device` out; it numbers GPUs",
        ));
    }
    Ok(on_gpu)
}

/// Loads a model into an engine, ready for the first request.
pub fn open(source: &Arc<ModelSource>, options: &OpenOptions) -> Result<Box<dyn Engine>, EngineError> {
    let on_gpu = on_gpu(options.kind, options.device)?;
    Ok(match options.kind {
        _ if on_gpu => Box::new(CudaEngine::load(source, options)?),
        EngineKind::Candle => Box::new(CandleEngine::load(source, options.dtype)?),
        EngineKind::Auto | EngineKind::Cpu | EngineKind::Cuda => {
            Box::new(CpuEngine::load(source, options.dtype, options.batch)?)
        }
    })
}
