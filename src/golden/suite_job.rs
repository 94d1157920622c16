//! Reruns the suite of a golden file through the pipelines of `eval` and `quality`.

use std::path::Path;
use std::sync::Arc;

use super::candidate::{Candidates, Origin, RecipeSource, candidates};
use super::{Recipe, Suite};
use crate::engine::model::ModelTokenizer;
use crate::hub::Hub;
use crate::jobs::eval::{EvalInputs, EvalJob};
use crate::jobs::quality::{QualityInputs, QualityJob};
use crate::jobs::{Failures, JobContext, JobError, spelling};
use crate::task::PromptSet;

/// The job that produces a suite's outputs.
#[derive(Debug, Clone, PartialEq)]
pub enum SuiteJob {
    /// A dataset under a protocol.
    Gsm8k(Box<EvalJob>),
    /// A prompt set.
    Quality(Box<QualityJob>),
}

/// How a rerun ended.
#[derive(Debug)]
pub enum SuiteEnd {
    /// With outputs, or an error for each precision that failed.
    Ran(Ran),
    /// No row or prompt that it selects exists any more; why, in words.
    Orphaned(String),
    /// Interrupted by the user.
    Interrupted,
}

/// The result of a rerun.
#[derive(Debug)]
pub struct Ran {
    /// One golden file a variant, or why there is none.
    pub candidates: Candidates,
    tokenizer: Option<Arc<ModelTokenizer>>,
}

impl Ran {
    /// A token's text.
    pub fn spell(&self, token: u32) -> String {
        self.tokenizer.as_ref().map_or_else(|| format!("<{token}>"), |tokenizer| spelling(tokenizer, token))
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

    /// Runs what of the job there still is: rows and prompts that are no more are left out.
    pub fn run(&self, recipe: &Recipe, hub: &Hub, context: &mut JobContext) -> Result<SuiteEnd, JobError> {
        match self {
            Self::Gsm8k(job) => {
                let inputs = EvalInputs::load(job, hub)?;
                let mut job = job.as_ref().clone();
                let rows = inputs.dataset.rows;
                if !keep_known(&mut job.selection.indices, |row| *row < rows) {
                    return Ok(SuiteEnd::Orphaned(format!(
                        "no row of it is in the dataset any more, which has {rows}"
                    )));
                }
                let finished = crate::jobs::eval::evaluate(&job, &inputs, context)?;
                let tokenizer = inputs.model().tokenizer().cloned();
                let origin = Origin { recipe: RecipeSource::Known(recipe), protocol: Some(&job.protocol) };
                ran(&finished.folder, finished.results.is_some(), finished.failures, origin, tokenizer)
            }
            Self::Quality(job) => {
                let set = PromptSet::open(job.prompts.as_deref())?;
                let mut job = job.as_ref().clone();
                let known = |name: &String| set.choose(std::slice::from_ref(name)).is_ok();
                if !keep_known(&mut job.only, known) {
                    return Ok(SuiteEnd::Orphaned(format!("no prompt of it is in the set {} any more", set.name)));
                }
                let inputs = QualityInputs::load(&job, hub)?;
                let finished = crate::jobs::quality::evaluate(&job, &inputs, context)?;
                let tokenizer = inputs.model.tokenizer().cloned();
                let origin = Origin { recipe: RecipeSource::Known(recipe), protocol: None };
                ran(&finished.folder, finished.results.is_some(), finished.failures, origin, tokenizer)
            }
        }
    }
}

/// Whether any selected row or prompt still exists. An empty selection means all, so a selection must not become empty silently.
fn keep_known<T>(chosen: &mut Vec<T>, known: impl Fn(&T) -> bool) -> bool {
    let names_all = chosen.is_empty();
    chosen.retain(known);
    names_all || !chosen.is_empty()
}

fn ran(
    folder: &Path,
    has_results: bool,
    failures: Failures,
    origin: Origin,
    tokenizer: Option<Arc<ModelTokenizer>>,
) -> Result<SuiteEnd, JobError> {
    if !has_results {
        return Ok(SuiteEnd::Interrupted);
    }
    let mut candidates = candidates(folder, origin)?;
    // The error itself says more than the run's folder: whether the engine failed, and a hint.
    for (variant, error) in failures {
        if let Some(place) = candidates.iter_mut().find(|(candidate, _)| *candidate == variant) {
            place.1 = Err(error);
        }
    }
    Ok(SuiteEnd::Ran(Ran { candidates, tokenizer }))
}
