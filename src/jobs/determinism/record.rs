//! The results of `evalsuite determinism`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Arm, Floor};
use crate::engine::EngineInfo;
use crate::jobs::eval::EvalPlan;
use crate::record::{Machine, RecordError, VariantName, read_json, write_json};

/// The version of the record; raised when a field changes its meaning.
pub const DETERMINISM_FORMAT: u32 = 1;

/// What was asked: the prompts of an evaluation, at several batch sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeterminismPlan {
    /// Requests in the engine at a time, pass by pass.
    pub batches: Vec<usize>,
    /// Model, prompts and generation.
    #[serde(flatten)]
    pub asked: EvalPlan,
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
    /// The passes after the first.
    pub arms: Vec<Arm>,
    /// The most of any of them.
    pub floor: Option<Floor>,
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

    /// Whether anything moved.
    pub fn moves(&self) -> bool {
        self.variants.iter().any(|one| one.arms.iter().any(|arm| !arm.moved.is_empty()))
    }
}
