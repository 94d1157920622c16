//! Load: the prompts, the model, its chat template, and the plan that follows from them.

use std::sync::Arc;

use super::QualityJob;
use super::{PromptSetPlan, QualityPlan};
use crate::engine::model::ModelSource;
use crate::engine::{Dtype, Prompt};
use crate::files::sha256;
use crate::hub::Hub;
use crate::jobs::prepared::{check, little_room};
use crate::jobs::{JobError, Prepared, awq_plan, chat_template, model_plan, weight_notes};
use crate::record::{GenerationPlan, utc_now, working_directory};
use crate::task::{ChatTemplate, PromptSet};

/// What a quality run reads.
#[derive(Debug)]
pub struct QualityInputs {
    /// The model's files.
    pub model: Arc<ModelSource>,
    /// Its AWQ form, where that lies in files of its own.
    pub awq: Option<Arc<ModelSource>>,
    /// Precisions, the reference first.
    pub dtypes: Vec<Dtype>,
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
        let model = Arc::new(ModelSource::open(&job.subject.model, hub)?);
        let mut notes = Vec::new();
        let awq = job.subject.find_awq(&model, hub, &mut notes)?;
        let mut inputs = Self::new(job, model, awq, set)?;
        inputs.notes.extend(notes);
        Ok(inputs)
    }

    /// From parts that are open already.
    pub fn new(
        job: &QualityJob,
        model: Arc<ModelSource>,
        awq: Option<Arc<ModelSource>>,
        set: PromptSet,
    ) -> Result<Self, JobError> {
        let mut notes = Vec::new();
        let dtypes = job.subject.dtypes(&job.command, &model, awq.is_some())?;
        let chosen = set.choose(&job.only)?;
        let chat = chat_template(&model, job.chat, "`--chat required`", &mut notes)?;
        let mut prepared = Vec::new();
        for row in &chosen {
            let Some(prompt) = set.prompts.get(*row) else { continue };
            let rendered = set.render(prompt, chat.as_ref())?;
            let token_ids = model.tokenizer.encode(&rendered.text, rendered.add_special_tokens)?;
            let read = Prompt { text: rendered.text, token_ids };
            check(&format!("`{}`", prompt.id), &read, &model, chat.is_some())?;
            prepared.push(Prepared {
                sample: *row,
                question: prompt.text.clone(),
                answer: String::new(),
                reference: String::new(),
                cluster: None,
                prompt_sha256: sha256(read.text.as_bytes()),
                prompt: Arc::new(read),
            });
        }
        let mut inputs = Self { model, awq, dtypes, set, chosen, prepared, chat, notes };
        let (model, awq) = (model_plan(&inputs.model), awq_plan(inputs.awq.as_ref(), &inputs.dtypes));
        inputs.notes.extend(weight_notes(&model, awq.as_ref(), &inputs.dtypes));
        let (context, limit) = (inputs.model.config.context_tokens, inputs.max_tokens(job));
        inputs.notes.extend(little_room(&inputs.prepared, context, limit));
        Ok(inputs)
    }

    /// The files that a precision is loaded from.
    pub fn model_in(&self, dtype: Dtype) -> &Arc<ModelSource> {
        self.awq.as_ref().filter(|_| dtype == Dtype::Awq).unwrap_or(&self.model)
    }

    fn max_tokens(&self, job: &QualityJob) -> usize {
        job.max_tokens.unwrap_or(self.set.max_tokens)
    }

    /// What decides the run's answers.
    pub fn plan(&self, job: &QualityJob) -> QualityPlan {
        QualityPlan {
            evalsuite: env!("CARGO_PKG_VERSION").to_owned(),
            command: job.command.clone(),
            working_directory: working_directory(),
            started: utc_now(),
            model: model_plan(&self.model),
            awq: awq_plan(self.awq.as_ref(), &self.dtypes),
            prompts: set_plan(&self.set, &self.chosen, &job.only),
            chat: self.chat.is_some(),
            generation: GenerationPlan {
                temperature: 0.0,
                top_p: 1.0,
                top_k: 0,
                seed: 0,
                repeats: 1,
                max_tokens: self.max_tokens(job),
                stop_strings: Vec::new(),
            },
            engine: job.subject.engine.name().to_owned(),
            batch: job.subject.batch,
            batching: job.subject.batching,
            dtypes: self.dtypes.clone(),
        }
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
