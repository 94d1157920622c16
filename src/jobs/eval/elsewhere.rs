//! Score: completions made elsewhere become a run folder like any other; speed, load and memory are then unknown.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::completions::{Completion, Completions};
use super::results::Results;
use super::{CompletionsPlan, DatasetPlan, EvalPlan, EvalRecord, ProtocolPlan};
use crate::engine::{Batching, Finish, Precision, Timings};
use crate::fault::Fault;
use crate::files::sha256;
use crate::jobs::folder::open_folder;
use crate::jobs::thoughts::{take_thought, thought_marks};
use crate::jobs::{Destination, JobError};
use crate::record::{
    GenerationPlan, Invocation, ModelPlan, RunFolder, StoredCompletion, StoredSample, TargetPlan, VariantName, answers,
};
use crate::score::{Answer, Extraction, score};
use crate::task::{Protocol, Sample};

/// One scoring of completions made elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// The completions, as JSON lines.
    pub file: PathBuf,
    /// The protocol whose rules score them: a built-in one's name, or a file.
    pub protocol: String,
    /// What made them, for tables; `None` is the file's name.
    pub model: Option<String>,
    /// The variant that the others are compared with; `None` is f32, or else the file's first.
    pub reference: Option<String>,
    /// The rule that decides, instead of the protocol's headline.
    pub rule: Option<String>,
    /// Where the run folder goes.
    pub destination: Destination,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredCompletions {
    /// The results.
    pub record: EvalRecord,
    /// One a row of the file, by variant, question and repeat.
    pub rows: Vec<ScoredRow>,
    /// The run folder.
    pub folder: PathBuf,
}

/// What every rule extracted from one completion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredRow {
    /// The variant.
    pub variant: VariantName,
    /// The question's number, from 0.
    pub sample: usize,
    /// Its id, where the file has one.
    pub id: Option<String>,
    /// 0 for the first completion of the question.
    pub repeat: usize,
    /// What a completion is compared with.
    pub reference: String,
    /// One a rule: value, place and whether it is right.
    pub scores: Vec<Extraction>,
}

/// Scores a file's completions and writes a run folder of them.
pub fn score_completions(job: &ScoreJob) -> Result<ScoredCompletions, JobError> {
    let mut protocol = Protocol::open(&job.protocol)?;
    if let Some(rule) = &job.rule {
        protocol.set_headline(rule)?;
    }
    let completions = Completions::read(&job.file)?;
    let plan = plan(job, &protocol, &completions)?;
    let name = format!("{}-{}", plan.target.model.name.rsplit('/').next().unwrap_or_default(), protocol.name);
    let (folder, plan) = open_folder(&job.destination, false, plan, &name)?;
    let path = folder.path().to_path_buf();
    written(&folder, plan, &protocol, &completions).inspect_err(|_| {
        // Nothing here is resumed: what is half written would only be in the way of the same command.
        let _ = std::fs::remove_dir_all(path);
    })
}

fn written(
    folder: &RunFolder,
    plan: EvalPlan,
    protocol: &Protocol,
    completions: &Completions,
) -> Result<ScoredCompletions, JobError> {
    let samples = stored_samples(completions);
    folder.write_samples(&samples)?;
    let mut journals = Vec::new();
    for (variant, rows) in &completions.variants {
        let scored: Vec<StoredCompletion> = rows.par_iter().map(|row| scored(row, completions, protocol)).collect();
        let (mut journal, _) = folder.journal(variant)?;
        for completion in &scored {
            journal.append(completion)?;
        }
        journal.sync()?;
        journals.push((variant.clone(), scored));
    }
    let answers = answers(&journals)?;
    folder.write_answers(&answers)?;
    let record = record(plan, protocol, (&journals, &samples), sha256(&answers));
    folder.write_record(&record)?;
    Ok(ScoredCompletions { record, rows: rows(completions, &journals), folder: folder.path().to_path_buf() })
}

fn plan(job: &ScoreJob, protocol: &Protocol, completions: &Completions) -> Result<EvalPlan, JobError> {
    let path = std::fs::canonicalize(&job.file).unwrap_or_else(|_| job.file.clone());
    let (path, stem) = (path.display().to_string(), stem(&job.file));
    let variants: Vec<VariantName> = completions.variants.iter().map(|(name, _)| name.clone()).collect();
    Ok(EvalPlan {
        invocation: Invocation::now(&job.command),
        target: TargetPlan {
            model: ModelPlan {
                name: job.model.clone().unwrap_or_else(|| stem.clone()),
                source: path.clone(),
                sha256: None,
                stored_as: None,
                quantized: false,
                family: None,
                parameters: None,
                endpoint: None,
            },
            awq: None,
            variants: std::collections::BTreeMap::new(),
            reference: reference(job, &variants)?,
        },
        task: None,
        completions: Some(CompletionsPlan { source: path.clone(), sha256: completions.sha256.clone() }),
        dataset: DatasetPlan {
            name: stem,
            source: path.clone(),
            requested: path,
            revision: String::new(),
            split: String::new(),
            sha256: completions.questions_sha256(),
            rows: completions.samples.len(),
            left_out: None,
            chosen: completions.samples.len(),
            selection: "all".to_owned(),
        },
        protocol: ProtocolPlan {
            name: protocol.name.clone(),
            version: protocol.version,
            sha256: protocol.sha256.clone(),
            chat: false,
            system: None,
            thinking: None,
            fewshot_sha256: None,
        },
        generated_under: None,
        generation: GenerationPlan::unknown(completions.repeats()),
        engine: "elsewhere".to_owned(),
        batch: None,
        batching: Batching::default(),
        dtypes: variants,
    })
}

