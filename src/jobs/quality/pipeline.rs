//! The file that knows every stage: load → render → generate → compare → record → report.

use std::sync::Arc;

use super::{
    Answer, Asked, ModelQuality, Origin, PromptQuality, QUALITY_FORMAT, QualityPlan, QualityRecord, compare,
    render_quality,
};
use super::{QualityInputs, QualityJob};
use crate::engine::Dtype;
use crate::engine::model::ModelTokenizer;
use crate::files::sha256;
use crate::hub::Hub;
use crate::jobs::folder::{folder_event, open_folder};
use crate::jobs::generate::{End, Task, generate};
use crate::jobs::{Event, Finished, JobContext, JobError};
use crate::record::{Machine, RunFolder, StoredCompletion, answers, utc_now};
use crate::task::SetPrompt;

/// How a quality run ended.
pub type QualityFinished = Finished<QualityRecord>;

/// Runs a job.
pub fn execute(job: &QualityJob, hub: &Hub, surroundings: &mut JobContext) -> Result<QualityFinished, JobError> {
    // What is resumed has its folder, and may need no engine any more.
    if !job.resume {
        job.subject.check_device()?;
    }
    evaluate(job, &QualityInputs::load(job, hub)?, surroundings)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(
    job: &QualityJob,
    inputs: &QualityInputs,
    surroundings: &mut JobContext,
) -> Result<QualityFinished, JobError> {
    for note in &inputs.notes {
        (surroundings.tell)(Event::Note(note.clone()));
    }
    let plan = inputs.plan(job);
    let name = format!("{}-{}", plan.model.name.rsplit('/').next().unwrap_or_default(), plan.prompts.name);
    let (folder, plan) = open_folder(&job.destination, job.resume, plan, &name)?;
    (surroundings.tell)(folder_event(&folder, &plan.dtypes, plan.prompts.chosen)?);
    let task = Task {
        subject: &job.subject,
        generation: &plan.generation,
        margins: true,
        model_in: &|dtype| Arc::clone(inputs.model_in(dtype)),
        score: &|_, _| Vec::new(),
        prepared: &inputs.prepared,
        folder: &folder,
    };
    let mut failures = Vec::new();
    for dtype in &plan.dtypes {
        match generate(&task, *dtype, surroundings)? {
            End::Complete => {}
            End::Interrupted => {
                return Ok(QualityFinished { folder: folder.path().to_path_buf(), results: None, failures });
            }
            End::Failed(error) => {
                (surroundings.tell)(Event::Failed { dtype: *dtype, message: error.to_string() });
                failures.push((*dtype, error));
            }
        }
    }
    let record = record(&folder, plan, inputs, &failures)?;
    folder.write_record(&record)?;
    let report = render_quality(&record, &job.format, job.diffs)?;
    Ok(QualityFinished { folder: folder.path().to_path_buf(), results: Some((record, report)), failures })
}

/// The results as the folder's files tell them: an interrupted run gives what an uninterrupted one gives.
fn record(
    folder: &RunFolder,
    plan: QualityPlan,
    inputs: &QualityInputs,
    failures: &[(Dtype, JobError)],
) -> Result<QualityRecord, JobError> {
    let mut journals = Vec::new();
    let mut columns = Vec::new();
    for dtype in &plan.dtypes {
        journals.push((*dtype, folder.journal(*dtype)?.1));
        let failure = failures.iter().find(|(failed, _)| failed == dtype).map(|(_, error)| error.to_string());
        columns.push((dtype.to_string(), failure, folder.sessions(*dtype)?));
    }
    let answers = answers(&mut journals)?;
    folder.write_answers(&answers)?;
    Ok(QualityRecord {
        quality_format: QUALITY_FORMAT,
        evalsuite: plan.evalsuite.clone(),
        command: plan.command.clone(),
        started: plan.started.clone(),
        finished: utc_now(),
        machine: Machine::detect(),
        prompts: Some(plan.prompts.clone()),
        complete: journals.iter().all(|(_, journal)| journal.len() == plan.prompts.chosen),
        answers_sha256: Some(sha256(&answers)),
        notes: inputs.notes.clone(),
        models: vec![model_quality(&plan, inputs, columns, &journals)],
        origin: Origin::Run(Box::new(plan)),
    })
}

/// The most exact precision of the run is what the others are held against; it is the ground truth where it is f32 and
/// the weights are as they were trained.
fn model_quality(
    plan: &QualityPlan,
    inputs: &QualityInputs,
    columns: Vec<(String, Option<String>, Vec<crate::record::Session>)>,
    journals: &[(Dtype, Vec<StoredCompletion>)],
) -> ModelQuality {
    let reference = plan.dtypes.first().copied().unwrap_or(Dtype::F32);
    let is_ground_truth = reference == Dtype::F32 && !plan.model.quantized;
    let asked = inputs.prepared.iter().filter_map(|prepared| {
        let prompt = inputs.set.prompts.get(prepared.sample)?;
        let stored = journals.iter().filter_map(|(dtype, journal)| {
            Some(answer(*dtype, journal.iter().find(|stored| stored.sample == prepared.sample)?))
        });
        let read = &prepared.prompt;
        let asked = PromptQuality {
            rendered: Some(read.text.clone()),
            prompt_sha256: Some(prepared.prompt_sha256.clone()),
            prompt_tokens: Some(read.token_ids.len()),
            ..unanswered(prompt)
        };
        Some(Asked { prompt: PromptQuality { answers: stored.collect(), ..asked }, checks: prompt.checks.clone() })
    });
    let tokenizer = &inputs.model.tokenizer;
    let spell = |token: u32| spelling(tokenizer, token);
    compare(&plan.model.name, (reference.name(), is_ground_truth), columns, asked.collect(), &spell)
}

/// A prompt of a set, before anyone answered.
pub(super) fn unanswered(prompt: &SetPrompt) -> PromptQuality {
    PromptQuality {
        id: prompt.id.clone(),
        kind: prompt.kind.clone(),
        text: Some(prompt.text.clone()),
        checks: Vec::new(),
        rendered: None,
        prompt_sha256: None,
        prompt_tokens: None,
        answers: Vec::new(),
    }
}

fn answer(dtype: Dtype, stored: &StoredCompletion) -> Answer {
    Answer {
        column: dtype.to_string(),
        text: stored.text.clone(),
        token_ids: Some(stored.token_ids.clone()),
        margins: (!stored.margins.is_empty()).then(|| stored.margins.clone()),
        finish: Some(stored.finish),
        verdicts: Vec::new(),
        against: None,
    }
}

/// A token's text; for special tokens and parts of characters, its name in the vocabulary.
pub(crate) fn spelling(tokenizer: &ModelTokenizer, token: u32) -> String {
    let text = tokenizer.decode(&[token]).unwrap_or_default();
    if text.is_empty() || text.contains('\u{fffd}') {
        tokenizer.id_to_token(token).unwrap_or_else(|| format!("<{token}>"))
    } else {
        text
    }
}
