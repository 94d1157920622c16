//! The results of `evalsuite probe`, exchange by exchange.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ask::Exchange;
use super::check::Verdict;
use super::precision::PrecisionFinding;
use crate::record::{Invocation, Machine, ModelPlan, RecordError, read_json, write_json};

/// The version of a probe's file; raised when a field changes its meaning.
pub const PROBE_FORMAT: u32 = 1;

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointProbeRecord {
    /// [`PROBE_FORMAT`].
    pub probe_format: u32,
    /// Who ran it, and since when.
    #[serde(flatten)]
    pub invocation: Invocation,
    /// When it ended, UTC.
    pub finished: String,
    /// The machine that asked.
    pub machine: Machine,
    /// What was asked.
    pub endpoint: ProbedEndpoint,
    /// The same model's files, where they were given.
    pub reference: Option<ModelPlan>,
    /// Whether the user broke off.
    pub interrupted: bool,
    /// What the user was told.
    pub notes: Vec<String>,
    /// In the order in which they were asked.
    pub checks: Vec<CheckRecord>,
    /// The endpoint's tokens against f32, where that was asked.
    pub precision: Option<PrecisionFinding>,
    /// Every request with its answer, in the order of asking.
    pub exchanges: Vec<Exchange>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbedEndpoint {
    /// The root of its API.
    pub address: String,
    /// What the model is asked for as.
    pub model: String,
    /// `completions` or `chat`.
    pub api: String,
    /// Name and version of the software, as far as they are known.
    pub software: String,
    /// Prompt plus output at most, in tokens, where the server tells.
    pub context_tokens: Option<usize>,
    /// Where the tokenizer came from.
    pub tokenizer: Option<String>,
}

/// A check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// Which.
    pub name: String,
    /// The question.
    pub asks: String,
    /// The answer.
    pub verdict: Verdict,
    /// What was seen; why it could not be asked.
    pub seen: String,
    /// What it means for scores; empty where it could not be asked.
    pub means: String,
}

impl EndpointProbeRecord {
    /// Whether anything was found that harms an evaluation.
    pub fn harms(&self) -> bool {
        self.checks.iter().any(|check| check.verdict == Verdict::Harms)
    }

    /// Writes the record.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        write_json(path, self)
    }

    /// Reads a record; `None` where the file holds JSON of another kind.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        read_json(path, |versions| versions.probe, PROBE_FORMAT, "probe")
    }
}
