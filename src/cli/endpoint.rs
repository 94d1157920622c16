//! What every command that can ask an endpoint is told about it.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};

use super::values::at_least_one;
use crate::engine::model::ModelSpec;
use crate::fault::Fault;
use crate::hub::DEFAULT_REVISION;
use crate::jobs::{DEFAULT_PLACES, EndpointSettings, JobError, Target};
use crate::openai::{Address, Api, ApiKey, ClientOptions};

/// Where the key of an endpoint is, as a rule.
const KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// Seconds for an answer, where nobody says.
const TIMEOUT: usize = 600;

/// The flags of endpoints.
#[derive(Debug, Clone, Args)]
pub struct EndpointArguments {
    /// A server of OpenAI's API in place of --model, such as
    /// `http://localhost:8000/v1`; repeatable: requests go to whichever has a
    /// free place. A server beside other columns: --variant NAME=URL
    #[arg(long, value_name = "URL", help_heading = "Endpoint", conflicts_with_all = ["model", "revision", "dtype", "awq"])]
    pub endpoint: Vec<String>,
    /// Send prompts as text, though their token ids are known
    #[arg(long, help_heading = "Endpoint")]
    pub send_text: bool,
    /// Ask for whole answers; no time to the first token is known then
    #[arg(long, help_heading = "Endpoint")]
    pub no_stream: bool,
    #[command(flatten)]
    /// How they are asked.
    pub asking: AskingArguments,
}

/// The flags of whatever asks an endpoint, `probe` too.
#[derive(Debug, Clone, Args)]
pub struct AskingArguments {
    /// What the model is called there [default: the one that is served]
    #[arg(long, value_name = "NAME", help_heading = "Endpoint")]
    pub served_model: Option<String>,
    /// `completions` or `chat` [default: chat where prompts are chats and no
    /// tokenizer is known, else completions, where the server has it]
    #[arg(long, value_name = "ROUTE", help_heading = "Endpoint")]
    pub api: Option<String>,
    /// The model's tokenizer, a folder, a hub id or a .gguf file: prompts are
    /// rendered here and sent as token ids, and tokens can be counted
    #[arg(long, value_name = "SOURCE", help_heading = "Endpoint")]
    pub tokenizer: Option<String>,
    /// The environment variable that holds the key [default:
    /// `OPENAI_API_KEY`]
    #[arg(long, value_name = "NAME", help_heading = "Endpoint")]
    pub api_key_env: Option<String>,
    /// Longest wait for an answer [default: 600; 120 of probe]
    #[arg(long, value_name = "SECONDS", help_heading = "Endpoint")]
    pub timeout: Option<usize>,
    /// Further keys of every request, a JSON object; a key of null is left out
    #[arg(long, value_name = "JSON", help_heading = "Endpoint")]
    pub extra_body: Option<String>,
}

impl EndpointArguments {
    /// Checks everything that can be checked without a connection, and adds it to a target.
    pub(super) fn add_to(&self, target: Target) -> Result<Target, JobError> {
        let settings = EndpointSettings {
            send_text: self.send_text,
            stream: !self.no_stream,
            places: target.batch.unwrap_or(DEFAULT_PLACES),
            ..self.asking.settings(TIMEOUT)?
        };
        Ok(Target { endpoints: self.addresses()?, asking: Some(settings), ..target })
    }

    /// The addresses, none twice.
    fn addresses(&self) -> Result<Vec<Address>, JobError> {
        let mut addresses: Vec<Address> = Vec::new();
        for text in &self.endpoint {
            let address = Address::parse(text)?;
            if addresses.contains(&address) {
                return Err(JobError::invalid(
                    format!("--endpoint {text} is given twice"),
                    "give each server once; `--batch N` sets how many requests at a time one gets",
                ));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }
}

impl AskingArguments {
    /// How endpoints are asked, by default with so many seconds for an answer.
    pub(super) fn settings(&self, timeout: usize) -> Result<EndpointSettings, JobError> {
        at_least_one(&[("--timeout", self.timeout)])?;
        let timeout = Duration::from_secs(self.timeout.unwrap_or(timeout) as u64);
        let client = ClientOptions { api_key: self.key()?, timeout, silence: timeout, ..ClientOptions::default() };
        let tokenizer = self
            .tokenizer
            .as_ref()
            .map(|source| ModelSpec { source: source.clone(), revision: DEFAULT_REVISION.to_owned() });
        Ok(EndpointSettings {
            model: self.served_model.clone(),
            api: self.api.as_deref().map(api).transpose()?,
            tokenizer,
            client,
            extra: self.extra()?,
            ..EndpointSettings::default()
        })
    }

    /// The key, if there is one; a variable that is named has to be there.
    fn key(&self) -> Result<Option<ApiKey>, JobError> {
        let name = self.api_key_env.as_deref().unwrap_or(KEY_VARIABLE);
        let key = std::env::var(name).ok().map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        if key.is_none() && self.api_key_env.is_some() {
            return Err(JobError::invalid(
                format!("--api-key-env {name}: there is no such variable in the environment, or it is empty"),
                format!("`export {name}=…`, or leave the flag out where the server wants no key"),
            ));
        }
        Ok(key.map(ApiKey))
    }

    fn extra(&self) -> Result<Map<String, Value>, JobError> {
        let Some(text) = &self.extra_body else { return Ok(Map::new()) };
        let hint = "give an object, such as '{\"chat_template_kwargs\": {\"enable_thinking\": false}}'";
        match serde_json::from_str(text) {
            Ok(Value::Object(extra)) => Ok(extra),
            Ok(_) => Err(JobError::invalid(format!("--extra-body {text} is no JSON object"), hint)),
            Err(error) => Err(JobError::invalid(format!("--extra-body {text} is no JSON: {error}"), hint)),
        }
    }
}

fn api(name: &str) -> Result<Api, JobError> {
    let found = Api::ALL.into_iter().find(|api| api.name() == name.trim());
    found.ok_or_else(|| Fault::unknown("route", name, &Api::ALL.map(Api::name)).into())
}
