//! What is sent: the prompt and the length of each request, a function of its level and number.

use std::sync::Arc;

use super::questions::Questions;
use super::trace::{self, Arrival};
use super::{LoadJob, LoadPrompts};
use crate::engine::Prompt;
use crate::hub::Hub;
use crate::jobs::bench::{RequestLengths, Workload};
use crate::jobs::requests::{Answered, LoadRequest, Purpose, RandomPrompts, RequestScore, Source};
use crate::jobs::{Checkpoints, JobError, Model, chat_template};
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
    /// A task's.
    Questions(Arc<Questions>),
    /// Random tokens of these lengths, over and over, none twice.
    Lengths { lengths: Vec<RequestLengths>, shared: usize, random: RandomPrompts },
}

impl Prompts {
    /// Opens what the job names, and the model that it is for.
    pub(super) fn open(job: &LoadJob, hub: &Hub, notes: &mut Vec<String>) -> Result<(Self, Checkpoints), JobError> {
        let (lengths, described, sha256, times, shared) = match &job.prompts {
            LoadPrompts::Questions(eval) => {
                let (questions, checkpoints) = Questions::open(eval, hub, notes)?;
                let (described, sha256) = (questions.in_words.clone(), Some(questions.sha256.clone()));
                let kind = Kind::Questions(Arc::new(questions));
                return Ok((Self { described, sha256, times: None, kind }, checkpoints));
            }
            LoadPrompts::Set(path) => {
                let checkpoints = open_target(job, hub, ChatUse::Auto)?;
                return Ok((Self::of_set(job, path.as_deref(), &checkpoints.model, notes)?, checkpoints));
            }
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
        // Exact lengths are token ids.
        let checkpoints = open_target(job, hub, ChatUse::Never)?;
        let random = RandomPrompts::of(job.seed, &checkpoints.model);
        if checkpoints.model.tokenizer().is_none() {
            notes.push(
                "no tokenizer is known: prompts are random token ids below 1000, or a word a token where these are not taken; their length is \
                 checked by the server's count (`--tokenizer` names the model's)"
                    .to_owned(),
            );
        }
        Ok((Self { described, sha256, times, kind: Kind::Lengths { lengths, shared, random } }, checkpoints))
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

    /// Of a trace and of a task, how many requests there are.
    pub(super) fn count(&self) -> Option<usize> {
        match &self.kind {
            Kind::Questions(questions) => Some(questions.count()),
            Kind::Texts { .. } | Kind::Lengths { .. } => self.times.as_ref().map(Vec::len),
        }
    }

    /// A task's.
    pub(super) fn questions(&self) -> Option<&Questions> {
        if let Kind::Questions(questions) = &self.kind { Some(questions) } else { None }
    }

    /// What the record says of them.
    pub(super) fn in_words(&self) -> String {
        match &self.kind {
            Kind::Texts { .. } | Kind::Questions(_) => self.described.clone(),
            Kind::Lengths { random, .. } => format!("{}, {}", random.in_words(), self.described),
        }
    }

    /// What random prompts are sent as: `ids`, `text` or `messages`.
    pub(super) fn sent_as(&self) -> Option<&'static str> {
        match &self.kind {
            Kind::Texts { .. } | Kind::Questions(_) => None,
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
            Kind::Questions(questions) => questions.request(level, number),
            Kind::Texts { prompts, max_tokens } => {
                LoadRequest::open(Arc::clone(&prompts[number % prompts.len()]), *max_tokens)
            }
            Kind::Lengths { lengths, shared, random } => {
                let RequestLengths { prompt_tokens, output_tokens } = lengths[number % lengths.len()];
                // Levels are far apart, so that none repeats another's prompts.
                let number = level << 32 | number;
                let prompt = random.prompt(Purpose::Workload, number, *shared, prompt_tokens);
                LoadRequest::exact(prompt, shared + prompt_tokens, output_tokens)
            }
        }
    }

    fn score(&self, number: usize, answer: Answered) -> Option<RequestScore> {
        self.questions()?.score(number, answer)
    }

    fn times(&self) -> Option<&[f64]> {
        self.times.as_deref()
    }
}

/// Opens the job's target, its route settled for chats or for none.
fn open_target(job: &LoadJob, hub: &Hub, chat: ChatUse) -> Result<Checkpoints, JobError> {
    let mut checkpoints = job.target.open(hub)?;
    checkpoints.settle_api(&job.target, chat);
    Ok(checkpoints)
}
