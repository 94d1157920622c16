//! Load: everything that a job names, opened and checked, and the plan that follows from it.

use super::part::WARM_UP;
use super::parts::{CONCURRENT, SINGLE, SWEEP, WORKLOAD, sweep_notes, sweep_plan};
use super::{BenchJob, Workload, peers};
use super::{BenchPlan, Lengths, PARTS, Peers, WorkloadPlan};
use crate::hub::Hub;
use crate::jobs::requests::RandomPrompts;
use crate::jobs::{Checkpoints, JobError, Model, Variants};
use crate::task::ChatUse;

/// Where no vocabulary is known.
const NO_TOKENIZER: &str = "no tokenizer is known: prompts are random token ids below 1000, or a word a token where these are not taken; \
                            their length is checked by the server's count (`--tokenizer` names the model's)";

/// What a benchmark needs.
#[derive(Debug)]
pub struct BenchInputs {
    /// The columns.
    pub variants: Variants,
    /// The workload, cut to what the job takes of it.
    pub workload: Workload,
    /// What others measured.
    pub peers: Option<Peers>,
    /// What was measured, and how.
    pub plan: BenchPlan,
    /// What the user should know about them.
    pub notes: Vec<String>,
}

impl BenchInputs {
    /// Opens what `job` names.
    pub fn load(job: &BenchJob, hub: &Hub) -> Result<Self, JobError> {
        // The cheap first: a mistyped workload should not wait for a download.
        let workload = match &job.workload {
            Some(path) => Workload::open(path)?,
            None => Workload::gsm8k_like(),
        };
        let mut checkpoints = job.target.open(hub)?;
        // Random prompts are no chats, unless the user says so.
        checkpoints.settle_api(&job.target, ChatUse::Never);
        Self::new(job, checkpoints, workload)
    }

    /// From parts that are open already.
    pub fn new(job: &BenchJob, checkpoints: impl Into<Checkpoints>, mut workload: Workload) -> Result<Self, JobError> {
        let checkpoints = checkpoints.into();
        let variants = checkpoints.variants(&job.target, &job.command)?;
        let model = &checkpoints.model;
        let context = model.context_tokens().unwrap_or(usize::MAX);
        let prompts = RandomPrompts::of(job.seed, model);
        if !prompts.can_be_made() {
            return Err(JobError::invalid(
                format!("the vocabulary of {} has {} tokens: none to choose", model.name(), prompts.vocabulary()),
                "give another `--model`",
            ));
        }
        let all = workload.requests.len();
        workload.requests.truncate(job.requests.unwrap_or(all));
        workload.shared_prefix_tokens = job.shared_prefix_tokens.unwrap_or(workload.shared_prefix_tokens);
        let known_as = (!variants.has_endpoint()).then(|| variants.known_as());
        let peers =
            job.peers.as_deref().map(|path| peers::open(path, model.name(), known_as.as_deref())).transpose()?;
        let shared = workload.shared_prefix_tokens;
        let plan = BenchPlan {
            parts: job.parts.clone(),
            seed: job.seed,
            repeats: job.repeats,
            prompts: prompts.in_words(),
            decoding: "greedy, ends of sequence ignored".to_owned(),
            warm_up: WARM_UP.to_owned(),
            single: SINGLE,
            concurrent: Lengths { requests: job.requests.unwrap_or(usize::MAX).min(CONCURRENT.requests), ..CONCURRENT },
            workload: WorkloadPlan {
                name: workload.name.clone(),
                source: workload.source.clone(),
                sha256: workload.sha256.clone(),
                requests: all,
                taken: workload.requests.len(),
                prompt_tokens: workload.requests.iter().map(|request| request.prompt_tokens + shared).sum(),
                output_tokens: workload.requests.iter().map(|request| request.output_tokens).sum(),
            },
            shared_prefix_tokens: shared,
            sweep: job.has(SWEEP).then(|| sweep_plan(context, job.requests)),
        };
        check_context(job, &plan, &workload, (model, context))?;
        let mut inputs = Self { variants, workload, peers, plan, notes: Vec::new() };
        inputs.notes = inputs.first_notes(job);
        inputs.notes.extend(checkpoints.notes.clone());
        if matches!(model, Model::Endpoint(_)) && model.tokenizer().is_none() {
            inputs.notes.push(NO_TOKENIZER.to_owned());
        }
        Ok(inputs)
    }

    fn first_notes(&self, job: &BenchJob) -> Vec<String> {
        let mut notes = self.variants.notes();
        let WorkloadPlan { name, requests, taken, .. } = &self.plan.workload;
        if taken < requests && job.has(WORKLOAD) {
            notes.push(format!("only the first {taken} of the {requests} requests of {name} run"));
        }
        if self.plan.shared_prefix_tokens > 0 && job.has(WORKLOAD) {
            notes.push(format!("all prompts of {name} begin with the same {} tokens", self.plan.shared_prefix_tokens));
        }
        notes.extend(self.plan.sweep.iter().flat_map(sweep_notes));
        if let Some(peers) = self.peers.as_ref().filter(|peers| peers.rows.is_empty()) {
            notes.push(format!("{} has no row for {} in these precisions", peers.source, self.variants.model_name()));
        }
        notes
    }
}

/// Refuses requests that the model's context cannot hold.
fn check_context(
    job: &BenchJob,
    plan: &BenchPlan,
    workload: &Workload,
    (model, context): (&Model, usize),
) -> Result<(), JobError> {
    for (index, part) in PARTS.into_iter().enumerate() {
        // Every benchmark loads and asks for a first token, whatever its parts.
        let is_asked = index == 0 && model.files().is_some() || job.has(part.name());
        let tokens = part.longest_request(plan, workload);
        if is_asked && tokens > context {
            return Err(JobError::invalid(
                format!(
                    "the {} part has requests of {tokens} tokens, but the model's context holds {context}",
                    part.name()
                ),
                part.too_long_hint(),
            ));
        }
    }
    Ok(())
}
