//! The results of `evalsuite determinism`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Answer, Floor, Pass};
use crate::engine::EngineInfo;
use crate::jobs::eval::EvalPlan;
use crate::record::{Machine, RecordError, RunPlan, VariantName, read_json, write_json};

/// The version of the record; raised when a field changes its meaning.
pub const DETERMINISM_FORMAT: u32 = 1;

/// What was asked: the prompts of an evaluation, at several batch sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeterminismPlan {
    /// Requests in the engine at a time: two passes of each, the second one shuffled.
    pub batches: Vec<usize>,
    /// Over the prompts' own hashes, in their order; empty in records of before it was kept.
    #[serde(default)]
    pub prompts_sha256: String,
    /// Model, prompts and generation.
    #[serde(flatten)]
    pub asked: EvalPlan,
}

impl RunPlan for DeterminismPlan {
    fn command(&self) -> &[String] {
        self.asked.command()
    }
}

impl DeterminismPlan {
    /// Each pass: requests in the engine at a time, and whether they are shuffled.
    pub fn passes(&self) -> Vec<(usize, bool)> {
        self.batches.iter().flat_map(|batch| [(*batch, false), (*batch, true)]).collect()
    }
}

/// What moved though nothing was changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeterminismRecord {
    /// [`DETERMINISM_FORMAT`].
    pub determinism_format: u32,
    /// What was asked, with every hash.
    pub plan: DeterminismPlan,
    /// When it ended, UTC.
    pub finished: String,
    /// The machine.
    pub machine: Machine,
    /// What the user was told.
    pub notes: Vec<String>,
    /// The rule that takes a value from an answer.
    pub rule: String,
    /// Every variant made every pass.
    #[serde(default = "complete")]
    pub complete: bool,
    /// One a variant.
    pub variants: Vec<VariantFloor>,
}

/// One variant's passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantFloor {
    /// Which.
    pub variant: VariantName,
    /// What ran it; `None` where it could not be opened.
    pub engine: Option<EngineInfo>,
    /// Why it did not finish, if it did not.
    pub failure: Option<String>,
    /// Right answers of the first pass.
    pub right: usize,
    /// The first pass's answers, in the order of the prompts, while passes are missing that will be held against them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<Answer>,
    /// The passes after the first.
    #[serde(alias = "arms")]
    pub passes: Vec<Pass>,
    /// The most of any of them.
    pub floor: Option<Floor>,
}

/// Records of before runs could be gone on with were written at their end.
const fn complete() -> bool {
    true
}

impl VariantFloor {
    /// Of a variant that has no pass yet.
    pub(super) const fn new(variant: VariantName) -> Self {
        Self { variant, engine: None, failure: None, right: 0, first: Vec::new(), passes: Vec::new(), floor: None }
    }

    /// Whether it has made a pass.
    pub(super) const fn is_begun(&self) -> bool {
        !self.first.is_empty() || !self.passes.is_empty()
    }
}

impl DeterminismRecord {
    /// Writes the record.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        write_json(path, self)
    }

    /// Reads a record; `None` where the file holds JSON of another kind.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        read_json(path, |versions| versions.determinism, DETERMINISM_FORMAT, "determinism run")
    }

    /// Whether a variant made every pass.
    pub fn is_whole(&self, variant: &VariantFloor) -> bool {
        variant.passes.len() + 1 == self.plan.passes().len()
    }

    /// Whether anything moved.
    pub fn moves(&self) -> bool {
        self.variants.iter().any(|one| one.passes.iter().any(|pass| !pass.moved.is_empty()))
    }
}
