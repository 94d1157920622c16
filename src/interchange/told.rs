//! What one file of another tool tells: a model's answers to a task's questions, with the tool's verdicts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::origin::Origin;
use crate::engine::{CountedBy, Finish, Timings};
use crate::jobs::eval::TaskPlan;
use crate::record::{StoredCompletion, StoredSample, StoredThought};
use crate::score::{Answer, Extraction};

/// A model on a task.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    /// The file.
    pub(super) path: PathBuf,
    /// Over what was read.
    pub(super) sha256: String,
    /// The tool and its version.
    pub(super) tool: String,
    /// The model's name.
    pub(super) model: String,
    /// What the model's weights are in, in the tool's words.
    pub(super) precision: Option<String>,
    /// The name of its folder or file, where nothing better tells it from others.
    pub(super) place: String,
    /// The task's name in the tool.
    pub(super) name: String,
    /// The task, where it has a definition.
    pub(super) task: Option<TaskPlan>,
    /// Of what asked and scored: name, version, hash.
    pub(super) protocol: (String, u32, String),
    /// The dataset's name, and its hash where that is known.
    pub(super) dataset: (String, Option<String>),
    /// The rules, the one that decides first.
    pub(super) rules: Vec<String>,
    /// By row.
    pub(super) samples: BTreeMap<usize, StoredSample>,
    /// By row and repeat.
    pub(super) answers: Vec<StoredCompletion>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

impl Told {
    /// What an export of ours says of its run goes before what can be told from the tool's own fields.
    pub(super) fn with_origin(mut self, origin: Option<Origin>) -> Self {
        let Some(origin) = origin else { return self };
        self.tool = format!("evalsuite {}", origin.version);
        self.task = origin.task;
        self.protocol = (origin.protocol, origin.protocol_version, origin.protocol_sha256);
        self.dataset = (origin.dataset, Some(origin.dataset_sha256));
        if let Some(at) = self.rules.iter().position(|rule| *rule == origin.headline) {
            self.rules[..=at].rotate_right(1);
        }
        self
    }
}

/// One answer, as far as tools tell of one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ToldAnswer {
    pub(super) sample: usize,
    pub(super) repeat: usize,
    pub(super) text: String,
    pub(super) thought: Option<String>,
    pub(super) prompt_tokens: Option<usize>,
    pub(super) output_tokens: Option<usize>,
    pub(super) scores: Vec<Extraction>,
}

impl ToldAnswer {
    /// As a run folder keeps it.
    pub(super) fn stored(self) -> StoredCompletion {
        StoredCompletion {
            sample: self.sample,
            repeat: self.repeat,
            prompt_sha256: String::new(),
            prompt_ids_sha256: None,
            prompt_tokens: self.prompt_tokens,
            token_ids: None,
            output_tokens: self.output_tokens,
            counted_by: self.output_tokens.map(|_| CountedBy::Usage),
            text: self.text,
            thought: self.thought.map(|text| StoredThought { tokens: None, text }),
            finish: Finish::Unknown,
            scores: self.scores,
            margins: Vec::new(),
            timings: Timings::default(),
            session: 0,
            at_seconds: 0.0,
        }
    }
}

/// A question; `reference` is left out where it is what counts of the answer anyway.
pub(super) fn question(
    sample: usize,
    id: Option<String>,
    question: String,
    answer: String,
    reference: Option<String>,
    prompt: String,
) -> StoredSample {
    let reference = reference.filter(|reference| *reference != Answer::from(&answer).value);
    StoredSample { sample, id, question, answer, reference, cluster: None, prompt }
}

/// A verdict as tools write it: a truth value, 0 or 1, or Inspect's `C`, `I` and `N`.
pub(super) fn verdict(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(right) => Some(*right),
        Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        Value::String(word) => match word.as_str() {
            "C" => Some(true),
            "I" | "N" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Those of which every score is a verdict, in the order in which they first stand; a note names the others.
pub(super) fn only_verdicts<K: PartialEq>(
    scores: impl Iterator<Item = (K, Option<bool>)>,
    name: impl Fn(&K) -> String,
    notes: &mut Vec<String>,
) -> Vec<K> {
    let mut found: Vec<(K, bool)> = Vec::new();
    for (key, verdict) in scores {
        match found.iter_mut().find(|(own, _)| *own == key) {
            Some((_, is_verdict)) => *is_verdict &= verdict.is_some(),
            None => found.push((key, verdict.is_some())),
        }
    }
    let (kept, left_out): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, is_verdict)| *is_verdict);
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.iter().map(|(key, _)| name(key)).collect();
        notes.push(format!("left out, for it is neither right nor wrong by sample: {}", names.join(", ")));
    }
    kept.into_iter().map(|(key, _)| key).collect()
}

/// Says where the share of right answers is not what the tool told.
pub(super) fn check_accuracy(rule: &str, answers: &[StoredCompletion], told: Option<f64>) -> Option<String> {
    let score = |one: &StoredCompletion| one.scores.iter().any(|score| score.rule == rule && score.correct);
    let own = answers.iter().filter(|one| score(one)).count() as f64 / answers.len().max(1) as f64;
    let told = told.filter(|told| (told - own).abs() > 1e-9)?;
    Some(format!(
        "{rule}: the samples are right in {:.2} %, but the tool's own result is {:.2} %",
        own * 100.0,
        told * 100.0
    ))
}
