//! The file that knows every stage: load → cut → open → measure → summarise → report.

use std::path::Path;

use super::measure::{measure, open_lanes};
use super::summary::summarise;
use super::{PerplexityInputs, PerplexityJob};
use crate::engine::Dtype;
use crate::files::check_writable;
use crate::hub::Hub;
use crate::record::{Machine, PERPLEXITY_FORMAT, PerplexityRecord, utc_now};
use crate::report::render_perplexity;
use crate::run::inputs::{awq_plan, engine_name, model_plan};
use crate::run::{Event, RunError, Surroundings};

/// How a reading ended.
#[derive(Debug)]
pub struct PerplexityFinished {
    /// What was measured; `complete` is false where the user broke off.
    pub record: PerplexityRecord,
    /// The report of it in the job's format; `None` where not one window is done.
    pub report: Option<String>,
    /// Precisions that did not finish, and why.
    pub failures: Vec<(Dtype, RunError)>,
}

/// Runs a job.
pub fn execute(
    job: &PerplexityJob,
    hub: &Hub,
    surroundings: &mut Surroundings,
) -> Result<PerplexityFinished, RunError> {
    check_destination(job.out.as_deref(), "perplexity.json")?;
    job.subject.check_device()?;
    evaluate(job, &PerplexityInputs::load(job, hub)?, surroundings)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(
    job: &PerplexityJob,
    inputs: &PerplexityInputs,
    surroundings: &mut Surroundings,
) -> Result<PerplexityFinished, RunError> {
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
        engine: engine_name(job.subject.engine).to_owned(),
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

/// A record that cannot be written should fail before the hours of work that it would tell of. `example` is a good name for it.
pub(crate) fn check_destination(out: Option<&Path>, example: &str) -> Result<(), RunError> {
    let Some(path) = out else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() {
        return Err(RunError::invalid(
            format!("--out {} is a folder", path.display()),
            format!("name a file in it, such as {example}"),
        ));
    }
    match folder {
        Some(folder) if !folder.is_dir() => Err(RunError::invalid(
            format!("--out {}: there is no folder {}", path.display(), folder.display()),
            format!("make it with `mkdir -p {}`, or choose another file", folder.display()),
        )),
        _ => check_writable(path).map_err(|error| {
            RunError::invalid(
                format!("--out {}: cannot write there: {error}", path.display()),
                "choose a file in a folder that you may write to",
            )
        }),
    }
}
