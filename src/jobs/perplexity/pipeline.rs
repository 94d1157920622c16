//! The file that knows every stage: load → cut → open → measure → summarise → report.

use super::measure::{measure, open_lanes};
use super::summary::summarise;
use super::{PERPLEXITY_FORMAT, PerplexityRecord, render_perplexity};
use super::{PerplexityInputs, PerplexityJob};
use crate::engine::Dtype;
use crate::hub::Hub;
use crate::jobs::{Event, JobContext, JobError, awq_plan, check_destination, model_plan};
use crate::record::{Machine, utc_now};

/// How a reading ended.
#[derive(Debug)]
pub struct PerplexityFinished {
    /// What was measured; `complete` is false where the user broke off.
    pub record: PerplexityRecord,
    /// The report of it in the job's format; `None` where not one window is done.
    pub report: Option<String>,
    /// Precisions that did not finish, and why.
    pub failures: Vec<(Dtype, JobError)>,
}

/// Runs a job.
pub fn execute(job: &PerplexityJob, hub: &Hub, surroundings: &mut JobContext) -> Result<PerplexityFinished, JobError> {
    check_destination(job.out.as_deref(), "perplexity.json")?;
    job.subject.check_device()?;
    evaluate(job, &PerplexityInputs::load(job, hub)?, surroundings)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(
    job: &PerplexityJob,
    inputs: &PerplexityInputs,
    surroundings: &mut JobContext,
) -> Result<PerplexityFinished, JobError> {
    let started = utc_now();
    for note in &inputs.notes {
        (surroundings.tell)(Event::Note(note.clone()));
    }
    let mut lanes = open_lanes(job, inputs, surroundings)?;
    let done = measure(&mut lanes, inputs, surroundings)?;
    for lane in lanes.iter().filter(|lane| lane.failure.is_none()) {
        (surroundings.tell)(Event::Ended(lane.dtype));
    }
    if lanes.iter().all(|lane| lane.failure.is_some())
        && let Some(error) = lanes.iter_mut().find_map(|lane| lane.failure.take())
    {
        return Err(error);
    }
    let windows = inputs.window_plan(job, done);
    let record = PerplexityRecord {
        perplexity_format: PERPLEXITY_FORMAT,
        evalsuite: env!("CARGO_PKG_VERSION").to_owned(),
        command: job.command.clone(),
        started,
        finished: utc_now(),
        machine: Machine::detect(),
        threads: rayon::current_num_threads(),
        model: model_plan(&inputs.model),
        awq: awq_plan(inputs.awq.as_ref(), &inputs.dtypes),
        text: inputs.text_plan(),
        engine: job.subject.engine.name().to_owned(),
        complete: done == windows.count && lanes.iter().all(|lane| lane.failure.is_none()),
        notes: inputs.notes.clone(),
        dtypes: summarise(&lanes, inputs, &windows, job.worst),
        windows,
    };
    let failures = lanes.into_iter().filter_map(|lane| Some((lane.dtype, lane.failure?))).collect();
    if done == 0 {
        return Ok(PerplexityFinished { record, report: None, failures });
    }
    let report = render_perplexity(&record, &job.format, job.worst)?;
    Ok(PerplexityFinished { record, report: Some(report), failures })
}
