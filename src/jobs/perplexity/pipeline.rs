//! The file that knows every stage: load → cut → open → measure → summarise → report.

use super::departures::left_by_reference;
use super::measure::{Runner, measure, open_runners};
use super::summary::summarise;
use super::{PERPLEXITY_FORMAT, PerplexityRecord, render_perplexity};
use super::{PerplexityInputs, PerplexityJob};
use crate::hub::Hub;
use crate::jobs::{Event, Failures, JobContext, JobError, check_destination};
use crate::record::{Invocation, Machine, utc_now};

/// How a reading ended.
#[derive(Debug)]
pub struct PerplexityFinished {
    /// What was measured; `complete` is false where the user broke off.
    pub record: PerplexityRecord,
    /// The report of it in the job's format; `None` where not one window is done.
    pub report: Option<String>,
    /// Variants that did not finish, and why.
    pub failures: Failures,
}

/// Runs a job.
pub fn execute(job: &PerplexityJob, hub: &Hub, context: &mut JobContext) -> Result<PerplexityFinished, JobError> {
    check_destination(job.out.as_deref(), "perplexity.json")?;
    // Held until all engines are open, and these hold them until all has been read.
    let _devices = job.target.check_devices()?;
    evaluate(job, &PerplexityInputs::load(job, hub)?, context)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(
    job: &PerplexityJob,
    inputs: &PerplexityInputs,
    context: &mut JobContext,
) -> Result<PerplexityFinished, JobError> {
    let invocation = Invocation::now(&job.command);
    for note in &inputs.notes {
        (context.emit)(Event::Note(note.clone()));
    }
    let mut runners = open_runners(job, inputs, context)?;
    // Another model's answers are not read; a text waits for no hash.
    let target = inputs.asked.is_some().then(|| inputs.target()).transpose()?;
    let done = measure(&mut runners, inputs, context)?;
    let mut runners = runners.all;
    for runner in runners.iter().filter(|runner| runner.failure.is_none()) {
        (context.emit)(Event::Ended(runner.variant.clone()));
    }
    if runners.iter().all(|runner| runner.failure.is_some())
        && let Some(error) = runners.iter_mut().find_map(|runner| runner.failure.take())
    {
        return Err(error);
    }
    let windows = inputs.window_plan(job, done);
    let mut notes = inputs.notes.clone();
    if let Some(note) = not_its_own(&runners, inputs, done) {
        (context.emit)(Event::Note(note.clone()));
        notes.push(note);
    }
    let record = PerplexityRecord {
        perplexity_format: PERPLEXITY_FORMAT,
        invocation,
        finished: utc_now(),
        machine: Machine::detect(),
        threads: rayon::current_num_threads(),
        target: target.map_or_else(|| inputs.target(), Ok)?,
        text: inputs.text_plan(),
        engine: job.target.engine.name().to_owned(),
        complete: done == windows.count && runners.iter().all(|runner| runner.failure.is_none()),
        notes,
        dtypes: summarise(&runners, inputs, &windows, job.worst),
        windows,
    };
    let failures = runners.into_iter().filter_map(|runner| Some((runner.variant, runner.failure?))).collect();
    if done == 0 {
        return Ok(PerplexityFinished { record, report: None, failures });
    }
    let report = render_perplexity(&record, &job.format, job.worst)?;
    Ok(PerplexityFinished { record, report: Some(report), failures })
}

/// Says so where the reference computes otherwise than when it wrote the answers: they are then not quite its own.
fn not_its_own(runners: &[Runner], inputs: &PerplexityInputs, done: usize) -> Option<String> {
    let reference = runners.iter().find(|runner| runner.is_reference)?;
    let left = left_by_reference(&reference.scores, inputs, done)?;
    (left > 0).then(|| {
        format!(
            "{} itself would leave {left} of these answers: another engine, or another version of it, wrote them",
            reference.variant
        )
    })
}
