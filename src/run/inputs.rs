//! Load: everything that a job names, opened and checked, and the plan that follows from it.

use std::path::Path;
use std::sync::Arc;

use super::{Job, RunError};
use crate::engine::model::{Activation, ModelConfig, ModelSource, PositionKind};
use crate::engine::{Dtype, EngineKind};
use crate::hub::Hub;
use crate::record::{AwqPlan, DatasetPlan, GenerationPlan, ModelPlan, Plan, ProtocolPlan, utc_now};
use crate::task::{ChatTemplate, ChatUse, Dataset, Fewshot, Protocol, Sample, Selection};

/// More than anybody waits for, and few enough to be held.
const MOST_COMPLETIONS: usize = 10_000_000;

/// What a run reads.
pub struct Inputs {
    /// The model's files.
    pub model: Arc<ModelSource>,
    /// Its AWQ form, where that lies in files of its own.
    pub awq: Option<Arc<ModelSource>>,
    /// The problems.
    pub dataset: Dataset,
    /// The protocol, with the user's changes.
    pub protocol: Protocol,
    /// Worked examples.
    pub fewshot: Fewshot,
    /// SHA-256 of the file that they came from.
    pub fewshot_sha256: Option<String>,
    /// The model's chat template, if the run uses it.
    pub chat: Option<ChatTemplate>,
    /// What the user should know about them.
    pub notes: Vec<String>,
}

impl Inputs {
    /// Opens what `job` names.
    pub fn load(job: &Job, hub: &Hub) -> Result<Self, RunError> {
        // The cheap and the local first: a misspelt protocol should not wait for a download.
        let mut protocol = Protocol::open(&job.protocol)?;
        protocol.chat = job.chat.unwrap_or(protocol.chat);
        let dataset = Dataset::open(&job.dataset, hub)?;
        let rows = dataset.samples.len();
        let (fewshot, fewshot_sha256) = Fewshot::load(&protocol, job.fewshot.as_deref(), &job.dataset, hub, rows)?;
        let model = Arc::new(ModelSource::open(&job.subject.model, hub)?);
        let mut inputs = Self::new(model, dataset, protocol, (fewshot, fewshot_sha256))?;
        inputs.find_awq(job, hub)?;
        inputs.dtypes(job)?;
        Ok(inputs)
    }

    /// From parts that are open already; settles whether the chat template is used.
    pub fn new(
        model: Arc<ModelSource>,
        dataset: Dataset,
        protocol: Protocol,
        (fewshot, fewshot_sha256): (Fewshot, Option<String>),
    ) -> Result<Self, RunError> {
        let mut notes = Vec::new();
        let chat = chat_template(&model, protocol.chat, &format!("protocol {}", protocol.name), &mut notes)?;
        Ok(Self { model, awq: None, dataset, protocol, fewshot, fewshot_sha256, chat, notes })
    }

    /// The samples that the job takes.
    pub fn chosen(&self, selection: &Selection) -> Result<Vec<&Sample>, RunError> {
        let chosen = selection.choose(&self.dataset.samples)?;
        if chosen.is_empty() {
            return Err(RunError::invalid("no sample is chosen", "raise `--limit`, or name rows with `--samples`"));
        }
        Ok(chosen)
    }

    /// Tokens to generate at most.
    pub fn max_tokens(&self, job: &Job) -> usize {
        job.sampling.max_tokens.unwrap_or(self.protocol.max_tokens)
    }

    /// Strings that end a generation: the protocol's, then the user's.
    pub fn stop_strings(&self, job: &Job) -> Vec<String> {
        let mut all = self.protocol.stop_strings.clone();
        all.extend(job.sampling.stop_strings.iter().filter(|stop| !self.protocol.stop_strings.contains(stop)).cloned());
        all
    }

