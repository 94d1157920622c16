//! An engine whose work is done by servers.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::address::Address;
use super::client::{Client, ClientOptions};
use super::failure::{Cause, RequestError};
use super::reply::Reply;
use super::request::{Api, GenerationRequest, PromptForm};
use super::runtime::start_runtime;
use super::server::ServerInfo;
use super::spread::{Endpoint, Outcome, Spread};
use crate::engine::model::ModelTokenizer;
use crate::engine::{
    Capacity, Completion, Engine, EngineError, EngineInfo, Event, Finish, GenerateOptions, LoadTimes, Prompt, Request,
    Thought, ThoughtMarks, Timings, Work,
};

/// The name of an engine whose work is done by servers.
pub const ENDPOINT: &str = "endpoint";

/// How endpoints are asked.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// The servers, all of one model.
    pub addresses: Vec<Address>,
    /// What the model is asked for as; `None` is the one that is served.
    pub model: Option<String>,
    /// Which route is asked. With [`Api::Chat`] a prompt's text is a JSON list of messages.
    pub api: Api,
    /// Whether prompts go as token ids, where these are known.
    pub send_ids: bool,
    /// Whether answers are streamed.
    pub stream: bool,
    /// Requests at a time, for each endpoint.
    pub places: usize,
    /// Key, timeouts.
    pub client: ClientOptions,
    /// Counts tokens where the server does not.
    pub tokenizer: Option<Arc<ModelTokenizer>>,
    /// Further keys of every request.
    pub extra: Map<String, Value>,
}

impl EndpointOptions {
    /// The addresses, in words.
    pub fn addresses_in_words(&self) -> String {
        self.addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(", ")
    }

    /// What is known of servers that are asked so, as of an engine. Their loading is not seen.
    pub fn info(&self, server: &ServerInfo) -> EngineInfo {
        EngineInfo {
            name: ENDPOINT.to_owned(),
            version: server.software_in_words(),
            device: self.addresses_in_words(),
            dtype: None,
            context_tokens: server.context_tokens.unwrap_or(usize::MAX),
            batch: self.places.max(1) * self.addresses.len(),
            load: LoadTimes::default(),
            weight_bytes: None,
            device_bytes: None,
            cache_bytes: None,
            arithmetic: Some(format!("{} by {}", server.identity(), self.api.name())),
        }
    }

    /// A prompt as it is sent.
    pub fn prompt_form(&self, prompt: &Prompt) -> Result<PromptForm, EngineError> {
        let Prompt { text, token_ids } = prompt;
        Ok(match self.api {
            Api::Chat => PromptForm::Messages(serde_json::from_str(text).map_err(|error| {
                EngineError::failed(
                    format!("a prompt is no list of messages: {error}"),
                    "this is a fault of evalsuite: report it with the command",
                )
            })?),
            Api::Completions if self.send_ids && !token_ids.is_empty() => PromptForm::Ids(token_ids.clone()),
            Api::Completions => PromptForm::Text(text.clone()),
        })
    }
}

/// An engine whose work is done by servers. A request that fails for good fails alone: [`Engine::run`] goes on, hands the failure to its
/// sink and ends in an error that counts them. Only what would fail every request alike ends it at once.
#[derive(Debug)]
pub struct RemoteEngine {
    info: EngineInfo,
    options: EndpointOptions,
    spread: Spread,
    open: HashMap<usize, Open>,
    running: usize,
    /// Failures for good since the run began.
    failures: Vec<RequestError>,
    /// Failures after which a request was sent again, by cause.
    again: BTreeMap<Cause, usize>,
}

/// A request that has not ended. Dropping it cancels it.
#[derive(Debug)]
struct Open {
    _cancel: oneshot::Sender<()>,
    options: GenerateOptions,
    prompt: String,
}

/// How long a step waits for something to happen.
const STEP: Duration = Duration::from_millis(100);

impl RemoteEngine {
    /// Asks every endpoint what it serves; all must serve the same.
    pub fn ask(options: &EndpointOptions) -> Result<ServerInfo, EngineError> {
        connect(&runtime()?, options).map(|(_, server)| server)
    }

    /// Asks every endpoint what it serves, and is ready for requests.
    pub fn open(options: EndpointOptions) -> Result<Self, EngineError> {
        let begin = Instant::now();
        let runtime = runtime()?;
        let (endpoints, server) = connect(&runtime, &options)?;
        let places = options.places.max(1);
        let load = LoadTimes { total_seconds: begin.elapsed().as_secs_f64(), ..LoadTimes::default() };
        let info = EngineInfo { load, ..options.info(&server) };
        let spread = Spread::start(runtime, endpoints, places);
        let (open, failures, again) = (HashMap::new(), Vec::new(), BTreeMap::new());
        Ok(Self { info, options, spread, open, running: 0, failures, again })
    }

