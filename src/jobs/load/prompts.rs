//! What is sent: the prompt and the length of each request, a function of its level and number.

use std::sync::Arc;

use super::trace::{self, Arrival};
use super::{LoadJob, LoadPrompts};
use crate::engine::Prompt;
use crate::hub::Hub;
use crate::jobs::bench::{PromptPurpose, RandomPrompts, RequestLengths, Workload};
use crate::jobs::{JobError, Model, chat_template};
use crate::task::{ChatUse, PromptSet};

/// One request.
#[derive(Debug, Clone)]
pub(super) struct LoadRequest {
    pub(super) prompt: Arc<Prompt>,
    /// Tokens at most, or exactly.
    pub(super) max_tokens: usize,
    pub(super) exact: bool,
}

/// Where requests come from.
#[derive(Debug)]
pub(super) struct Prompts {
    pub(super) in_words: String,
    pub(super) sha256: Option<String>,
    /// When a trace's requests are sent.
    pub(super) times: Option<Vec<f64>>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Texts, over and over.
    Texts { prompts: Vec<Arc<Prompt>>, max_tokens: usize },
    /// Random tokens of these lengths, over and over, none twice.
    Lengths { lengths: Vec<RequestLengths>, prefix: Vec<u32>, random: RandomPrompts },
}

/// Ids below this are text in every vocabulary that we know.
const SMALL_VOCABULARY: usize = 1000;

impl Prompts {
    /// Opens what the job names, for a model.
    pub(super) fn open(job: &LoadJob, model: &Model, notes: &mut Vec<String>) -> Result<Self, JobError> {
        let (lengths, in_words, sha256, times, prefix) = match &job.prompts {
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
        if model.takes_messages() {
            return Err(JobError::invalid(
                "prompts of exact lengths are token ids, which the chat route does not take",
                "give `--api completions`, or leave the lengths out: prompts of a set are messages",
            ));
        }
        let vocabulary = if let Some(tokenizer) = model.reads_tokens() {
            tokenizer.tokenizer.get_vocab_size(true)
        } else {
            notes.push(format!(
                    "no tokenizer is known: prompts are random token ids below {SMALL_VOCABULARY}, and the server has to take ids \
                     (`--tokenizer` names the model's)"
                ));
            SMALL_VOCABULARY
        };
        let random = RandomPrompts { seed: job.seed, vocabulary };
        let prefix = random.shared_prefix(prefix);
        let in_words = format!("random token ids, {in_words}");
        Ok(Self { in_words, sha256, times, kind: Kind::Lengths { lengths, prefix, random } })
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
            in_words: format!("the {} prompts of the set {}, over and over", prompts.len(), set.name),
            sha256: Some(set.sha256),
            times: None,
            kind: Kind::Texts { prompts, max_tokens: job.max_tokens },
        })
    }

    /// Of a trace, how many requests there are.
    pub(super) fn count(&self) -> Option<usize> {
        self.times.as_ref().map(Vec::len)
    }

    /// The `number`th request of a level; no two levels have the same random tokens.
    pub(super) fn request(&self, level: usize, number: usize) -> LoadRequest {
        match &self.kind {
            Kind::Texts { prompts, max_tokens } => {
                let prompt = Arc::clone(&prompts[number % prompts.len()]);
                LoadRequest { prompt, max_tokens: *max_tokens, exact: false }
            }
            Kind::Lengths { lengths, prefix, random } => {
                let RequestLengths { prompt_tokens, output_tokens } = lengths[number % lengths.len()];
                // Levels are far apart, so that none repeats another's prompts.
                let number = level << 32 | number;
                let prompt = random.prompt(PromptPurpose::Workload, number, prefix, prompt_tokens);
                LoadRequest { prompt, max_tokens: output_tokens, exact: true }
            }
        }
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
