//! What decides every answer and score of an evaluation.

use serde::{Deserialize, Serialize};

use crate::engine::{Batching, Dtype};
use crate::record::{AwqPlan, GenerationPlan, ModelPlan, RunPlan};

/// What a run was asked for, with the hash of everything it reads. Written before the first token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalPlan {
    /// The version of evalsuite.
    pub evalsuite: String,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// Where the command was given: its relative paths are meant from there. Older plans do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// When the run began, UTC.
    pub started: String,
    /// The model.
    pub model: ModelPlan,
    /// The model's AWQ form, where the run reads it from files of its own.
    #[serde(default)]
    pub awq: Option<AwqPlan>,
    /// The task, where it is another than the built-in `gsm8k`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskPlan>,
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
    /// Precisions, the ground truth first.
    pub dtypes: Vec<Dtype>,
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
    /// SHA-256 of the worked examples, where there are any.
    pub fewshot_sha256: Option<String>,
}

impl RunPlan for EvalPlan {
    fn command(&self) -> &[String] {
        &self.command
    }
}

impl EvalPlan {
    /// What tables and pages call the task.
    pub fn title(&self) -> &str {
        self.task.as_ref().map_or("GSM8K", |task| &task.title)
    }

    /// The precision that holds the model's weights as they were trained, if the run has it.
    pub fn ground_truth(&self) -> Option<Dtype> {
        (!self.model.quantized && self.dtypes.contains(&Dtype::F32)).then_some(Dtype::F32)
    }

    /// The plan's total of completions a dtype.
    pub fn completions_per_dtype(&self) -> usize {
        self.dataset.chosen * self.generation.repeats
    }
}
