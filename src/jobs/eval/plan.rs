//! What decides every answer and score of an evaluation.

use serde::{Deserialize, Serialize};

use crate::engine::Batching;
use crate::jobs::PlaceboPlan;
use crate::record::{GenerationPlan, Invocation, RunPlan, TargetPlan, VariantName};

/// What a run was asked for, with the hash of everything it reads. Written before the first token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalPlan {
    /// Who ran it, and since when.
    #[serde(flatten)]
    pub invocation: Invocation,
    /// The model, and what stands beside it.
    #[serde(flatten)]
    pub target: TargetPlan,
    /// The task, where it is another than the built-in `gsm8k`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskPlan>,
    /// Of completions that were made elsewhere: where they come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions: Option<CompletionsPlan>,
    /// The problems.
    pub dataset: DatasetPlan,
    /// The protocol.
    pub protocol: ProtocolPlan,
    /// Of a run whose answers were scored anew: the protocol that they were generated under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_under: Option<String>,
    /// Sampling and limits.
    pub generation: GenerationPlan,
    /// The engine asked for: `auto`, `cpu`, …
    pub engine: String,
    /// Requests that advance together at most, if the user said so.
    pub batch: Option<usize>,
    /// Whether tokens may depend on the batch.
    #[serde(default)]
    pub batching: Batching,
    /// Variants, the ground truth first unless the user named another reference.
    pub dtypes: Vec<VariantName>,
    /// Of these, those that should not matter, where the user asked for such.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placebos: Vec<PlaceboPlan>,
}

/// A task's provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPlan {
    /// `svamp`, `mgsm-de`.
    pub name: String,
    /// For tables: `SVAMP`.
    pub title: String,
    /// Of its file's text.
    pub sha256: String,
    /// The file's absolute path, where it is the user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// The provenance of completions that were made elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionsPlan {
    /// The file's absolute path.
    pub source: String,
    /// Of the file.
    pub sha256: String,
}

/// A dataset's provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetPlan {
    /// For tables.
    pub name: String,
    /// `bundled`, a path, or a hub address with commit.
    pub source: String,
    /// What opens it again: `bundled`, an absolute path, or a hub id.
    pub requested: String,
    /// A hub dataset's revision.
    pub revision: String,
    /// The split.
    pub split: String,
    /// Of the file.
    pub sha256: String,
    /// Rows in the file.
    pub rows: usize,
    /// Of these, rows whose reference is no number, which the task leaves out; none where it leaves none out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<usize>,
    /// Rows that the run takes.
    pub chosen: usize,
    /// Which: `all`, `first 20`, `3,17,40-60`.
    pub selection: String,
}

/// A protocol's provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolPlan {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Of its file's text.
    pub sha256: String,
    /// Whether prompts went through the model's chat template.
    pub chat: bool,
    /// The user's system message instead of the protocol's own; an empty one takes that away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Whether the chat template was told to let the model think, where the user said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<bool>,
    /// SHA-256 of the worked examples, where there are any.
    pub fewshot_sha256: Option<String>,
}

impl RunPlan for EvalPlan {
    fn command(&self) -> &[String] {
        &self.invocation.command
    }
}

impl EvalPlan {
    /// What tables and pages call the task.
    pub fn title(&self) -> &str {
        let otherwise = if self.is_made_elsewhere() { "Completions" } else { "GSM8K" };
        self.task.as_ref().map_or(otherwise, |task| &task.title)
    }

    /// Whether the completions were made elsewhere: how, how fast, and whether a limit cut them is not known.
    pub const fn is_made_elsewhere(&self) -> bool {
        self.completions.is_some()
    }

    /// The variant that holds the model's weights as they were trained, if the run has it.
    pub fn ground_truth(&self) -> Option<VariantName> {
        self.dtypes.iter().find(|variant| self.target.is_ground_truth(variant)).cloned()
    }

    /// The variant that the others are compared with, if the run has it.
    pub fn reference(&self) -> Option<VariantName> {
        self.target.reference_among(&self.dtypes)
    }

    /// The plan's total of completions a variant.
    pub fn completions_per_variant(&self) -> usize {
        self.dataset.chosen * self.generation.repeats
    }
}
