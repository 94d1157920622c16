//! Where a run's numbers come from.

use serde::Serialize;

use crate::jobs::eval::{EvalPlan, StoredRun, dataset, protocol};
use crate::record::Machine;
use crate::report::{decoding, model};
use crate::text::command_line;

/// A run in words, and everything that makes it reproducible.
#[derive(Debug, Clone, Serialize)]
pub struct Provenance {
    /// The run folder as it was given.
    pub folder: String,
    /// `bundled (llama, 1.8 M parameters, stored as f32)`.
    pub model: String,
    /// `bundled, split test: 240 of 240 rows`.
    pub dataset: String,
    /// `stepwise (version 1), through the model's chat template`.
    pub protocol: String,
    /// `greedy, at most 512 tokens`.
    pub decoding: String,
    /// `evalsuite gsm8k`: what made it, ready for a shell.
    pub command: String,
    /// Everything that decides an answer, with every hash.
    pub plan: EvalPlan,
    /// The machine of the last session.
    pub machine: Machine,
    /// When it ended, UTC.
    pub finished: String,
    /// SHA-256 of `answers.jsonl`.
    pub answers_sha256: Option<String>,
    /// The notes printed before and during the run.
    pub notes: Vec<String>,
    /// Files of the run that cannot prove themselves unchanged, as earlier versions wrote them.
    pub unproven: Vec<String>,
    /// The folder holds its questions, so that samples can be shown.
    pub has_samples: bool,
}

pub(in crate::compare) fn provenance(run: &StoredRun) -> Provenance {
    let record = &run.record;
    let plan = &record.plan;
    Provenance {
        folder: run.path.display().to_string(),
        model: model(&plan.target.model),
        dataset: dataset(plan),
        protocol: protocol(plan, &plan.protocol),
        decoding: decoding(&plan.generation),
        command: command_line(plan.invocation.command.iter().map(String::as_str)),
        plan: plan.clone(),
        machine: record.machine.clone(),
        finished: record.finished.clone(),
        answers_sha256: record.answers_sha256.clone(),
        notes: record.notes.clone(),
        unproven: run.notes.clone(),
        has_samples: !run.samples.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_folder_without_questions_is_known() {
        let mut run = StoredRun::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/e113425/run")).unwrap();
        assert!(!run.samples.is_empty() && provenance(&run).has_samples);
        run.samples = Arc::default();
        assert!(!provenance(&run).has_samples);
    }
}