    fn request(&self, request: &Request, options: &GenerateOptions) -> Result<GenerationRequest, EngineError> {
        let prompt = self.options.prompt_form(&request.prompt)?;
        let sampling = options.sampling;
        Ok(GenerationRequest {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            seed: sampling.seed,
            stop: options.stop_strings.to_vec(),
            stream: self.options.stream,
            exact_length: options.ignore_eos,
            token_ids: true,
            extra: self.options.extra.clone(),
            ..GenerationRequest::greedy(prompt, options.max_tokens)
        })
    }

    fn take(&mut self, outcome: Outcome, events: &mut Vec<Event>) -> u64 {
        match outcome {
            Outcome::Began => self.running += 1,
            Outcome::Adapted(note) => {
                self.running = self.running.saturating_sub(1);
                events.extend(note.map(Event::Note));
            }
            Outcome::Again { error, note } => {
                self.running = self.running.saturating_sub(1);
                let times = self.again.entry(error.cause).or_default();
                *times += 1;
                if *times == 1 {
                    events.push(Event::Note(format!("{note}; further ones are counted")));
                }
            }
            Outcome::Answered { number, reply, queued_seconds } => {
                self.running = self.running.saturating_sub(1);
                // What was cancelled meanwhile interests nobody.
                let Some(open) = self.open.remove(&number) else { return 0 };
                let completion = completion(self.options.tokenizer.as_deref(), number, &open, *reply, queued_seconds);
                let tokens = completion.server.as_ref().and_then(|counts| counts.output_tokens).unwrap_or_default();
                events.push(Event::Completed(completion));
                return tokens as u64;
            }
            Outcome::Failed { number, error } => {
                self.running = self.running.saturating_sub(1);
                if self.open.remove(&number).is_some() {
                    events.push(Event::Failed { request: number, error: failed(&error) });
                    self.failures.push(error);
                }
            }
        }
        0
    }
}

impl Engine for RemoteEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        let Work::Generate(options) = &request.work else {
            return Err(EngineError::invalid(
                "an endpoint is asked for answers, not for the probability of given ones",
                "run the model's files instead: give `--model`",
            ));
        };
        if self.open.contains_key(&request.id) {
            return Err(EngineError::invalid(
                format!("request {} is there already", request.id),
                "wait until it has ended, or give another id",
            ));
        }
        let sent = self.request(&request, options)?;
        let cancel = self.spread.submit(request.id, sent);
        let open = Open { _cancel: cancel, options: options.clone(), prompt: request.prompt.text.clone() };
        self.open.insert(request.id, open);
        Ok(())
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let mut new_tokens = 0;
        let mut patience = STEP;
        while !self.open.is_empty()
            && let Some(outcome) = self.spread.next(patience)
        {
            new_tokens += self.take(outcome, events);
            patience = Duration::ZERO;
        }
        events.push(Event::Step { running: self.running, new_tokens, cache_bytes: None });
        Ok(())
    }

    fn cancel(&mut self, request: usize) -> bool {
        let was = self.open.remove(&request).is_some();
        if self.open.is_empty() {
            self.running = 0;
        }
        was
    }

    fn capacity(&self) -> Capacity {
        let running = self.running.min(self.open.len());
        Capacity {
            running,
            queued: self.open.len() - running,
            free_slots: self.info.batch.saturating_sub(running),
            free_tokens: None,
        }
    }

    fn run(
        &mut self,
        requests: Vec<Request>,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let all = requests.len();
        let ended = requests.into_iter().try_for_each(|request| self.submit(request));
        let ended = ended.and_then(|()| self.work_through(all, sink));
        self.open.clear();
        self.running = 0;
        ended
    }
}

