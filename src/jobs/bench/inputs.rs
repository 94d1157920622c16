//! Load: everything that a job names, opened and checked, and the plan that follows from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::job::SINGLE;
use super::prompts::Prompts;
use super::{BenchJob, Workload, measure, peers};
use super::{BenchPart, BenchPlan, Peers, WorkloadPlan};
use crate::engine::Dtype;
use crate::engine::model::ModelSource;
use crate::hub::Hub;
use crate::jobs::{JobError, awq_plan, model_plan, weight_notes};

/// What a benchmark needs.
#[derive(Debug)]
pub struct BenchInputs {
    /// The model's files.
    pub model: Arc<ModelSource>,
    /// Its AWQ form, where that lies in files of its own.
    pub awq: Option<Arc<ModelSource>>,
    /// Precisions, the ground truth first.
    pub dtypes: Vec<Dtype>,
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
        let model = Arc::new(ModelSource::open(&job.subject.model, hub)?);
        let mut notes = Vec::new();
        let awq = job.subject.find_awq(&model, hub, &mut notes)?;
        let mut inputs = Self::new(job, model, awq, workload)?;
        inputs.notes.extend(notes);
        Ok(inputs)
    }

    /// From parts that are open already.
    pub fn new(
        job: &BenchJob,
        model: Arc<ModelSource>,
        awq: Option<Arc<ModelSource>>,
        mut workload: Workload,
    ) -> Result<Self, JobError> {
        let dtypes = job.subject.dtypes(&job.command, &model, awq.is_some())?;
        let prompts = Prompts { seed: job.seed, vocabulary: model.config.vocabulary };
        if !prompts.can_be_made() {
            return Err(JobError::invalid(
                format!("the vocabulary of {} has {} tokens: none to choose", model.name, prompts.vocabulary),
                "give another `--model`",
            ));
        }
        let all = workload.requests.len();
        workload.requests.truncate(job.requests.unwrap_or(all));
        workload.shared_prefix_tokens = job.shared_prefix_tokens.unwrap_or(workload.shared_prefix_tokens);
        check_context(job, &workload, model.config.context_tokens)?;
        let peers = job.peers.as_deref().map(|path| peers::open(path, &model.name, &dtypes)).transpose()?;
        let shared = workload.shared_prefix_tokens;
        let plan = BenchPlan {
            parts: job.parts.clone(),
            seed: job.seed,
            repeats: job.repeats,
            prompts: prompts.in_words(),
            decoding: "greedy, ends of sequence ignored".to_owned(),
            warm_up: measure::WARM_UP.to_owned(),
            single: SINGLE,
            concurrent: job.concurrent(),
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
        };
        let mut inputs = Self { model, awq, dtypes, workload, peers, plan, notes: Vec::new() };
        inputs.notes = inputs.first_notes(job);
        Ok(inputs)
    }

    /// The files that a precision is loaded from.
    pub(super) fn model_in(&self, dtype: Dtype) -> &Arc<ModelSource> {
        self.awq.as_ref().filter(|_| dtype == Dtype::Awq).unwrap_or(&self.model)
    }

    pub(super) fn prompts(&self) -> Prompts {
        Prompts { seed: self.plan.seed, vocabulary: self.model.config.vocabulary }
    }

    fn first_notes(&self, job: &BenchJob) -> Vec<String> {
        let awq = awq_plan(self.awq.as_ref(), &self.dtypes);
        let mut notes = weight_notes(&model_plan(&self.model), awq.as_ref(), &self.dtypes);
        let WorkloadPlan { name, requests, taken, .. } = &self.plan.workload;
        if taken < requests && job.has(BenchPart::Workload) {
            notes.push(format!("only the first {taken} of the {requests} requests of {name} run"));
        }
        if self.plan.shared_prefix_tokens > 0 && job.has(BenchPart::Workload) {
            notes.push(format!("all prompts of {name} begin with the same {} tokens", self.plan.shared_prefix_tokens));
        }
        if let Some(peers) = self.peers.as_ref().filter(|peers| peers.rows.is_empty()) {
            notes.push(format!("{} has no row for {} in these precisions", peers.source, self.model.name));
        }
        notes
    }
}

/// Refuses requests that the model's context cannot hold.
fn check_context(job: &BenchJob, workload: &Workload, context: usize) -> Result<(), JobError> {
    let misfit = |part: BenchPart, tokens: usize| {
        let hint = match part {
            BenchPart::Workload => "give a `--workload` of shorter requests, or a smaller `--shared-prefix`",
            _ => "leave this part out with `--only`, or give a `--model` with a longer context",
        };
        JobError::invalid(
            format!(
                "the {} part has requests of {tokens} tokens, but the model's context holds {context}",
                part.name()
            ),
            hint,
        )
    };
    let concurrent = job.concurrent();
    let longest =
        workload.requests.iter().map(|request| request.prompt_tokens.saturating_add(request.output_tokens)).max();
    let lengths = [
        (BenchPart::Load, SINGLE.prompt_tokens + 1),
        (BenchPart::Single, SINGLE.prompt_tokens + SINGLE.output_tokens),
        (BenchPart::Concurrent, concurrent.prompt_tokens + concurrent.output_tokens),
        (BenchPart::Workload, longest.unwrap_or(0).saturating_add(workload.shared_prefix_tokens)),
    ];
    // Every benchmark loads and asks for a first token, whatever its parts.
    let asked = |part: BenchPart| part == BenchPart::Load || job.has(part);
    match lengths.into_iter().find(|(part, tokens)| asked(*part) && *tokens > context) {
        Some((part, tokens)) => Err(misfit(part, tokens)),
        None => Ok(()),
    }
}

/// The files on disk that a model's weights are read from; none where they are compiled in.
pub(super) fn weight_files(source: &ModelSource) -> Vec<PathBuf> {
    let Some(files) = &source.files else {
        return Some(PathBuf::from(&source.source)).filter(|path| path.is_file()).into_iter().collect();
    };
    let of = |extension: &str| -> Vec<PathBuf> {
        let has = |path: &&Path| path.extension().is_some_and(|found| found == extension);
        files.paths().filter(has).map(Path::to_path_buf).collect()
    };
    let safetensors = of("safetensors");
    if safetensors.is_empty() { of("bin") } else { safetensors }
}
