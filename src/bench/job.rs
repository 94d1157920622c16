//! What the user asked for, checked as far as that goes without opening a file.

use std::path::PathBuf;

use crate::engine::model::ModelSpec;
use crate::engine::{Batching, Dtype, EngineKind};
use crate::record::{BenchPart, Lengths};
use crate::report::Format;
use crate::run::Wanted;

/// One request alone: 128 tokens after the first.
pub(super) const SINGLE: Lengths = Lengths { requests: 1, prompt_tokens: 128, output_tokens: 129 };

/// Many requests of one length at once.
pub(super) const CONCURRENT: Lengths = Lengths { requests: 500, prompt_tokens: 128, output_tokens: 64 };

/// One benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// The model.
    pub model: ModelSpec,
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
    /// The workload's file; `None` is the one built in.
    pub workload: Option<PathBuf>,
    /// The first requests of the workload and of the concurrent part only.
    pub requests: Option<usize>,
    /// Which parts, in their order.
    pub parts: Vec<BenchPart>,
    /// Repetitions of loading and of the single request.
    pub repeats: usize,
    /// Tokens that all prompts of the workload begin with, instead of what its file says.
    pub shared_prefix_tokens: Option<usize>,
    /// Of the prompts' token ids.
    pub seed: u64,
    /// What others measured.
    pub peers: Option<PathBuf>,
    /// Where the record goes, if anywhere.
    pub out: Option<PathBuf>,
    /// How the tables are printed.
    pub format: Format,
}

impl BenchJob {
    /// What of it decides the precisions.
    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted {
            command: &self.command,
            model: &self.model,
            awq: self.awq.as_ref(),
            dtypes: &self.dtypes,
            engine: self.engine,
        }
    }

    pub(super) fn has(&self, part: BenchPart) -> bool {
        self.parts.contains(&part)
    }

    /// The concurrent part's requests.
    pub(super) fn concurrent(&self) -> Lengths {
        Lengths { requests: self.requests.unwrap_or(usize::MAX).min(CONCURRENT.requests), ..CONCURRENT }
    }
}