impl RemoteEngine {
    fn work_through(&mut self, all: usize, sink: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<(), EngineError> {
        let mut events = Vec::new();
        self.failures.clear();
        let mut breaks = false;
        while !self.open.is_empty() && !breaks {
            self.step(&mut events)?;
            for event in events.drain(..) {
                breaks |= sink(event).is_break();
            }
            if let Some(error) = self.failures.iter().find(|error| error.meets_every_request()) {
                return Err(unreachable_server(&self.info.device, error));
            }
        }
        if !self.again.is_empty() {
            let _ = sink(Event::Note(format!("requests that were sent again: {}", counted(&self.again))));
            self.again.clear();
        }
        if self.failures.is_empty() || breaks { Ok(()) } else { Err(summary(&self.failures, all)) }
    }
}

/// What a server's answer is to whoever asked an engine.
fn completion(
    tokenizer: Option<&ModelTokenizer>,
    number: usize,
    open: &Open,
    reply: Reply,
    queued_seconds: f64,
) -> Completion {
    let cached_tokens = reply.usage.and_then(|usage| usage.cached_tokens()).unwrap_or_default();
    let counts = reply.counts(tokenizer);
    let reasoning_tokens = reply.usage.and_then(|usage| usage.reasoning_tokens());
    let mut text = reply.text;
    let mut finish = reply.finish.unwrap_or(Finish::Unknown);
    if cut_at_stops(&mut text, &open.options.stop_strings, &open.options.thoughts, &open.prompt) {
        finish = Finish::StopString;
    }
    let thought = Some(reply.reasoning).filter(|reasoning| !reasoning.trim().is_empty());
    if thought.is_some() && text.trim().is_empty() && finish.is_cut() {
        finish = Finish::UnfinishedThought;
    }
    Completion {
        request: number,
        token_ids: reply.token_ids,
        text,
        thought: thought.map(|text| Thought { text: text.trim().to_owned(), tokens: reasoning_tokens }),
        finish,
        details: Vec::new(),
        top_tokens: Vec::new(),
        timings: Timings {
            queued_seconds,
            first_token_seconds: reply.first_token_seconds.unwrap_or_default(),
            total_seconds: reply.seconds,
        },
        cached_tokens,
        server: Some(counts),
    }
}

fn unreachable_server(address: impl std::fmt::Display, error: &RequestError) -> EngineError {
    let hint = match error.cause {
        Cause::Status(401 | 403) => {
            "put the key into the environment: `OPENAI_API_KEY`, or another variable with `--api-key-env NAME`"
        }
        Cause::Status(404) if error.message.contains("none was named") => "name one with `--served-model NAME`",
        Cause::Status(404) => {
            "look at the address, which ends in `/v1` as a rule, and at the model's name (`--served-model NAME`)"
        }
        Cause::Connect => "is the server up, and the address right? What is done is kept: `evalsuite resume` goes on",
        Cause::Status(429 | 502..=504) => "it is starting or has too much to do: ask again in a moment",
        _ => "is that the address of an OpenAI-compatible API, such as `http://localhost:8000/v1`?",
    };
    EngineError::failed(format!("the endpoint {address} cannot be used: {error}"), hint)
}

/// A failure of one request.
fn failed(error: &RequestError) -> EngineError {
    let hint = match error.cause {
        Cause::Status(400 | 413 | 422) => {
            "the server refuses this very request: look at the prompt's length and at the server's own limits"
        }
        Cause::Malformed => "the server speaks another language than OpenAI's API here; `--api` chooses the route",
        Cause::Timeout => "give more time (`--timeout`), or fewer requests at once (`--batch`)",
        _ => "`evalsuite resume` asks again for what has failed",
    };
    EngineError::failed(error.to_string(), hint)
}

/// Cuts an answer to `prompt` at its first stop string, if there is one: a server may take fewer stops than there are, or leave the stop in
/// the text. What it thinks aloud is no answer yet.
pub fn cut_at_stops(text: &mut String, stops: &[String], thoughts: &ThoughtMarks, prompt: &str) -> bool {
    let split = thoughts.split(text, thoughts.open_in(prompt));
    let answer = split.map_or(Some(0), |split| split.answer);
    let stop = |from: usize| stops.iter().filter_map(|stop| text[from..].find(&**stop)).min();
    let Some((from, end)) = answer.and_then(|from| Some((from, stop(from)?))) else { return false };
    text.truncate(from + end);
    true
}

/// What failed of a run, by cause, with the first of each kind in the server's words.
fn summary(failures: &[RequestError], all: usize) -> EngineError {
    let mut causes: BTreeMap<Cause, usize> = BTreeMap::new();
    for error in failures {
        *causes.entry(error.cause).or_default() += 1;
    }
    let said = causes.keys().filter_map(|cause| failures.iter().find(|error| error.cause == *cause));
    let said: Vec<String> = said.map(RequestError::to_string).collect();
    let hint = if failures.iter().all(|error| matches!(error.cause, Cause::Status(400 | 413 | 422))) {
        "the server refuses them as they are: where it takes no token ids, give `--send-text` or `--api chat`; where a prompt is too long, \
         raise the server's own limit"
    } else {
        "they are no answers, and count as none; `evalsuite resume` asks for them again"
    };
    EngineError::failed(
        format!("{} of {all} requests failed ({}): {}", failures.len(), counted(&causes), said.join("; ")),
        hint,
    )
}

fn counted(causes: &BTreeMap<Cause, usize>) -> String {
    causes.iter().map(|(cause, times)| format!("{times} × {cause}")).collect::<Vec<_>>().join(", ")
}

/// A client for every endpoint, and what all of them serve.
fn connect(runtime: &Runtime, options: &EndpointOptions) -> Result<(Vec<Arc<Endpoint>>, ServerInfo), EngineError> {
    let mut endpoints = Vec::new();
    let mut first: Option<ServerInfo> = None;
    for address in &options.addresses {
        let client = Client::new(address.clone(), options.client.clone()).map_err(EngineError::Invalid)?;
        let found = runtime.block_on(ServerInfo::ask(&client, options.model.as_deref()));
        let server = found.map_err(|error| unreachable_server(address, &error))?;
        if let Some(first) = first.as_ref().filter(|first| first.identity() != server.identity()) {
            return Err(EngineError::invalid(
                format!(
                    "{address} serves {}, and {} serves {}",
                    server.identity(),
                    options.addresses[0],
                    first.identity()
                ),
                "requests are spread over endpoints of one model: name such ones, and others as variants (`--variant NAME=URL`)",
            ));
        }
        endpoints.push(Arc::new(Endpoint::new(client, server.model.clone())));
        first.get_or_insert(server);
    }
    let server = first.ok_or_else(|| EngineError::invalid("no endpoint is named", "give `--endpoint URL`"))?;
    Ok((endpoints, server))
}

fn runtime() -> Result<Runtime, EngineError> {
    start_runtime(Builder::new_multi_thread().worker_threads(2).thread_name("endpoint")).map_err(EngineError::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of chunks that come at 1 s, 2 s and so on.
    fn answered(chunks: &[&str], stops: &[&str]) -> Completion {
        let mut reply = Reply::default();
        chunks.iter().zip(1..).for_each(|(chunk, at)| reply.add(chunk, f64::from(at)).unwrap());
        let stop_strings = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let options = GenerateOptions { stop_strings, ..GenerateOptions::default() };
        let open = Open { _cancel: oneshot::channel().0, options, prompt: String::new() };
        completion(None, 3, &open, reply, 0.5)
    }

    #[test]
    fn an_answer_ends_before_whichever_stop_string_comes_first() {
        let answer = answered(&[r#"{"choices":[{"text":"a TWO b ONE c","finish_reason":"length"}]}"#], &["ONE", "TWO"]);
        assert_eq!((answer.text.as_str(), answer.finish), ("a ", Finish::StopString));
    }

    #[test]
    fn a_thought_that_the_limit_cut_is_no_answer() {
        let usage = r#""usage":{"completion_tokens":3,"completion_tokens_details":{"reasoning_tokens":3}}"#;
        let of = |content: &str| {
            let choice =
                format!(r#"{{"message":{{"content":"{content}","reasoning":" two and"}},"finish_reason":"length"}}"#);
            answered(&[&format!(r#"{{"choices":[{choice}],{usage}}}"#)], &[])
        };
        let thought = Some(Thought { text: "two and".to_owned(), tokens: Some(3) });
        assert_eq!((of(" ").finish, of(" ").thought), (Finish::UnfinishedThought, thought));
        assert_eq!(of("4").finish, Finish::Length);
    }

    #[test]
    fn a_role_is_no_token_and_cached_tokens_are_those_that_were_found() {
        let role = r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#;
        let token = r#"{"choices":[{"delta":{"content":"4"},"finish_reason":"stop"}]}"#;
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":4}}}"#;
        let answer = answered(&[role, token, usage], &[]);
        let timings = Timings { queued_seconds: 0.5, first_token_seconds: 2.0, total_seconds: 2.0 };
        assert_eq!((answer.request, answer.timings, answer.cached_tokens), (3, timings, 4));
    }

    #[test]
    fn failures_are_counted_by_cause_and_told_once_a_kind() {
        let failures = [
            RequestError::new(Cause::Timeout, "no whole answer within 1 s"),
            RequestError::status(400, r#"{"error":{"message":"too long"}}"#, None),
            RequestError::new(Cause::Timeout, "no whole answer within 1 s"),
        ];
        let message = summary(&failures, 7).to_string();
        assert!(
            message.starts_with("3 of 7 requests failed (2 × timeout, 1 × HTTP 400): timeout: no whole"),
            "{message}"
        );
        assert!(message.contains("HTTP 400: too long") && message.contains("hint: "), "{message}");
        assert!(RequestError::status(401, "", None).meets_every_request() && !failures[1].meets_every_request());
    }
}
