//! What is done of a run that is not over, beside the place of its record: a further call goes on from there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::DeterminismJob;
use super::record::{DeterminismPlan, DeterminismRecord, VariantFloor};
use crate::jobs::JobError;
use crate::record::{RecordError, RunPlan as _};

/// Where the passes of a run lie that is to write its record to `out`, until it has.
pub fn progress_path(out: &Path) -> PathBuf {
    let mut name = OsString::from(out);
    name.push(".partial");
    name.into()
}

/// What an earlier call of the same command has done; nothing of a new one. Refused are another command's, and to begin anew over what is kept.
pub(super) fn earlier(
    job: &DeterminismJob,
    plan: &DeterminismPlan,
    prompts: usize,
) -> Result<Vec<VariantFloor>, JobError> {
    let Some(path) = job.out.as_deref().map(progress_path) else {
        return if job.resume {
            Err(JobError::invalid("--resume goes on with a file that --out names", "give `--out FILE` too"))
        } else {
            Ok(Vec::new())
        };
    };
    let shown = path.display();
    match (job.resume, path.exists()) {
        (false, false) => return Ok(Vec::new()),
        (false, true) => {
            return Err(JobError::invalid(
                format!("{shown} holds the passes of a run that did not finish"),
                "add `--resume` to go on with it, or delete the file",
            ));
        }
        (true, false) => {
            return Err(JobError::invalid(
                format!("there is nothing to go on with: {shown} is not there"),
                "leave `--resume` out for a new run",
            ));
        }
        (true, true) => {}
    }
    let record = DeterminismRecord::read(&path)?.ok_or_else(|| {
        JobError::invalid(format!("{shown}: not what `evalsuite determinism` keeps"), "delete the file and begin anew")
    })?;
    let differences = record.plan.differences(plan).map_err(|error| {
        RecordError::invalid(format!("{shown}: cannot compare plans: {error}"), "delete the file and begin anew")
    })?;
    if !differences.is_empty() {
        let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
        return Err(JobError::invalid(
            format!("the run in {shown} cannot be resumed by this command:\n  {}", differences.join("\n  ")),
            "give its own command with `--resume`, or delete the file and begin anew",
        ));
    }
    let is_torn = |one: &&VariantFloor| one.is_begun() && !record.is_whole(one) && one.first.len() != prompts;
    if let Some(one) = record.variants.iter().find(is_torn) {
        return Err(JobError::invalid(
            format!("{shown}: {} answers of {}'s first pass, of {prompts} prompts", one.first.len(), one.variant),
            "the file was changed: delete it and begin anew",
        ));
    }
    Ok(record.variants)
}
