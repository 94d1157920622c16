//! The one file that knows every stage: load → render → generate and score → record → compare → report.

use std::sync::Arc;

use super::prompts::prepare;
use super::{EVAL_FORMAT, EvalPlan, EvalRecord, Measured, render, summarise};
use super::{EvalInputs, EvalJob};
use crate::engine::Dtype;
use crate::files::sha256;
use crate::hub::Hub;
use crate::jobs::folder::{folder_event, open_folder};
use crate::jobs::generate::{End, Task, generate};
use crate::jobs::{Event, Finished, JobContext, JobError, Prepared, weight_notes};
use crate::record::{Machine, RunFolder, StoredSample, answers, utc_now};
use crate::score::{Answer, score};

/// Runs a job.
pub fn execute(job: &EvalJob, hub: &Hub, surroundings: &mut JobContext) -> Result<Finished<EvalRecord>, JobError> {
    // What is resumed has its folder, and may need no engine any more.
    if !job.resume {
        job.subject.check_device()?;
    }
    evaluate(job, &EvalInputs::load(job, hub)?, surroundings)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(
    job: &EvalJob,
    inputs: &EvalInputs,
    surroundings: &mut JobContext,
) -> Result<Finished<EvalRecord>, JobError> {
    let (prepared, prompt_notes) = prepare(inputs, job)?;
    let plan = inputs.plan(job, prepared.len())?;
    let notes =
        [inputs.notes.clone(), weight_notes(&plan.model, plan.awq.as_ref(), &plan.dtypes), prompt_notes].concat();
    for note in &notes {
        (surroundings.tell)(Event::Note(note.clone()));
    }

    let task = plan.task.as_ref().map(|task| format!("{}-", task.name)).unwrap_or_default();
    let model = plan.model.name.rsplit('/').next().unwrap_or_default();
    let name = format!("{model}-{task}{}", plan.protocol.name);
    let (folder, plan) = open_folder(&job.destination, job.resume, plan, &name)?;
    (surroundings.tell)(folder_event(&folder, &plan.dtypes, plan.completions_per_dtype())?);
    folder.write_samples(&prepared.iter().map(stored_sample).collect::<Vec<_>>())?;

    let task = Task {
        subject: &job.subject,
        generation: &plan.generation,
        margins: false,
        model_in: &|dtype| Arc::clone(inputs.model_in(dtype)),
        score: &|text, prepared| score(&inputs.protocol.rules, text, prepared.expected()),
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
        reference: Some(&prepared.reference).filter(|value| *value != Answer::from(&prepared.answer).value).cloned(),
        cluster: prepared.cluster.clone(),
        prompt: prepared.prompt.text.clone(),
    }
}

/// The results as the folder's files tell them: an interrupted run gives what an uninterrupted one gives.
fn record(
    folder: &RunFolder,
    plan: EvalPlan,
    inputs: &EvalInputs,
    notes: Vec<String>,
    failures: &[(Dtype, JobError)],
) -> Result<EvalRecord, JobError> {
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
    Ok(EvalRecord {
        format: EVAL_FORMAT,
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
