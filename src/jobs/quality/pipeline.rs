//! The file that knows every stage: load → render → generate → compare → record → report.

use super::{
    Answer, Asked, ModelQuality, Origin, PromptQuality, QUALITY_FORMAT, QualityPlan, QualityRecord, compare,
    render_quality,
};
use super::{QualityInputs, QualityJob};
use crate::engine::Precision;
use crate::files::sha256;
use crate::hub::Hub;
use crate::jobs::column::Task;
use crate::jobs::folder::{folder_events, open_folder};
use crate::jobs::generate::generate;
use crate::jobs::{Event, Failures, Finished, JobContext, JobError, spelling};
use crate::record::{Machine, RunFolder, StoredCompletion, VariantName, answers, several_engines, utc_now};
use crate::task::SetPrompt;

/// How a quality run ended.
pub type QualityFinished = Finished<QualityRecord>;

/// Runs a job.
pub fn execute(job: &QualityJob, hub: &Hub, context: &mut JobContext) -> Result<QualityFinished, JobError> {
    // What is resumed has its folder, and may need no engine any more.
    if !job.resume {
        job.target.check_devices()?;
    }
    evaluate(job, &QualityInputs::load(job, hub)?, context)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(
    job: &QualityJob,
    inputs: &QualityInputs,
    context: &mut JobContext,
) -> Result<QualityFinished, JobError> {
    for note in &inputs.notes {
        (context.emit)(Event::Note(note.clone()));
    }
    let plan = inputs.plan(job)?;
    let name = format!("{}-{}", plan.target.model.name.rsplit('/').next().unwrap_or_default(), plan.prompts.name);
    let (folder, plan) = open_folder(&job.destination, job.resume, plan, &name)?;
    folder_events(&folder, &plan.dtypes, plan.prompts.chosen)?.into_iter().for_each(&mut *context.emit);
    let task = Task {
        placebos: &[],
        target: &job.target,
        generation: &plan.generation,
        margins: true,
        score: &|_, _| Vec::new(),
        prepared: &inputs.prepared,
        folder: &folder,
    };
    let (interrupted, failures) = generate(&task, &inputs.variants, context)?;
    if interrupted {
        return Ok(QualityFinished { folder: folder.path().to_path_buf(), results: None, failures });
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
    failures: &Failures,
) -> Result<QualityRecord, JobError> {
    let mut journals: Vec<(VariantName, Vec<StoredCompletion>)> = Vec::new();
    let mut columns = Vec::new();
    let mut notes = inputs.notes.clone();
    for variant in &plan.dtypes {
        journals.push((variant.clone(), folder.journal(variant)?.1));
        let failure = failures.iter().find(|(failed, _)| failed == variant).map(|(_, error)| error.to_string());
        let sessions = folder.sessions(variant)?;
        let mixed = journals.last().and_then(|(_, answers)| several_engines(&sessions, answers));
        notes.extend(mixed.map(|mixed| format!("{variant}: {mixed}, which do not compute alike")));
        columns.push((variant.to_string(), failure, sessions));
    }
    let answers = answers(&journals)?;
    folder.write_answers(&answers)?;
    Ok(QualityRecord {
        quality_format: QUALITY_FORMAT,
        invocation: plan.invocation.clone(),
        finished: utc_now(),
        machine: Machine::detect(),
        prompts: Some(plan.prompts.clone()),
        complete: journals.iter().all(|(_, journal)| journal.len() == plan.prompts.chosen),
        answers_sha256: Some(sha256(&answers)),
        notes,
        models: vec![model_quality(&plan, inputs, columns, &journals)],
        origin: Origin::Run(Box::new(plan)),
    })
}

/// What the others are held against is the variant that the user named, else the most exact precision of the run; it is the ground truth
/// where it is f32 and the weights are as they were trained.
fn model_quality(
    plan: &QualityPlan,
    inputs: &QualityInputs,
    columns: Vec<(String, Option<String>, Vec<crate::record::Session>)>,
    journals: &[(VariantName, Vec<StoredCompletion>)],
) -> ModelQuality {
    let reference = plan.dtypes.first().cloned().unwrap_or_else(|| Precision::F32.into());
    let is_ground_truth = plan.target.is_ground_truth(&reference);
    let asked = inputs.prepared.iter().filter_map(|prepared| {
        let prompt = inputs.set.prompts.get(prepared.sample)?;
        let stored = journals.iter().filter_map(|(variant, journal)| {
            Some(answer(variant, journal.iter().find(|stored| stored.sample == prepared.sample)?))
        });
        let read = &prepared.prompt;
        let asked = PromptQuality {
            rendered: Some(read.text.clone()),
            prompt_sha256: Some(prepared.prompt_sha256.clone()),
            prompt_ids_sha256: prepared.prompt_ids_sha256.clone(),
            prompt_tokens: inputs.model.tokenizer().map(|_| read.token_ids.len()),
            ..unanswered(prompt)
        };
        Some(Asked { prompt: PromptQuality { answers: stored.collect(), ..asked }, checks: prompt.checks.clone() })
    });
    let spell = |token: u32| inputs.model.tokenizer().map_or_else(String::new, |tokenizer| spelling(tokenizer, token));
    compare(&plan.target.model.name, (reference.as_str(), is_ground_truth), columns, asked.collect(), &spell)
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
        prompt_ids_sha256: None,
        prompt_tokens: None,
        answers: Vec::new(),
    }
}

fn answer(variant: &VariantName, stored: &StoredCompletion) -> Answer {
    Answer {
        column: variant.to_string(),
        text: stored.text.clone(),
        token_ids: stored.token_ids.clone(),
        margins: (!stored.margins.is_empty()).then(|| stored.margins.clone()),
        finish: Some(stored.finish),
        verdicts: Vec::new(),
        against: None,
    }
}
