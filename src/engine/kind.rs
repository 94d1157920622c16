//! What an engine's entry says, and how an engine is opened.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::devices::Devices;
use super::model::ModelSource;
use super::precision::Precision as Dtype;
use super::{Engine, EngineError};

/// Everything that is particular to an engine, for those who choose one.
pub struct EngineEntry {
    /// The name on the command line and in every file.
    pub name: &'static str,
    /// One line for lists.
    pub description: &'static str,
    /// Precisions that it can run, the ground truth first.
    pub dtypes: &'static [Dtype],
    /// Whether it runs on a GPU here.
    pub(super) on_gpu: fn() -> bool,
    /// Loads a model, ready for the first request.
    pub(super) open: Open,
}

/// Loads a model into an engine, on the GPU with this number where it runs on one.
type Open = fn(&Arc<ModelSource>, &OpenOptions, usize) -> Result<Box<dyn Engine>, EngineError>;

/// An engine: an entry of [`EngineKind::ALL`].
#[derive(Clone, Copy)]
pub struct EngineKind(&'static EngineEntry);

impl EngineKind {
    pub(super) const fn new(entry: &'static EngineEntry) -> Self {
        Self(entry)
    }

    /// What there is to know about it.
    pub const fn entry(self) -> &'static EngineEntry {
        self.0
    }

    /// The name on the command line and in every file.
    pub const fn name(self) -> &'static str {
        self.0.name
    }

    /// Precisions that this engine can run, the ground truth first.
    pub const fn dtypes(self) -> &'static [Dtype] {
        self.0.dtypes
    }
}

impl PartialEq for EngineKind {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for EngineKind {}

impl fmt::Debug for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Which.
    pub kind: EngineKind,
    /// Precision.
    pub dtype: Dtype,
    /// Requests that advance together at most, on each device; `None` lets the engine choose.
    pub batch: Option<usize>,
    /// Which GPUs; the first for engines without one.
    pub devices: Devices,
    /// Whether a request's tokens may depend on its batch.
    pub batching: Batching,
}

impl OpenOptions {
    /// On the first GPU, with nothing that depends on the batch.
    pub fn new(kind: EngineKind, dtype: Dtype, batch: Option<usize>) -> Self {
        Self { kind, dtype, batch, devices: Devices::default(), batching: Batching::Invariant }
    }
}
