//! Compares the ids in a golden file with the ids in its prompt set or dataset, without running a model.

use super::{Golden, SuiteJob};
use crate::hub::Hub;
use crate::jobs::JobError;
use crate::task::{Dataset, PromptSet};

/// Ids that only one side has: the golden file, or the selection of its suite.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Ids with an output in the golden file that the prompt set or dataset no longer has.
    pub orphaned: Vec<String>,
    /// Ids that the suite selects and that have no output in the golden file.
    pub missing: Vec<String>,
}

/// Opens the prompt set or dataset of a golden file and compares ids; `job` is the golden file's recipe, resolved.
/// Repeats of a prompt (`ID, repeat N`) count as the prompt.
pub fn coverage(golden: &Golden, job: &SuiteJob, hub: &Hub) -> Result<Coverage, JobError> {
    let (known, asked): (Vec<String>, Vec<String>) = match job {
        SuiteJob::Quality(job) => {
            let set = PromptSet::open(job.prompts.as_deref())?;
            let only: Vec<String> =
                job.only.iter().filter(|name| set.choose(std::slice::from_ref(name)).is_ok()).cloned().collect();
            let chosen = if only.is_empty() && !job.only.is_empty() { Vec::new() } else { set.choose(&only)? };
            let ids: Vec<String> = set.prompts.into_iter().map(|prompt| prompt.id).collect();
            let asked = chosen.iter().filter_map(|row| ids.get(*row).cloned()).collect();
            (ids, asked)
        }
        SuiteJob::Gsm8k(job) => {
            let rows = Dataset::open_as(&job.task, &job.dataset, hub, |_| false)?.rows;
            let known: Vec<String> = (0..rows).map(|row| row.to_string()).collect();
            let rows =
                if job.selection.indices.is_empty() { (0..rows).collect() } else { job.selection.indices.clone() };
            let chosen = rows.into_iter().take(job.selection.limit.unwrap_or(usize::MAX)).map(|row| row.to_string());
            let asked = chosen.filter(|row| known.contains(row)).collect();
            (known, asked)
        }
    };
    let prompt_of = |id: &str| id.split(", repeat").next().unwrap_or(id).to_owned();
    let held: Vec<String> = golden.outputs.iter().map(|output| prompt_of(&output.id)).collect();
    let mut orphaned: Vec<String> = held.iter().filter(|id| !known.contains(id)).cloned().collect();
    orphaned.dedup();
    let missing = asked.into_iter().filter(|id| !held.contains(id)).collect();
    Ok(Coverage { orphaned, missing })
}
