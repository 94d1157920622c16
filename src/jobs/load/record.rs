//! The results of `evalsuite load`, request by request.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{LevelFigures, LevelScore, LoadPeer, Second, Slo};
use crate::engine::EngineInfo;
use crate::jobs::requests::{LevelPlan, RequestRecord};
use crate::record::{Invocation, Machine, RecordError, TargetPlan, VariantName, read_json, write_json};

/// The version of a load test's file; raised when a field changes its meaning.
pub const LOAD_FORMAT: u32 = 1;

/// What came of a load test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadRecord {
    /// [`LOAD_FORMAT`].
    pub load_format: u32,
    /// Who ran it, and since when.
    #[serde(flatten)]
    pub invocation: Invocation,
    /// When it ended, UTC.
    pub finished: String,
    /// The machine that sent the requests.
    pub machine: Machine,
    /// The model, and what stands beside it.
    #[serde(flatten)]
    pub target: TargetPlan,
    /// What was sent, and how.
    pub plan: LoadPlan,
    /// Whether every level of every variant is there.
    pub complete: bool,
    /// Whether the user broke off.
    pub interrupted: bool,
    /// What the user was told.
    pub notes: Vec<String>,
    /// In the order in which they ran.
    pub variants: Vec<VariantLoad>,
    /// What others measured, if the user named a file of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<LoadPeer>,
}

/// What was sent, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadPlan {
    /// One after the other.
    pub levels: Vec<LevelPlan>,
    /// Requests of each level.
    pub requests: Option<usize>,
    /// No request is sent later in a level.
    pub duration_seconds: Option<f64>,
    /// What prompts are, in words.
    pub prompts: String,
    /// SHA-256 of where their lengths or texts come from; `None` where nothing but the command says them.
    pub prompts_sha256: Option<String>,
    /// Tokens of an answer at most; exact lengths say their own.
    pub max_tokens: usize,
    /// Whether answers have exactly the tokens that are asked for.
    pub exact_lengths: bool,
    /// Requests before each level, which are not counted.
    pub warm_up: usize,
    /// What an answer must keep to be of use.
    pub slo: Slo,
    /// Of prompts and arrivals.
    pub seed: u64,
    /// How tokens are chosen.
    pub decoding: String,
}

/// One variant under every level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantLoad {
    /// Which.
    pub dtype: VariantName,
    /// Its engine, or its endpoint.
    pub engine: Option<EngineInfo>,
    /// Why it did not finish, if it did not.
    pub failure: Option<String>,
    /// In the order in which they ran.
    pub levels: Vec<LevelRecord>,
}

/// One level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelRecord {
    /// How requests were sent.
    pub level: LevelPlan,
    /// When it began, UTC.
    pub started: String,
    /// What came of it.
    pub figures: LevelFigures,
    /// What its answers are worth, where they are scored; the first level is the idle run then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<LevelScore>,
    /// Gaps between chunks of all answers, seconds: raw, with chunks of any number of tokens.
    pub chunk_gaps: Option<super::Distribution>,
    /// Second by second.
    pub timeline: Vec<Second>,
    /// The KV cache's use and GPU memory, where they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<CachePoint>,
    /// Every request, in the order of sending.
    pub requests: Vec<RequestRecord>,
}

/// How full the KV cache was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CachePoint {
    /// Since the level began.
    pub seconds: f64,
    /// Share of the KV cache that requests hold, of 1.
    pub used: Option<f64>,
    /// Requests that are being worked on.
    pub running: Option<usize>,
    /// Requests that wait in the server.
    pub waiting: Option<usize>,
}

impl LoadRecord {
    /// Requests of all levels that were not answered.
    pub fn failed_requests(&self) -> usize {
        let levels = self.variants.iter().flat_map(|one| &one.levels);
        levels.flat_map(|level| level.figures.failed.values()).sum()
    }

    /// Writes the record.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        write_json(path, self)
    }

    /// Reads a record; `None` where the file holds JSON of another kind.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        read_json(path, |versions| versions.load, LOAD_FORMAT, "load test")
    }
}
