//! The one file that knows every stage: load → render → generate and score → record → compare → report.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::folder::{folder_event, open_folder};
use super::generate::{End, Task, generate};
use super::prompts::{Prepared, prepare};
use super::subject::weight_notes;
use super::{Event, Inputs, Job, RunError};
use crate::engine::model::ModelSource;
use crate::engine::{Dtype, Engine, EngineError, OpenOptions};
use crate::files::sha256;
use crate::hub::Hub;
use crate::record::{FORMAT, Machine, Measured, Plan, Record, RunFolder, StoredSample, answers, summarise, utc_now};
use crate::report::render;
use crate::score::score;

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
pub struct Finished<R = Record> {
    /// The run folder.
    pub folder: PathBuf,
    /// The results, and the report of them in the job's format; `None` when interrupted.
    pub results: Option<(R, String)>,
    /// Precisions that did not finish, and why.
    pub failures: Vec<(Dtype, RunError)>,
}

/// Runs a job.
pub fn execute(job: &Job, hub: &Hub, surroundings: &mut Surroundings) -> Result<Finished, RunError> {
    // What is resumed has its folder, and may need no engine any more.
    if !job.resume {
        job.subject.check_device()?;
    }
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

    let name = format!("{}-{}", plan.model.name.rsplit('/').next().unwrap_or_default(), plan.protocol.name);
    let (folder, plan) = open_folder(&job.destination, job.resume, plan, &name)?;
    (surroundings.tell)(folder_event(&folder, &plan.dtypes, plan.completions_per_dtype())?);
    folder.write_samples(&prepared.iter().map(stored_sample).collect::<Vec<_>>())?;

    let task = Task {
        subject: &job.subject,
        generation: &plan.generation,
        margins: false,
        model_in: &|dtype| Arc::clone(inputs.model_in(dtype)),
        score: &|text, answer| score(&inputs.protocol.rules, text, answer),
        prepared: &prepared,
        folder: &folder,
    };
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
        generated_under: None,
        plan,
        finished: utc_now(),
        machine: Machine::detect(),
        complete,
        answers_sha256: Some(sha256(&answers)),
        notes,
        dtypes: summarise(&measured, &rules),
    })
}