    /// What decides the run's answers and scores. `chosen` is the number of samples taken.
    pub fn plan(&self, job: &Job, chosen: usize) -> Result<Plan, RunError> {
        let sampling = &job.sampling;
        if chosen.saturating_mul(sampling.repeats) > MOST_COMPLETIONS {
            return Err(RunError::invalid(
                format!(
                    "--repeats {} of {chosen} samples are more than {MOST_COMPLETIONS} completions",
                    sampling.repeats
                ),
                "lower `--repeats` or `--limit`",
            ));
        }
        let dtypes = self.dtypes(job)?;
        Ok(Plan {
            evalsuite: env!("CARGO_PKG_VERSION").to_owned(),
            command: job.command.clone(),
            started: utc_now(),
            model: model_plan(&self.model),
            awq: awq_plan(self.awq.as_ref(), &dtypes),
            dataset: DatasetPlan {
                name: self.dataset.name.clone(),
                source: self.dataset.source.clone(),
                requested: reopenable(&job.dataset.source),
                revision: job.dataset.revision.clone(),
                split: self.dataset.split.clone(),
                sha256: self.dataset.sha256.clone(),
                rows: self.dataset.samples.len(),
                chosen,
                selection: selection_in_words(&job.selection),
            },
            protocol: ProtocolPlan {
                name: self.protocol.name.clone(),
                version: self.protocol.version,
                sha256: self.protocol.sha256.clone(),
                chat: self.chat.is_some(),
                fewshot_sha256: self.fewshot_sha256.clone(),
            },
            generation: GenerationPlan {
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                top_k: sampling.top_k,
                seed: sampling.seed,
                repeats: sampling.repeats,
                max_tokens: self.max_tokens(job),
                stop_strings: self.stop_strings(job),
            },
            engine: engine_name(job.subject.engine).to_owned(),
            batch: job.subject.batch,
            batching: job.subject.batching,
            dtypes,
        })
    }
}

/// The model's chat template, where it is to be used; `who` asks for it.
pub(super) fn chat_template(
    model: &ModelSource,
    chat: ChatUse,
    who: &str,
    notes: &mut Vec<String>,
) -> Result<Option<ChatTemplate>, RunError> {
    let template = match chat {
        ChatUse::Never => None,
        ChatUse::Auto | ChatUse::Required => model.tokenizer.chat_template.as_deref(),
    };
    match (chat, template) {
        (ChatUse::Required, None) => {
            return Err(RunError::invalid(
                format!("{who} needs a chat template, and the model {} has none", model.name),
                "choose the instruction-tuned variant of the model, or give `--chat never` for plain text",
            ));
        }
        (ChatUse::Auto, None) => notes.push(format!(
            "the model {} has no chat template: prompts are plain text (`--chat required` makes this an error)",
            model.name
        )),
        _ => {}
    }
    let token = |text: &Option<String>| text.clone().unwrap_or_default();
    let (bos, eos) = (token(&model.tokenizer.bos_token), token(&model.tokenizer.eos_token));
    Ok(template.map(|source| ChatTemplate::new(source, &bos, &eos)).transpose()?)
}

/// A model's provenance.
pub(crate) fn model_plan(model: &ModelSource) -> ModelPlan {
    ModelPlan {
        name: model.name.clone(),
        source: model.source.clone(),
        sha256: model.sha256.clone(),
        stored_as: model.stored_as.clone(),
        quantized: model.is_quantized(),
        family: model.config.family,
        parameters: parameters(&model.config),
    }
}

/// The provenance of a model's AWQ form, where one of the precisions runs it.
pub(crate) fn awq_plan(awq: Option<&Arc<ModelSource>>, dtypes: &[Dtype]) -> Option<AwqPlan> {
    let awq = awq.filter(|_| dtypes.contains(&Dtype::Awq))?;
    Some(AwqPlan {
        name: awq.name.clone(),
        source: awq.source.clone(),
        sha256: awq.sha256.clone(),
        stored_as: awq.stored_as.clone(),
    })
}

