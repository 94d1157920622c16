//! A job: what the user asked for, checked as far as that goes without opening a file.

use std::path::PathBuf;

use crate::engine::model::ModelSpec;
use crate::engine::{Batching, Dtype, EngineKind};
use crate::report::Format;
use crate::task::{ChatUse, DatasetSpec, Selection};

/// One evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// The model.
    pub model: ModelSpec,
    /// The problems.
    pub dataset: DatasetSpec,
    /// Which of them.
    pub selection: Selection,
    /// A built-in protocol's name, or a file.
    pub protocol: String,
    /// Worked examples, instead of the protocol's own.
    pub fewshot: Option<PathBuf>,
    /// Instead of the protocol's own.
    pub chat: Option<ChatUse>,
    /// The AWQ form of the model, if the user named it.
    pub awq: Option<ModelSpec>,
    /// Precisions, the ground truth first, none twice; empty means every one that the model offers.
    pub dtypes: Vec<Dtype>,
    /// The engine.
    pub engine: EngineKind,
    /// Which GPU, where the engine runs on one.
    pub device: usize,
    /// Whether a request's tokens may depend on its batch.
    pub batching: Batching,
    /// Requests that advance together at most.
    pub batch: Option<usize>,
    /// Sampling and limits.
    pub sampling: SamplingOptions,
    /// Where the results go.
    pub destination: Destination,
    /// Go on with what is there.
    pub resume: bool,
    /// How the table is printed.
    pub format: Format,
}

/// How completions are chosen and bounded.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// 0 is greedy.
    pub temperature: f64,
    /// Nucleus; 1 is all.
    pub top_p: f64,
    /// 0 is all.
    pub top_k: usize,
    /// Of the whole run.
    pub seed: u64,
    /// Completions a sample.
    pub repeats: usize,
    /// Instead of the protocol's own limit.
    pub max_tokens: Option<usize>,
    /// Besides the protocol's own.
    pub stop_strings: Vec<String>,
}

/// Where a run's folder lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The user named it.
    Folder(PathBuf),
    /// A new one under this folder, named by time, model and protocol; with `--resume`, the newest that matches.
    Under(PathBuf),
}
