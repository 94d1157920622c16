//! The results of `evalsuite blame`, with everything needed to believe them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::EngineInfo;
use crate::jobs::perplexity::AnswerToken;
use crate::record::{Invocation, Machine, RecordError, TargetPlan, VariantName, read_json, write_json};

/// The version of a blame's file; raised when a field changes its meaning.
pub const BLAME_FORMAT: u32 = 1;

/// Which layers' rounded weights made a variant leave the reference's answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlameRecord {
    /// [`BLAME_FORMAT`].
    pub blame_format: u32,
    /// Who ran it, and since when.
    #[serde(flatten)]
    pub invocation: Invocation,
    /// When it ended, UTC.
    pub finished: String,
    /// Where.
    pub machine: Machine,
    /// CPU threads.
    pub threads: usize,
    /// The model and its variants.
    #[serde(flatten)]
    pub target: TargetPlan,
    /// The model as a command names it.
    pub model_argument: String,
    /// The run whose answers were read, and how they were chosen.
    pub run: BlamedRun,
    /// What the answers are held against, and whose weights are put back.
    pub reference: VariantName,
    /// What is explained.
    pub variant: VariantName,
    /// Inputs that share a scale in the variant's checkpoint, where there are such groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_size: Option<usize>,
    /// The variant's engine.
    pub engine: EngineInfo,
    /// Seconds of reading.
    pub seconds: f64,
    /// Everything was read; else the figures are of what was.
    pub complete: bool,
    /// What the user should know.
    pub notes: Vec<String>,
    /// The answers, in the order of the rows.
    pub answers: Vec<BlamedAnswer>,
    /// The map.
    pub layers: Vec<BlamedLayer>,
    /// Layers put back together, one more at a time.
    pub together: Vec<Together>,
    /// What few layers would have kept; `None` where the user broke off, or no layer restores anything.
    pub kept: Option<Kept>,
}

/// A run, and how answers of it were chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlamedRun {
    /// The folder's name.
    pub name: String,
    /// Its path.
    pub source: String,
    /// Of its `answers.jsonl`.
    pub answers_sha256: Option<String>,
    /// The rule that says which answers are right.
    pub rule: String,
    /// Answers that both variants gave.
    pub answers: usize,
    /// Those that are right in the reference and wrong in the variant.
    pub lost: usize,
    /// Those in which some token is another.
    pub changed: usize,
    /// Lost ones that were chosen, the first ones; the others of [`BlameRecord::answers`] are those with the fewest tokens in common.
    pub lost_read: usize,
}

/// An answer that the variant left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlamedAnswer {
    /// The first token that differs.
    pub at: AnswerToken,
    /// Right in the reference and wrong in the variant.
    pub lost: bool,
    /// It counts in the map: read again, the reference takes its own token there and the variant another.
    pub counted: bool,
    /// The text before it.
    pub context: String,
    /// The reference's token.
    pub token: String,
    /// The variant's.
    pub this: String,
    /// ln p of the first less ln p of the second in the reference, nats.
    pub reference_margin: f64,
    /// The same in the variant.
    pub variant_margin: f64,
    /// The reference itself finds the two within [`crate::score::NEAR_TIE_NATS`].
    pub is_near_tie: bool,
    /// The one linear layer whose weights raise the margin most, put back alone; `None` where none was read.
    pub best: Option<PutBack>,
}

/// What one linear layer does to an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutBack {
    /// From 0.
    pub layer: usize,
    /// `q_proj`.
    pub part: String,
    /// The margin then, nats.
    pub margin: f64,
    /// The reference's token is then the most probable one.
    pub kept: bool,
}

/// A layer of the map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlamedLayer {
    /// From 0.
    pub layer: usize,
    /// All its weights put back.
    pub whole: Restored,
    /// Each of its linear layers' put back alone.
    pub parts: Vec<BlamedPart>,
    /// ‖variant − reference‖ / ‖reference‖ of the residual stream behind it, mean over the answers' tokens up to the place, each model
    /// fed by its own layers before; `None` where the engine does not show it.
    pub output_error: Option<f64>,
}

/// A linear layer of the map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlamedPart {
    /// `q_proj`.
    pub name: String,
    /// What putting it back does.
    #[serde(flatten)]
    pub put_back: Restored,
}

/// What putting weights back does to the answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    /// Of what the variant's margins lack to the reference's, summed over answers, the fraction that comes back; negative where margins
    /// fall further.
    pub restored: Option<f64>,
    /// Answers in which the reference's token is the most probable one again.
    pub kept: usize,
    /// Answers that were read so.
    pub of: usize,
}

/// Layers put back together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Together {
    /// In ascending order.
    pub layers: Vec<usize>,
    /// What that does.
    #[serde(flatten)]
    pub put_back: Restored,
}

/// What few layers in higher precision would have kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// In ascending order.
    pub layers: Vec<usize>,
    /// Answers whose token at the place comes back.
    pub kept: usize,
    /// Of so many.
    pub of: usize,
    /// Answers that would be the reference's to the last token.
    pub wholly: usize,
    /// What the layers take more in f16, bytes, where that is known.
    pub more_bytes: Option<u64>,
}

impl BlameRecord {
    /// Writes a record, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        write_json(path, self)
    }

    /// Reads a record; `None` where the file holds JSON of another kind.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        read_json(path, |versions| versions.blame, BLAME_FORMAT, "blame")
    }
}
