//! The one file that knows every stage: load → render → generate and score → record → compare → report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::generate::{End, Task, generate};
use super::precisions::weight_notes;
use super::prompts::{Prepared, prepare};
use super::{Destination, Event, Inputs, Job, RunError};
use crate::engine::model::ModelSource;
use crate::engine::{Dtype, Engine, EngineError, OpenOptions};
use crate::files::sha256;
use crate::hub::Hub;
use crate::record::{
    FORMAT, Machine, Measured, Plan, Record, RunFolder, StoredSample, answers, summarise, utc_now, utc_stamp,
};
use crate::report::render;

/// Loads a model into an engine: [`crate::engine::open`], or a test's own.
pub type OpenEngine<'a> = dyn FnMut(&Arc<ModelSource>, &OpenOptions) -> Result<Box<dyn Engine>, EngineError> + 'a;

/// What surrounds a run: who listens, who interrupts, where engines come from.
pub struct Surroundings<'a> {
    /// Opens an engine.
    pub open_engine: &'a mut OpenEngine<'a>,
    /// Is told everything as it happens.
    pub tell: &'a mut dyn FnMut(Event),
    /// Set from outside to end the run after the engine's next step.
    pub interrupted: &'a AtomicBool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// The run folder.
    pub folder: PathBuf,
    /// The results, and the report of them in the job's format; `None` when interrupted.
    pub results: Option<(Record, String)>,
    /// Precisions that did not finish, and why.
    pub failures: Vec<(Dtype, RunError)>,
}

/// Runs a job.
pub fn execute(job: &Job, hub: &Hub, surroundings: &mut Surroundings) -> Result<Finished, RunError> {
    evaluate(job, &Inputs::load(job, hub)?, surroundings)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(job: &Job, inputs: &Inputs, surroundings: &mut Surroundings) -> Result<Finished, RunError> {
    let (prepared, prompt_notes) = prepare(inputs, job)?;
    let plan = inputs.plan(job, prepared.len())?;
    let notes =
        [inputs.notes.clone(), weight_notes(&plan.model, plan.awq.as_ref(), &plan.dtypes), prompt_notes].concat();
    for note in &notes {
        (surroundings.tell)(Event::Note(note.clone()));
    }

    let (folder, plan) = folder(job, plan)?;
    (surroundings.tell)(folder_event(&folder, &plan)?);
    folder.write_samples(&prepared.iter().map(stored_sample).collect::<Vec<_>>())?;

    let task = Task { job, inputs, prepared: &prepared, plan: &plan, folder: &folder };
    let mut failures = Vec::new();
    for dtype in &plan.dtypes {
        match generate(&task, *dtype, surroundings)? {
            End::Complete => {}
            End::Interrupted => {
                return Ok(Finished { folder: folder.path().to_path_buf(), results: None, failures });
            }
            End::Failed(error) => {
                (surroundings.tell)(Event::Failed { dtype: *dtype, message: error.to_string() });
                failures.push((*dtype, error));
            }
        }
    }
    let record = record(&folder, plan, inputs, notes, &failures)?;
    folder.write_record(&record)?;
    let report = render(&record, &job.format)?;
    Ok(Finished { folder: folder.path().to_path_buf(), results: Some((record, report)), failures })
}

fn stored_sample(prepared: &Prepared) -> StoredSample {
    StoredSample {
        sample: prepared.sample,
        question: prepared.question.clone(),
        answer: prepared.answer.clone(),
        prompt: prepared.prompt.text.clone(),
    }
}

/// A new folder, or the one to go on with.
fn folder(job: &Job, plan: Plan) -> Result<(RunFolder, Plan), RunError> {
    if job.resume {
        let path = match &job.destination {
            Destination::Folder(path) => path.clone(),
            Destination::Under(runs) => RunFolder::newest_matching(runs, &plan)?,
        };
        return Ok(RunFolder::resume(&path, &plan)?);
    }
    let path = match &job.destination {
        Destination::Folder(path) => path.clone(),
        Destination::Under(runs) => fresh_path(runs, &plan),
    };
    Ok((RunFolder::create(&path, &plan)?, plan))
}

/// `<UTC timestamp>-<model>-<protocol>`, numbered where two runs begin within a second.
fn fresh_path(runs: &Path, plan: &Plan) -> PathBuf {
    let model = plan.model.name.rsplit('/').next().unwrap_or_default();
    let name = format!("{}-{model}-{}", utc_stamp(), plan.protocol.name);
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    let name: String = name.chars().map(safe).collect();
    let numbered = (2..).map(|number| runs.join(format!("{name}-{number}")));
    let mut candidates = std::iter::once(runs.join(&name)).chain(numbered);
    candidates.find(|path| !path.exists()).unwrap_or_else(|| runs.join(&name))
}

fn folder_event(folder: &RunFolder, plan: &Plan) -> Result<Event, RunError> {
    let mut done = 0;
    for dtype in &plan.dtypes {
        done += RunFolder::read_outcomes(folder.path(), *dtype)?.len();
    }
    let total = plan.completions_per_dtype() * plan.dtypes.len();
    Ok(Event::Folder { path: folder.path().to_path_buf(), done, total })
}

/// The results as the folder's files tell them: an interrupted run gives what an uninterrupted one gives.
fn record(
    folder: &RunFolder,
    plan: Plan,
    inputs: &Inputs,
    notes: Vec<String>,
    failures: &[(Dtype, RunError)],
) -> Result<Record, RunError> {
    let mut journals = Vec::new();
    let mut measured = Vec::new();
    for dtype in &plan.dtypes {
        journals.push((*dtype, folder.journal(*dtype)?.1));
        let failure = failures.iter().find(|(failed, _)| failed == dtype).map(|(_, error)| error.to_string());
        let outcomes = RunFolder::read_outcomes(folder.path(), *dtype)?;
        measured.push(Measured { dtype: *dtype, outcomes, sessions: folder.sessions(*dtype)?, failure });
    }
    let answers = answers(&mut journals)?;
    folder.write_answers(&answers)?;
    let rules: Vec<String> = inputs.protocol.rules.iter().map(|rule| rule.name.clone()).collect();
    let complete = measured.iter().all(|one| one.outcomes.len() == plan.completions_per_dtype());
    Ok(Record {
        format: FORMAT,
        ground_truth: plan.ground_truth(),
        plan,
        finished: utc_now(),
        machine: Machine::detect(),
        complete,
        answers_sha256: Some(sha256(&answers)),
        notes,
        dtypes: summarise(&measured, &rules),
    })
}
