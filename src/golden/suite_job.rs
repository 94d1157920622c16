//! A golden file's suite run anew, through the pipelines of `gsm8k` and `quality`.

use std::path::Path;
use std::sync::Arc;

use super::candidate::{Candidates, Origin, candidates};
use super::{Recipe, Suite};
use crate::engine::model::ModelTokenizer;
use crate::hub::Hub;
use crate::run::quality::{QualityInputs, QualityJob, spelling};
use crate::run::{Inputs, Job, Prepared, RunError, Surroundings, prepare};
use crate::task::PromptSet;

/// What makes a suite's outputs.
#[derive(Debug, Clone, PartialEq)]
pub enum SuiteJob {
    /// A dataset under a protocol.
    Gsm8k(Box<Job>),
    /// A prompt set.
    Quality(Box<QualityJob>),
}

/// What came of it.
#[derive(Debug)]
pub struct Ran {
    /// One golden file a precision, or why there is none.
    pub candidates: Candidates,
    tokenizer: Arc<ModelTokenizer>,
}

impl Ran {
    /// A token's text.
    pub fn spell(&self, token: u32) -> String {
        spelling(&self.tokenizer, token)
    }
}

impl SuiteJob {
    /// Which suite.
    pub const fn suite(&self) -> Suite {
        match self {
            Self::Gsm8k(_) => Suite::Gsm8k,
            Self::Quality(_) => Suite::Quality,
        }
    }

    /// Runs what of the job there still is: rows and prompts that are no more are left out. `None` where it was
    /// interrupted.
    pub fn run(&self, recipe: &Recipe, hub: &Hub, surroundings: &mut Surroundings) -> Result<Option<Ran>, RunError> {
        match self {
            Self::Gsm8k(job) => {
                let inputs = Inputs::load(job, hub)?;
                let mut job = job.as_ref().clone();
                let rows = inputs.dataset.samples.len();
                keep_known(&mut job.selection.indices, |row| *row < rows, "row", "the dataset")?;
                let finished = crate::run::evaluate(&job, &inputs, surroundings)?;
                let tokenizer = Arc::clone(&inputs.model.tokenizer);
                let origin = Origin { recipe: Some(recipe), protocol: Some(&job.protocol) };
                let mut ran = ran(&finished.folder, finished.results.is_some(), finished.failures, origin, tokenizer)?;
                if let Some(ran) = &mut ran {
                    add_prompts(ran, &prepare(&inputs, &job)?.0);
                }
                Ok(ran)
            }
            Self::Quality(job) => {
                let set = PromptSet::open(job.prompts.as_deref())?;
                let mut job = job.as_ref().clone();
                let known = |name: &String| set.choose(std::slice::from_ref(name)).is_ok();
                keep_known(&mut job.only, known, "prompt", "the set")?;
                let inputs = QualityInputs::load(&job, hub)?;
                let finished = crate::run::quality::evaluate(&job, &inputs, surroundings)?;
                let tokenizer = Arc::clone(&inputs.model.tokenizer);
                let origin = Origin { recipe: Some(recipe), protocol: None };
                ran(&finished.folder, finished.results.is_some(), finished.failures, origin, tokenizer)
            }
        }
    }
}

/// A run's folder need not hold what the model read.
fn add_prompts(ran: &mut Ran, prepared: &[Prepared]) {
    for output in
        ran.candidates.iter_mut().filter_map(|(_, golden)| golden.as_mut().ok()).flat_map(|golden| &mut golden.outputs)
    {
        let same = prepared.iter().find(|one| one.prompt_sha256 == output.prompt_sha256);
        output.prompt = same.map(|one| one.prompt.text.clone());
    }
}

/// An empty choice means all, so a choice must not become empty unnoticed.
fn keep_known<T>(chosen: &mut Vec<T>, known: impl Fn(&T) -> bool, kind: &str, place: &str) -> Result<(), RunError> {
    let some = !chosen.is_empty();
    chosen.retain(known);
    if some && chosen.is_empty() {
        return Err(RunError::invalid(
            format!("orphaned: no {kind} of the golden file is in {place} any more"),
            "delete the golden file, or accept it anew with other arguments behind `--`",
        ));
    }
    Ok(())
}

fn ran(
    folder: &Path,
    has_results: bool,
    failures: Vec<(crate::engine::Dtype, RunError)>,
    origin: Origin,
    tokenizer: Arc<ModelTokenizer>,
) -> Result<Option<Ran>, RunError> {
    if !has_results {
        return Ok(None);
    }
    let mut candidates = candidates(folder, origin)?;
    // The error itself says more than the run's folder: whether the engine failed, and a hint.
    for (dtype, error) in failures {
        if let Some(place) = candidates.iter_mut().find(|(candidate, _)| *candidate == dtype) {
            place.1 = Err(error);
        }
    }
    Ok(Some(Ran { candidates, tokenizer }))
}
