//! The one file that knows every stage: load → render → generate and score → record → compare → report.

use super::lockstep::{BLOCK, generate_until, no_reference};
use super::prompts::prepare;
use super::results::Results;
use super::summary::thought_notes;
use super::until::Course;
use super::{EvalInputs, EvalJob, EvalPlan, EvalRecord, render};
use crate::files::sha256;
use crate::hub::Hub;
use crate::jobs::column::Task;
use crate::jobs::folder::{folder_events, open_folder};
use crate::jobs::generate::generate;
use crate::jobs::{Event, Failures, Finished, JobContext, JobError, Prepared, Target};
use crate::record::{RunFolder, StoredSample, VariantName, answers, read_samples};
use crate::report::words::{percent, thousands};
use crate::score::statistics::smallest_difference;
use crate::score::{Answer, score};

/// Runs a job.
pub fn execute(job: &EvalJob, hub: &Hub, context: &mut JobContext) -> Result<Finished<EvalRecord>, JobError> {
    // What is resumed has its folder, and may need no engine any more.
    if !job.resume {
        job.target.check_devices()?;
    }
    evaluate(job, &EvalInputs::load(job, hub)?, context)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(
    job: &EvalJob,
    inputs: &EvalInputs,
    context: &mut JobContext,
) -> Result<Finished<EvalRecord>, JobError> {
    let (prepared, prompt_notes) = prepare(inputs, job)?;
    let variants = inputs.variants(job)?;
    let plan = inputs.plan(job, &variants, prepared.len())?;
    if job.until.is_some() && (plan.reference().is_none() || plan.dtypes.len() < 2) {
        return Err(no_reference());
    }
    let notes = [inputs.notes.clone(), inputs.checkpoints.notes.clone(), variants.notes(), prompt_notes].concat();
    for note in &notes {
        (context.emit)(Event::Note(note.clone()));
    }

    if let [first, _, ..] = &plan.dtypes[..] {
        let is_compared = plan.reference().is_some();
        let note = if is_compared { detectable(plan.dataset.chosen) } else { uncompared(first) };
        (context.emit)(Event::Note(note));
    }

    let task = plan.task.as_ref().map(|task| format!("{}-", task.name)).unwrap_or_default();
    let model = plan.target.model.name.rsplit('/').next().unwrap_or_default();
    let name = format!("{model}-{task}{}", plan.protocol.name);
    let (folder, plan) = open_folder(&job.destination, job.resume, plan, &name)?;
    folder_events(&folder, &plan.dtypes, plan.completions_per_variant())?.into_iter().for_each(&mut *context.emit);
    let samples: Vec<StoredSample> = prepared.iter().map(stored_sample).collect();
    folder.write_samples(&samples)?;

    // Engines that are open at once take no more of a device than their blocks need.
    let batch = if job.until.is_some() { Some(job.target.batch.unwrap_or(BLOCK).min(BLOCK)) } else { job.target.batch };
    let target = Target { batch, ..job.target.clone() };
    let task = Task {
        target: &target,
        placebos: &plan.placebos,
        generation: &plan.generation,
        margins: false,
        score: &|text, prepared| score(&inputs.protocol.rules, text, prepared.expected()),
        prepared: &prepared,
        folder: &folder,
    };
    let course = job.until.map(|until| Course::new(until, &plan, &inputs.protocol.headline, &samples));
    let (interrupted, failures) = match &course {
        Some(course) => generate_until(&task, &variants, course, context)?,
        None => generate(&task, &variants, context)?,
    };
    if interrupted {
        return Ok(Finished { folder: folder.path().to_path_buf(), results: None, failures });
    }
    let mut record = record(&folder, &plan, inputs, (notes, course.as_ref()), &failures)?;
    record.price_per_hour = job.price_per_hour;
    if let Some(until) = &record.until {
        let sentences = until.variants.iter().filter_map(|one| until.sentence(&one.variant));
        sentences.map(Event::Note).for_each(&mut *context.emit);
    }
    folder.write_record(&record)?;
    let report = render(&record, &job.format)?;
    Ok(Finished { folder: folder.path().to_path_buf(), results: Some((record, report)), failures })
}

/// What so many questions can show, before anything is spent on them.
fn detectable(questions: usize) -> String {
    const DISCORDANT: f64 = 0.05;
    format!(
        "{} questions can show a difference of {} points between two variants, if {:.0} % of the answers change",
        thousands(questions as u64),
        percent(smallest_difference(questions, DISCORDANT)),
        DISCORDANT * 100.0
    )
}

/// The way out, before anything is spent on what shows no difference.
fn uncompared(first: &VariantName) -> String {
    format!(
        "no variant is compared with another: f32, the reference, is not among them; `--reference {first}` takes {first} in its place"
    )
}

fn stored_sample(prepared: &Prepared) -> StoredSample {
    StoredSample {
        sample: prepared.sample,
        id: None,
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
    plan: &EvalPlan,
    inputs: &EvalInputs,
    (notes, course): (Vec<String>, Option<&Course>),
    failures: &Failures,
) -> Result<EvalRecord, JobError> {
    let (mut journals, mut ran) = (Vec::new(), Vec::new());
    for variant in &plan.dtypes {
        let mut journal = folder.journal(variant)?.1;
        // What is found first must not hang on the order in which answers ended.
        journal.sort_by_key(|completion| (completion.sample, completion.repeat));
        journals.push((variant.clone(), journal));
        let failure = failures.iter().find(|(failed, _)| failed == variant).map(|(_, error)| error.to_string());
        ran.push((folder.sessions(variant)?, failure));
    }
    let answers = answers(&journals)?;
    folder.write_answers(&answers)?;
    let samples = read_samples(folder.path())?.values;
    let results = Results {
        ground_truth: plan.ground_truth(),
        plan: plan.clone(),
        rules: inputs.protocol.rule_names(),
        headline: inputs.protocol.headline.clone(),
        generated_under: None,
        completions: &journals,
        ran,
        samples: &samples,
        answers_sha256: Some(sha256(&answers)),
        notes,
    };
    let mut record = results.record();
    if let (Some(course), Some(reference)) = (course, plan.reference()) {
        let until = course.record(&reference, &journals);
        record.notes.extend(until.note());
        record.until = Some(until);
    }
    record.notes.extend(thought_notes(&record.dtypes));
    record.notes.extend(record.dtypes.iter().filter_map(|dtype| dtype.counted.clone()));
    Ok(record)
}