/// `vllm` of `results/vllm.jsonl`.
fn stem(file: &Path) -> String {
    file.file_stem().map_or_else(|| "completions".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// What is not f32 and not named must be: a reference that no other run would choose.
fn reference(job: &ScoreJob, variants: &[VariantName]) -> Result<Option<VariantName>, JobError> {
    if let Some(name) = &job.reference {
        let found = variants.iter().find(|variant| variant.as_str() == name);
        return found.cloned().map(Some).ok_or_else(|| {
            let known: Vec<&str> = variants.iter().map(VariantName::as_str).collect();
            let Fault { hint, .. } = Fault::unknown("variant", name, &known);
            JobError::invalid(format!("--reference {name}: the file has no such variant"), hint)
        });
    }
    let has_f32 = variants.iter().any(|variant| *variant == Precision::F32);
    Ok(variants.first().filter(|_| !has_f32 && variants.len() > 1).cloned())
}

fn stored_samples(completions: &Completions) -> Vec<StoredSample> {
    let stored = |(sample, id): (&Sample, &Option<String>)| StoredSample {
        sample: sample.index,
        id: id.clone(),
        question: sample.question.clone(),
        answer: sample.answer.clone(),
        reference: Some(&sample.reference).filter(|value| *value != Answer::from(&sample.answer).value).cloned(),
        cluster: None,
        prompt: String::new(),
    };
    completions.samples.iter().zip(&completions.ids).map(stored).collect()
}

fn scored(row: &Completion, completions: &Completions, protocol: &Protocol) -> StoredCompletion {
    let (mut text, mut finish) = (row.text.clone(), Finish::Unknown);
    let thought = take_thought(&thought_marks(None), "", &mut text, &mut finish);
    StoredCompletion {
        sample: row.sample,
        repeat: row.repeat,
        prompt_sha256: String::new(),
        prompt_ids_sha256: None,
        prompt_tokens: None,
        token_ids: None,
        output_tokens: None,
        counted_by: None,
        scores: score(&protocol.rules, &text, completions.samples[row.sample].expected()),
        text,
        thought,
        finish,
        margins: Vec::new(),
        timings: Timings::default(),
        session: 0,
        at_seconds: 0.0,
    }
}

fn record(
    plan: EvalPlan,
    protocol: &Protocol,
    (journals, samples): (&[(VariantName, Vec<StoredCompletion>)], &[StoredSample]),
    answers_sha256: String,
) -> EvalRecord {
    let asked = plan.completions_per_variant();
    let short = journals.iter().filter(|(_, completions)| completions.len() < asked);
    let short: Vec<String> = short
        .map(|(variant, completions)| format!("{variant} has {} of {asked} completions", completions.len()))
        .collect();
    let in_words = format!(
        "completions made elsewhere, scored by the rules of {} (version {}): speed, load and memory are unknown",
        protocol.name, protocol.version
    );
    let results = Results {
        plan,
        rules: protocol.rule_names(),
        headline: protocol.headline.clone(),
        generated_under: None,
        ground_truth: None,
        completions: journals,
        ran: vec![(Vec::new(), None); journals.len()],
        samples,
        answers_sha256: Some(answers_sha256),
        notes: std::iter::once(in_words)
            .chain((!short.is_empty()).then(|| short.join("; ")))
            .chain(unreadable_references(protocol, samples))
            .collect(),
    };
    results.record()
}

/// References that the headline rule does not find right even where they are all that an answer says; of rules that look for a reference
/// within other words nothing can be told so.
fn unreadable_references(protocol: &Protocol, samples: &[StoredSample]) -> Option<String> {
    let rule = protocol.rules.iter().find(|rule| rule.name == protocol.headline).filter(|rule| rule.reads_numbers())?;
    let reference = |sample: &StoredSample| {
        let answer = Answer::from(&sample.answer);
        sample.reference.clone().unwrap_or_else(|| answer.value.to_owned())
    };
    let is_read = |reference: &str| {
        let answer = Answer { full: reference, value: reference };
        score(std::slice::from_ref(rule), reference, answer).iter().all(|score| score.correct)
    };
    let unread: Vec<String> = samples.iter().map(reference).filter(|reference| !is_read(reference)).collect();
    let first = unread.first()?;
    Some(format!(
        "{} of {} references are no number to the rule {}, the first {first:?}: no answer to them can be right",
        unread.len(),
        samples.len(),
        rule.name
    ))
}

fn rows(completions: &Completions, journals: &[(VariantName, Vec<StoredCompletion>)]) -> Vec<ScoredRow> {
    let row = |variant: &VariantName, completion: &StoredCompletion| ScoredRow {
        variant: variant.clone(),
        sample: completion.sample,
        id: completions.ids[completion.sample].clone(),
        repeat: completion.repeat,
        reference: completions.samples[completion.sample].reference.clone(),
        scores: completion.scores.clone(),
    };
    journals.iter().flat_map(|(variant, all)| all.iter().map(move |one| row(variant, one))).collect()
}
