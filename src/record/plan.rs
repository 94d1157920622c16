//! `plan.json`: what decides every answer and score of a run.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::model::Family;
use crate::engine::{Batching, Dtype};

/// What a run was asked for, with the hash of everything it reads. Written before the first token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The version of evalsuite.
    pub evalsuite: String,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// When the run began, UTC.
    pub started: String,
    /// The model.
    pub model: ModelPlan,
    /// The model's AWQ form, where the run reads it from files of its own.
    #[serde(default)]
    pub awq: Option<AwqPlan>,
    /// The problems.
    pub dataset: DatasetPlan,
    /// The protocol.
    pub protocol: ProtocolPlan,
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

/// A model's provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// For tables.
    pub name: String,
    /// `bundled`, a path, or a hub address with commit.
    pub source: String,
    /// Over every file that decides an answer.
    pub sha256: String,
    /// What the files hold their tensors in.
    pub stored_as: String,
    /// The files hold fewer bits than the model was trained in: no precision of theirs is its ground truth.
    #[serde(default)]
    pub quantized: bool,
    /// The family.
    pub family: Family,
    /// Parameters, counted from the configuration.
    pub parameters: u64,
}

/// The provenance of a model's AWQ form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwqPlan {
    /// For tables.
    pub name: String,
    /// `bundled-awq`, a path, or a hub address with commit.
    pub source: String,
    /// Over every file that decides an answer.
    pub sha256: String,
    /// `awq-int4 (group 64)`.
    pub stored_as: String,
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
    /// SHA-256 of the worked examples, where there are any.
    pub fewshot_sha256: Option<String>,
}

/// How completions were generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationPlan {
    /// 0 is greedy.
    pub temperature: f64,
    /// Nucleus.
    pub top_p: f64,
    /// 0 is all.
    pub top_k: usize,
    /// The run's seed; each request's is derived from it, the row and the repeat.
    pub seed: u64,
    /// Completions a sample.
    pub repeats: usize,
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Strings that end a generation, the protocol's and the user's.
    pub stop_strings: Vec<String>,
}

/// What decides a run's answers, as a run folder keeps it.
pub trait RunPlan: Serialize + DeserializeOwned {
    /// The command line, word by word.
    fn command(&self) -> &[String];

    /// Every field that could change an answer or a score and differs between this plan (was) and `other` (is).
    fn differences(&self, other: &Self) -> Result<Vec<Difference>, serde_json::Error> {
        let mut found = Vec::new();
        compare("", &serde_json::to_value(self)?, &serde_json::to_value(other)?, &mut found);
        Ok(found)
    }
}

impl RunPlan for Plan {
    fn command(&self) -> &[String] {
        &self.command
    }
}

/// One field in which two plans differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `model.sha256`, …
    pub field: String,
    /// In the run folder.
    pub was: String,
    /// In the command now given.
    pub is: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: was {}, is {}", self.field, self.was, self.is)
    }
}

/// Fields that say where and when, and decide nothing: the hashes beside them do.
const INDIFFERENT: [&str; 11] = [
    "command",
    "started",
    "model.name",
    "model.source",
    "awq.name",
    "awq.source",
    "dataset.name",
    "dataset.source",
    "dataset.requested",
    "prompts.name",
    "prompts.source",
];

impl Plan {
    /// The precision that holds the model's weights as they were trained, if the run has it.
    pub fn ground_truth(&self) -> Option<Dtype> {
        (!self.model.quantized && self.dtypes.contains(&Dtype::F32)).then_some(Dtype::F32)
    }

    /// The plan's total of completions a dtype.
    pub fn completions_per_dtype(&self) -> usize {
        self.dataset.chosen * self.generation.repeats
    }
}

fn compare(field: &str, was: &Value, is: &Value, found: &mut Vec<Difference>) {
    if let (Value::Object(was), Value::Object(is)) = (was, is) {
        for (key, old) in was {
            let inner = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
            compare(&inner, old, is.get(key).unwrap_or(&Value::Null), found);
        }
    } else if was != is && !INDIFFERENT.contains(&field) {
        found.push(Difference { field: field.to_owned(), was: shown(was), is: shown(is) });
    }
}

/// A value in words: strings bare, nothing as `none`.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
