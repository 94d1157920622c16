//! Score: completions made elsewhere become a run folder like any other; speed, load and memory are then unknown.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::completions::{Completion, Completions};
use super::imported::MadeElsewhere;
use super::{EvalPlan, EvalRecord, ImportedPlan};
use crate::engine::{Finish, Precision, Timings};
use crate::fault::Fault;
use crate::jobs::thoughts::{take_thought, thought_marks};
use crate::jobs::{Destination, JobError};
use crate::record::{StoredCompletion, StoredSample, VariantName};
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
    let samples = stored_samples(&completions);
    let plan = plan(job, &protocol, &completions, &samples)?;
    let scored = |rows: &[Completion]| -> Vec<StoredCompletion> {
        rows.par_iter().map(|row| scored(row, &completions, &protocol)).collect()
    };
    let variants: Vec<(VariantName, Vec<StoredCompletion>)> =
        completions.variants.iter().map(|(variant, rows)| (variant.clone(), scored(rows))).collect();
    let made = MadeElsewhere {
        samples: &samples,
        variants: &variants,
        rules: protocol.rule_names(),
        headline: protocol.headline.clone(),
        notes: notes(&protocol, &variants, &samples, plan.completions_per_variant()),
    };
    let (record, folder) = made.keep(plan, &job.destination)?;
    Ok(ScoredCompletions { record, rows: rows(&completions, &variants), folder })
}

fn plan(
    job: &ScoreJob,
    protocol: &Protocol,
    completions: &Completions,
    samples: &[StoredSample],
) -> Result<EvalPlan, JobError> {
    let stem = stem(&job.file);
    let variants: Vec<VariantName> = completions.variants.iter().map(|(name, _)| name.clone()).collect();
    let made = ImportedPlan {
        command: job.command.clone(),
        source: job.file.clone(),
        source_sha256: completions.sha256.clone(),
        model: job.model.clone().unwrap_or_else(|| stem.clone()),
        task: None,
        protocol: (protocol.name.clone(), protocol.version, protocol.sha256.clone()),
        dataset: stem,
        dataset_sha256: Some(completions.questions_sha256()),
        reference: reference(job, &variants)?,
    };
    Ok(made.plan(samples, variants, completions.repeats()))
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

/// What the user should know; `asked` is how many completions each variant should have.
fn notes(
    protocol: &Protocol,
    journals: &[(VariantName, Vec<StoredCompletion>)],
    samples: &[StoredSample],
    asked: usize,
) -> Vec<String> {
    let short = journals.iter().filter(|(_, completions)| completions.len() < asked);
    let short: Vec<String> = short
        .map(|(variant, completions)| format!("{variant} has {} of {asked} completions", completions.len()))
        .collect();
    let in_words = format!(
        "completions made elsewhere, scored by the rules of {} (version {}): speed, load and memory are unknown",
        protocol.name, protocol.version
    );
    std::iter::once(in_words)
        .chain((!short.is_empty()).then(|| short.join("; ")))
        .chain(unreadable_references(protocol, samples))
        .collect()
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