/// A dataset's name, or its path so that it can be opened from any working folder.
fn reopenable(source: &str) -> String {
    std::fs::canonicalize(Path::new(source))
        .ok()
        .filter(|path| path.is_file())
        .map_or_else(|| source.to_owned(), |path| path.display().to_string())
}

pub(crate) fn engine_name(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::Auto => "auto",
        EngineKind::Cpu => "cpu",
        EngineKind::Cuda => "cuda",
        EngineKind::Candle => "candle",
    }
}

/// `all`, `first 20`, or `3,17,40-60`.
fn selection_in_words(selection: &Selection) -> String {
    if selection.indices.is_empty() {
        return selection.limit.map_or_else(|| "all".to_owned(), |limit| format!("first {limit}"));
    }
    let runs = selection.indices.chunk_by(|a, b| a + 1 == *b);
    let words: Vec<String> = runs
        .filter_map(|run| match (run.first()?, run.last()?) {
            (first, last) if first == last => Some(first.to_string()),
            (first, last) => Some(format!("{first}-{last}")),
        })
        .collect();
    words.join(",")
}

/// Parameters of a decoder of this shape.
fn parameters(config: &ModelConfig) -> u64 {
    let (hidden, intermediate) = (config.hidden, config.intermediate);
    let (query, key_value) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let bias = |present: bool, width: usize| if present { width } else { 0 };
    let learned = |width: usize| match config.norm {
        crate::engine::model::NormKind::Rms => width,
        crate::engine::model::NormKind::Layer => 2 * width,
    };
    let attention = hidden * (query + 2 * key_value)
        + bias(config.qkv_bias, query + 2 * key_value)
        + query * hidden
        + bias(config.output_bias, hidden);
    let mlp = match config.activation {
        Activation::SiluGated => 3 * hidden * intermediate + bias(config.mlp_bias, 2 * intermediate + hidden),
        Activation::Relu => 2 * hidden * intermediate + bias(config.mlp_bias, intermediate + hidden),
    };
    let positions = match config.position {
        PositionKind::Rotary { .. } => 0,
        PositionKind::Learned { offset } => (config.context_tokens + offset) * hidden,
    };
    let tables = config.vocabulary * hidden * if config.tied_embeddings { 1 } else { 2 };
    (tables + positions + config.layers * (attention + mlp + 2 * learned(hidden)) + learned(hidden)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::{Family, NormKind, RotaryScaling};

    #[test]
    fn parameters_of_published_models() {
        let smollm2 = ModelConfig {
            family: Family::Llama,
            vocabulary: 49_152,
            hidden: 576,
            intermediate: 1536,
            layers: 30,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            context_tokens: 8192,
            norm: NormKind::Rms,
            norm_epsilon: 1e-5,
            activation: Activation::SiluGated,
            position: PositionKind::Rotary { theta: 1e5, scaling: RotaryScaling::None },
            sliding_window: None,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            tied_embeddings: true,
        };
        assert_eq!(parameters(&smollm2), 134_515_008);
        let opt_125m = ModelConfig {
            family: Family::Opt,
            vocabulary: 50_272,
            hidden: 768,
            intermediate: 3072,
            layers: 12,
            heads: 12,
            kv_heads: 12,
            context_tokens: 2048,
            norm: NormKind::Layer,
            activation: Activation::Relu,
            position: PositionKind::Learned { offset: 2 },
            qkv_bias: true,
            output_bias: true,
            mlp_bias: true,
            ..smollm2
        };
        assert_eq!(parameters(&opt_125m), 125_239_296);
    }

    #[test]
    fn selections_in_words() {
        let words = |limit, indices: &[usize]| selection_in_words(&Selection { limit, indices: indices.to_vec() });
        assert_eq!(words(None, &[]), "all");
        assert_eq!(words(Some(20), &[]), "first 20");
        assert_eq!(words(None, &[3, 17, 40, 41, 42]), "3,17,40-42");
    }
}
