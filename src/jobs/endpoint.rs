//! Endpoints: models that answer elsewhere, as a job names and opens them.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::JobError;
use crate::engine::model::{ModelSpec, ModelTokenizer};
use crate::engine::{Engine, EngineError, EngineInfo};
use crate::hub::Hub;
use crate::openai::{Address, Api, ClientOptions, EndpointOptions, RemoteEngine, ServerInfo};
use crate::record::EndpointPlan;
use crate::task::ChatUse;

/// How every endpoint of a job is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSettings {
    /// What the model is asked for as; `None` is the one that is served.
    pub model: Option<String>,
    /// Which route is asked; `None`: chat where prompts are chats and no tokenizer is known, else completions.
    pub api: Option<Api>,
    /// Whether prompts go as text, though their token ids are known.
    pub send_text: bool,
    /// Whether answers are streamed.
    pub stream: bool,
    /// Requests at a time, for each endpoint.
    pub places: usize,
    /// Where the model's tokenizer is: a folder, a hub id, a .gguf file.
    pub tokenizer: Option<ModelSpec>,
    /// Key, timeouts.
    pub client: ClientOptions,
    /// Further keys of every request.
    pub extra: Map<String, Value>,
}

/// Requests at a time that any server can be asked.
pub const DEFAULT_PLACES: usize = 32;

impl Default for EndpointSettings {
    fn default() -> Self {
        Self {
            model: None,
            api: None,
            send_text: false,
            stream: true,
            places: DEFAULT_PLACES,
            tokenizer: None,
            client: ClientOptions::default(),
            extra: Map::new(),
        }
    }
}

/// A model that answers elsewhere.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// What it is asked for as.
    pub name: String,
    /// Prompt plus output at most, in tokens, where the server tells.
    pub context_tokens: Option<usize>,
    /// Where the tokenizer came from.
    pub tokenizer_source: Option<String>,
    /// How it is asked.
    pub options: EndpointOptions,
    /// What its servers say of themselves.
    pub server: ServerInfo,
}

impl Endpoint {
    /// Asks the servers what they serve. `tokenizer` is the one of a model beside which they stand as a variant; of its own has an
    /// endpoint the one that the settings name.
    pub(super) fn open(
        addresses: &[Address],
        settings: &EndpointSettings,
        tokenizer: Option<(Arc<ModelTokenizer>, String)>,
        hub: &Hub,
    ) -> Result<Self, JobError> {
        let named = match &settings.tokenizer {
            Some(spec) if tokenizer.is_none() => Some((ModelTokenizer::open(spec, hub)?, spec.source.clone())),
            _ => tokenizer,
        };
        let (tokenizer, tokenizer_source) = named.unzip();
        let options = EndpointOptions {
            addresses: addresses.to_vec(),
            model: settings.model.clone(),
            api: settings.api.unwrap_or(Api::Completions),
            send_ids: !settings.send_text,
            stream: settings.stream,
            places: settings.places,
            client: settings.client.clone(),
            tokenizer,
            extra: settings.extra.clone(),
        };
        let server = RemoteEngine::ask(&options)?;
        Ok(Self {
            name: server.model.clone(),
            context_tokens: server.context_tokens,
            tokenizer_source,
            options,
            server,
        })
    }

    /// Chooses the route, where the user has not: a chat without a tokenizer is the server's to render.
    pub(super) fn settle(&mut self, asked: Option<Api>, chat: ChatUse) {
        let by_server = chat != ChatUse::Never && self.options.tokenizer.is_none();
        self.options.api = asked.unwrap_or(if by_server { Api::Chat } else { Api::Completions });
    }

    /// The addresses, in words.
    pub fn addresses(&self) -> String {
        self.options.addresses_in_words()
    }

    /// What is known of it, as of an engine.
    pub(super) fn info(&self) -> EngineInfo {
        self.options.info(&self.server)
    }

    /// An engine that asks it.
    pub(super) fn engine(&self) -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(RemoteEngine::open(self.options.clone())?))
    }

    pub(super) fn plan(&self) -> EndpointPlan {
        let prompts = match self.options.api {
            Api::Chat => "messages",
            Api::Completions if self.options.send_ids && self.options.tokenizer.is_some() => "ids",
            Api::Completions => "text",
        };
        EndpointPlan {
            api: self.options.api.name().to_owned(),
            prompts: prompts.to_owned(),
            tokenizer: self.tokenizer_source.clone(),
            extra: self.options.extra.clone(),
        }
    }
}
