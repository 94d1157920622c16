//! What is sent: the prompt and the length of each request, a function of its level and number.

use std::sync::Arc;

use super::trace::{self, Arrival};
use super::{LoadJob, LoadPrompts};
use crate::engine::Prompt;
use crate::hub::Hub;
use crate::jobs::bench::{RequestLengths, Workload};
use crate::jobs::requests::{LoadRequest, Purpose, RandomPrompts, Source};
use crate::jobs::{JobError, Model, chat_template};
use crate::task::{ChatUse, PromptSet};

/// Where requests come from.
#[derive(Debug, Clone)]
pub(super) struct Prompts {
    /// Random ones by their lengths alone.
    described: String,
    pub(super) sha256: Option<String>,
    /// When a trace's requests are sent.
    pub(super) times: Option<Vec<f64>>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Texts, over and over.
    Texts { prompts: Vec<Arc<Prompt>>, max_tokens: usize },
    /// Random tokens of these lengths, over and over, none twice.
    Lengths { lengths: Vec<RequestLengths>, shared: usize, random: RandomPrompts },
}

impl Prompts {
    /// Opens what the job names, for a model.
    pub(super) fn open(job: &LoadJob, model: &Model, notes: &mut Vec<String>) -> Result<Self, JobError> {
        let (lengths, in_words, sha256, times, shared) = match &job.prompts {
            LoadPrompts::Set(path) => return Self::of_set(job, path.as_deref(), model, notes),
            LoadPrompts::Lengths { prompt_tokens, output_tokens } => {
                let lengths = vec![RequestLengths { prompt_tokens: *prompt_tokens, output_tokens: *output_tokens }];
                (lengths, format!("of {prompt_tokens} tokens, {output_tokens} asked for"), None, None, 0)
            }
            LoadPrompts::Workload(path) => {
                let workload = Workload::open(path)?;
                let words = format!("of the lengths of {}", workload.name);
                (workload.requests, words, Some(workload.sha256), None, workload.shared_prefix_tokens)
            }
            LoadPrompts::Trace(path) => {
                let (arrivals, sha256) = trace::read(path)?;
                let lengths = |one: &Arrival| RequestLengths {
                    prompt_tokens: one.prompt_tokens,
                    output_tokens: one.output_tokens,
                };
                let times = arrivals.iter().map(|one| one.at_seconds).collect();
                let words = format!("of the lengths of {}", path.display());
                (arrivals.iter().map(lengths).collect(), words, Some(sha256), Some(times), 0)
            }
        };
        let random = RandomPrompts::of(job.seed, model);
        if model.tokenizer().is_none() {
            notes.push(
                "no tokenizer is known: prompts are random token ids below 1000, or a word a token where these are not taken; their length is \
                 checked by the server's count (`--tokenizer` names the model's)"
                    .to_owned(),
            );
        }
        Ok(Self { described: in_words, sha256, times, kind: Kind::Lengths { lengths, shared, random } })
    }

    fn of_set(
        job: &LoadJob,
        path: Option<&std::path::Path>,
        model: &Model,
        notes: &mut Vec<String>,
    ) -> Result<Self, JobError> {
        let set = PromptSet::open(path)?;
        let chat = chat_template(model, ChatUse::Auto, "`load`", notes)?;
        let mut prompts = Vec::new();
        for prompt in &set.prompts {
            let rendered = set.render(prompt, chat.as_ref())?;
            let token_ids = model.encode(&rendered.text, rendered.add_special_tokens)?;
            prompts.push(Arc::new(Prompt { text: rendered.text, token_ids }));
        }
        if prompts.is_empty() {
            return Err(JobError::invalid(
                format!("the prompt set {} is empty", set.name),
                "name another by `--prompts FILE`",
            ));
        }
        Ok(Self {
            described: format!("the {} prompts of the set {}, over and over", prompts.len(), set.name),
            sha256: Some(set.sha256),
            times: None,
            kind: Kind::Texts { prompts, max_tokens: job.max_tokens },
        })
    }

    /// Of a trace, how many requests there are.
    pub(super) fn count(&self) -> Option<usize> {
        self.times.as_ref().map(Vec::len)
    }

    /// What the record says of them.
    pub(super) fn in_words(&self) -> String {
        match &self.kind {
            Kind::Texts { .. } => self.described.clone(),
            Kind::Lengths { random, .. } => format!("{}, {}", random.in_words(), self.described),
        }
    }

    /// What random prompts are sent as: `ids`, `text` or `messages`.
    pub(super) fn sent_as(&self) -> Option<&'static str> {
        match &self.kind {
            Kind::Texts { .. } => None,
            Kind::Lengths { random, .. } => Some(random.sent_as()),
        }
    }

    /// The same as text, where they are token ids that no text stands behind.
    pub(super) fn as_text(&self) -> Option<Self> {
        let Kind::Lengths { lengths, shared, random } = &self.kind else { return None };
        let kind = Kind::Lengths { lengths: lengths.clone(), shared: *shared, random: random.as_text()? };
        Some(Self { kind, ..self.clone() })
    }
}

impl Source for Prompts {
    /// No two levels have the same random prompts.
    fn request(&self, level: usize, number: usize) -> LoadRequest {
        match &self.kind {
            Kind::Texts { prompts, max_tokens } => {
                let prompt = Arc::clone(&prompts[number % prompts.len()]);
                LoadRequest { prompt, prompt_tokens: None, max_tokens: *max_tokens, exact: false }
            }
            Kind::Lengths { lengths, shared, random } => {
                let RequestLengths { prompt_tokens, output_tokens } = lengths[number % lengths.len()];
                // Levels are far apart, so that none repeats another's prompts.
                let number = level << 32 | number;
                LoadRequest {
                    prompt: random.prompt(Purpose::Workload, number, *shared, prompt_tokens),
                    prompt_tokens: Some(shared + prompt_tokens),
                    max_tokens: output_tokens,
                    exact: true,
                }
            }
        }
    }

    fn times(&self) -> Option<&[f64]> {
        self.times.as_deref()
    }
}

/// Opens the job's target, its route settled for chats.
pub(super) fn open_target(job: &LoadJob, hub: &Hub) -> Result<crate::jobs::Checkpoints, JobError> {
    let mut checkpoints = job.target.open(hub)?;
    // Exact lengths are token ids.
    let chat = if job.prompts.are_exact() { ChatUse::Never } else { ChatUse::Auto };
    checkpoints.settle_api(&job.target, chat);
    Ok(checkpoints)
}
