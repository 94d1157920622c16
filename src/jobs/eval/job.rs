//! A job: what the user asked for, checked as far as that goes without opening a file.

use std::path::PathBuf;

use super::Until;
use crate::jobs::{Destination, Target};
use crate::report::Format;
use crate::task::{ChatUse, DatasetSpec, Selection, Task};

/// One evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// What it runs.
    pub target: Target,
    /// What the problems are and what counts as right.
    pub task: Task,
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
    /// A system message instead of the protocol's own; an empty one takes that away.
    pub system: Option<String>,
    /// The rule that decides, instead of the protocol's headline.
    pub rule: Option<String>,
    /// Whether the chat template is told to let the model think; `None` leaves that to the template.
    pub thinking: Option<bool>,
    /// Sampling and limits.
    pub sampling: SamplingOptions,
    /// What ends it before all questions are asked.
    pub until: Option<Until>,
    /// Add columns that should not matter.
    pub placebo: bool,
    /// What an hour of the machine costs, for the money that right answers cost.
    pub price_per_hour: Option<f64>,
    /// Where the results go.
    pub destination: Destination,
    /// Go on with what is there.
    pub resume: bool,
    /// How the table is printed.
    pub format: Format,
}

impl EvalJob {
    /// The first questions of a task, asked as its protocol asks them, for a job that keeps no run of its own.
    pub fn questions(
        (command, target, destination): (Vec<String>, Target, Destination),
        (task, dataset): (Task, DatasetSpec),
        limit: Option<usize>,
        protocol: Option<&str>,
        sampling: SamplingOptions,
    ) -> Self {
        Self {
            command,
            target,
            dataset,
            selection: Selection { limit, indices: Vec::new() },
            protocol: protocol.unwrap_or(&task.protocol).to_owned(),
            task,
            fewshot: None,
            chat: None,
            system: None,
            rule: None,
            thinking: None,
            sampling,
            until: None,
            placebo: false,
            price_per_hour: None,
            destination,
            resume: false,
            format: Format::Json,
        }
    }
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
    /// What ends a thought besides the marks of known models.
    pub think_end: Option<String>,
}

impl SamplingOptions {
    /// The most probable token each time, one completion a sample.
    pub fn greedy(seed: u64, max_tokens: Option<usize>) -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            seed,
            repeats: 1,
            max_tokens,
            stop_strings: Vec::new(),
            think_end: None,
        }
    }
}
