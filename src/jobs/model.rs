//! A model, opened: local files, or an endpoint of which only its answers are seen.

use std::sync::Arc;

use super::{Endpoint, JobError, provenance};
use crate::engine::model::{ModelSource, ModelTokenizer};
use crate::openai::Api;
use crate::record::ModelPlan;

/// Where a model is.
#[derive(Debug, Clone)]
pub enum Model {
    /// Its files are here: everything about it is known.
    Local(Arc<ModelSource>),
    /// It answers elsewhere: hash, family, size and memory are unknown, and its tokenizer where nobody names one.
    Endpoint(Arc<Endpoint>),
}

impl Model {
    /// A short name for tables.
    pub fn name(&self) -> &str {
        match self {
            Self::Local(source) => &source.name,
            Self::Endpoint(endpoint) => &endpoint.name,
        }
    }

    /// Its files, where these are here.
    pub const fn files(&self) -> Option<&Arc<ModelSource>> {
        match self {
            Self::Local(source) => Some(source),
            Self::Endpoint(_) => None,
        }
    }

    /// Its files; `what` cannot be done without.
    pub(crate) fn need_files(&self, what: &str) -> Result<&Arc<ModelSource>, JobError> {
        self.files().ok_or_else(|| {
            JobError::invalid(
                format!("{what} needs the model's files, and {} answers elsewhere", self.name()),
                "give a folder, a .gguf file or a hub id as `--model`",
            )
        })
    }

    /// Its tokenizer, where that is known.
    pub fn tokenizer(&self) -> Option<&Arc<ModelTokenizer>> {
        match self {
            Self::Local(source) => Some(&source.tokenizer),
            Self::Endpoint(endpoint) => endpoint.options.tokenizer.as_ref(),
        }
    }

    /// Its tokenizer, where prompts are made into tokens here: not for a server that makes prompts of messages.
    pub fn reads_tokens(&self) -> Option<&Arc<ModelTokenizer>> {
        self.tokenizer().filter(|_| !self.takes_messages())
    }

    /// Whether it is an endpoint that makes prompts of messages by itself.
    pub fn takes_messages(&self) -> bool {
        matches!(self, Self::Endpoint(endpoint) if endpoint.options.api == Api::Chat)
    }

    /// The tokens that its context holds, where that is known.
    pub fn context_tokens(&self) -> Option<usize> {
        match self {
            Self::Local(source) => Some(source.config.context_tokens),
            Self::Endpoint(endpoint) => endpoint.context_tokens,
        }
    }

    /// The tokens of a prompt; none where they are not made here.
    pub(crate) fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, JobError> {
        let Some(tokenizer) = self.reads_tokens() else { return Ok(Vec::new()) };
        Ok(tokenizer.encode(text, add_special_tokens)?)
    }

    /// Its provenance; waits for the hash of its files.
    pub fn plan(&self) -> Result<ModelPlan, JobError> {
        Ok(ModelPlan { sha256: self.sha256()?, ..self.unhashed_plan() })
    }

    /// The hash of its files, which is waited for; `None` of an endpoint.
    pub(crate) fn sha256(&self) -> Result<Option<String>, JobError> {
        Ok(self.files().map(|source| source.sha256.wait()).transpose()?.map(str::to_owned))
    }

    /// Its provenance but for the hash.
    pub(crate) fn unhashed_plan(&self) -> ModelPlan {
        match self {
            Self::Local(source) => provenance::model_plan(source),
            Self::Endpoint(endpoint) => ModelPlan {
                name: endpoint.name.clone(),
                source: endpoint.addresses(),
                sha256: None,
                stored_as: None,
                weights: None,
                quantized: false,
                family: None,
                parameters: None,
                endpoint: Some(endpoint.plan()),
            },
        }
    }
}

impl From<Arc<ModelSource>> for Model {
    fn from(source: Arc<ModelSource>) -> Self {
        Self::Local(source)
    }
}

/// A token's text; for special tokens and parts of characters, its name in the vocabulary.
pub(crate) fn spelling(tokenizer: &ModelTokenizer, token: u32) -> String {
    let text = tokenizer.decode(&[token]).unwrap_or_default();
    if text.is_empty() || text.contains('\u{fffd}') {
        tokenizer.id_to_token(token).unwrap_or_else(|| format!("<{token}>"))
    } else {
        text
    }
}
