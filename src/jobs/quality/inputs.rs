//! Load: the prompts, the model, its chat template, and the plan that follows from them.

use std::sync::Arc;

use super::QualityJob;
use super::{PromptSetPlan, QualityPlan};
use crate::engine::Prompt;
use crate::files::sha256;
use crate::hub::Hub;
use crate::jobs::prepared::{check, ids_sha256, little_room};
use crate::jobs::{Checkpoints, JobError, Model, Prepared, Variants, chat_template};
use crate::record::{GenerationPlan, Invocation};
use crate::task::{ChatTemplate, PromptSet};

/// What a quality run reads.
#[derive(Debug)]
pub struct QualityInputs {
    /// The model.
    pub model: Model,
    /// The columns, the reference first.
    pub variants: Variants,
    /// The prompts.
    pub set: PromptSet,
    /// The rows of the set that are asked.
    pub chosen: Vec<usize>,
    /// The same, as the model reads them.
    pub prepared: Vec<Prepared>,
    /// The model's chat template, if the run uses it.
    pub chat: Option<ChatTemplate>,
    /// What the user should know about them.
    pub notes: Vec<String>,
}

impl QualityInputs {
    /// Opens what `job` names.
    pub fn load(job: &QualityJob, hub: &Hub) -> Result<Self, JobError> {
        // The cheap first: a misspelt prompt should not wait for a download.
        let set = PromptSet::open(job.prompts.as_deref())?;
        set.choose(&job.only)?;
        let mut checkpoints = job.target.open(hub)?;
        checkpoints.settle_api(&job.target, job.chat);
        Self::new(job, checkpoints, set)
    }

    /// From parts that are open already.
    pub fn new(job: &QualityJob, checkpoints: impl Into<Checkpoints>, set: PromptSet) -> Result<Self, JobError> {
        let mut notes = Vec::new();
        let checkpoints = checkpoints.into();
        let variants = checkpoints.variants(&job.target, &job.command)?;
        let Checkpoints { model, notes: left_out, .. } = checkpoints;
        let chosen = set.choose(&job.only)?;
        let chat = chat_template(&model, job.chat, "`--chat required`", &mut notes)?;
        let mut prepared = Vec::new();
        for row in &chosen {
            let Some(prompt) = set.prompts.get(*row) else { continue };
            let rendered = set.render(prompt, chat.as_ref())?;
            let token_ids = model.encode(&rendered.text, rendered.add_special_tokens)?;
            let read = Prompt { text: rendered.text, token_ids };
            check(&format!("`{}`", prompt.id), &read, &model, chat.is_some(), None)?;
            prepared.push(Prepared {
                sample: *row,
                question: prompt.text.clone(),
                answer: String::new(),
                reference: String::new(),
                cluster: None,
                prompt_sha256: sha256(read.text.as_bytes()),
                prompt_ids_sha256: ids_sha256(&read.token_ids),
                prompt: Arc::new(read),
            });
        }
        notes.extend(variants.notes());
        notes.extend(little_room(&prepared, model.context_tokens(), job.max_tokens.unwrap_or(set.max_tokens)));
        notes.extend(left_out);
        Ok(Self { model, variants, set, chosen, prepared, chat, notes })
    }

    /// What decides the run's answers.
    pub fn plan(&self, job: &QualityJob) -> Result<QualityPlan, JobError> {
        Ok(QualityPlan {
            invocation: Invocation::now(&job.command),
            target: self.variants.plan()?,
            prompts: set_plan(&self.set, &self.chosen, &job.only),
            chat: self.chat.is_some(),
            generation: GenerationPlan {
                temperature: 0.0,
                top_p: 1.0,
                top_k: 0,
                seed: 0,
                repeats: 1,
                max_tokens: job.max_tokens.unwrap_or(self.set.max_tokens),
                stop_strings: Vec::new(),
                think_end: None,
            },
            engine: job.target.engine.name().to_owned(),
            batch: job.target.batch,
            batching: job.target.batching,
            dtypes: self.variants.names(),
        })
    }
}

/// A set's provenance.
pub(super) fn set_plan(set: &PromptSet, chosen: &[usize], only: &[String]) -> PromptSetPlan {
    let all = chosen.len() == set.prompts.len();
    PromptSetPlan {
        name: set.name.clone(),
        source: set.source.clone(),
        version: set.version,
        sha256: set.sha256.clone(),
        system: set.system.clone(),
        count: set.prompts.len(),
        chosen: chosen.len(),
        selection: if all { "all".to_owned() } else { only.join(", ") },
    }
}
