//! A run as rows: one a variant, question and repeat, with all that the run folder says of it.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::engine::Finish;
use crate::jobs::eval::StoredRun;
use crate::record::{StoredCompletion, StoredSample, VariantName};
use crate::score::{Answer, Extraction};

/// One answer. What is not known is `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportedRow<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The variant: `f32`, `awq`, …
    pub variant: &'a str,
    /// The task's name.
    pub task: &'a str,
    /// The protocol's name.
    pub protocol: &'a str,
    /// Row of the dataset.
    pub sample: usize,
    /// The question's id, where it has one.
    pub id: Option<&'a str>,
    /// 0 for the first answer to the question.
    pub repeat: usize,
    /// The question; `null` in folders of before questions were kept.
    pub question: Option<&'a str>,
    /// The dataset's whole answer.
    pub answer: Option<&'a str>,
    /// What of it an answer is compared with.
    pub reference: Option<&'a str>,
    /// Questions of one cluster are not independent of one another.
    pub cluster: Option<&'a str>,
    /// What the model read, as text.
    pub prompt: Option<&'a str>,
    /// What it said, without its thought.
    pub text: &'a str,
    /// What it thought before.
    pub thought: Option<&'a str>,
    /// Why generation ended.
    pub finish: &'static str,
    /// Tokens that it read.
    pub prompt_tokens: Option<usize>,
    /// Tokens that it said, the thought's and the ending one included.
    pub output_tokens: Option<usize>,
    /// These tokens.
    pub token_ids: Option<&'a [u32]>,
    /// Seconds from the request to its first token.
    pub first_token_seconds: Option<f64>,
    /// Seconds from the request to its last token.
    pub total_seconds: Option<f64>,
    /// By rule: `value`, `span` in the text (bytes) and `correct`.
    pub scores: Map<String, Value>,
}

impl ExportedRow<'_> {
    /// Whether a rule finds it right.
    pub(super) fn is_right(&self, rule: &str) -> bool {
        self.scores.get(rule).is_some_and(|score| score["correct"] == true)
    }
}

/// Every answer of a run: by variant, question and repeat.
pub(super) fn rows<'a>(run: &'a StoredRun) -> Vec<ExportedRow<'a>> {
    let questions: HashMap<usize, &'a StoredSample> =
        run.samples.iter().map(|sample| (sample.sample, sample)).collect();
    let of_variant = |(variant, all): &'a (VariantName, Vec<StoredCompletion>)| {
        let row = |one: &'a StoredCompletion| row(run, variant, one, questions.get(&one.sample).copied());
        all.iter().map(row).collect::<Vec<_>>()
    };
    run.completions.iter().flat_map(of_variant).collect()
}

fn row<'a>(
    run: &'a StoredRun,
    variant: &'a VariantName,
    one: &'a StoredCompletion,
    question: Option<&'a StoredSample>,
) -> ExportedRow<'a> {
    let plan = &run.record.plan;
    // Of what was made elsewhere no time is known.
    let seconds = |seconds: f64| (one.finish != Finish::Unknown).then_some(seconds);
    let score = |score: &Extraction| {
        let json = json!({"value": score.value, "span": score.span, "correct": score.correct});
        (score.rule.clone(), json)
    };
    ExportedRow {
        model: &plan.target.model.name,
        variant: variant.as_str(),
        task: task_name(run),
        protocol: &plan.protocol.name,
        sample: one.sample,
        id: question.and_then(|question| question.id.as_deref()),
        repeat: one.repeat,
        question: question.map(|question| question.question.as_str()),
        answer: question.map(|question| question.answer.as_str()),
        reference: question.map(reference),
        cluster: question.and_then(|question| question.cluster.as_deref()),
        prompt: question.map(|question| question.prompt.as_str()).filter(|prompt| !prompt.is_empty()),
        text: &one.text,
        thought: one.thought.as_ref().map(|thought| thought.text.as_str()),
        finish: one.finish.name(),
        prompt_tokens: one.prompt_tokens,
        output_tokens: one.output_tokens(),
        token_ids: one.token_ids.as_deref(),
        first_token_seconds: seconds(one.timings.first_token_seconds),
        total_seconds: seconds(one.timings.total_seconds),
        scores: one.scores.iter().map(score).collect(),
    }
}

/// What of a question's answer counts.
pub(super) fn reference(question: &StoredSample) -> &str {
    question.reference.as_deref().unwrap_or_else(|| Answer::from(&question.answer).value)
}

/// The task's name; runs of before there were tasks are of GSM8K.
pub(super) fn task_name(run: &StoredRun) -> &str {
    let plan = &run.record.plan;
    let otherwise = if plan.is_made_elsewhere() { "completions" } else { "gsm8k" };
    plan.task.as_ref().map_or(otherwise, |task| &task.name)
}
