//! Whatever answers: endpoints, or an engine of ours on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;

use super::RequestRecord;
use crate::engine::model::ModelTokenizer;
use crate::engine::{EngineError, EngineHandle, Finish, GenerateOptions, Prompt, Request, ThoughtMarks, Update, Work};
use crate::jobs::{Endpoint, JobError};
use crate::openai::{Cause, Client, EndpointOptions, GenerationRequest, Refused, Reply, RequestError};

/// One request.
#[derive(Debug, Clone)]
pub(in crate::jobs) struct LoadRequest {
    pub(in crate::jobs) prompt: Arc<Prompt>,
    /// Tokens that the prompt was made to have, where it was.
    pub(in crate::jobs) prompt_tokens: Option<usize>,
    /// Tokens at most, or exactly.
    pub(in crate::jobs) max_tokens: usize,
    pub(in crate::jobs) exact: bool,
    /// Strings that end an answer.
    pub(in crate::jobs) stops: Arc<[String]>,
    /// What stands between these is no answer.
    pub(in crate::jobs) thoughts: Arc<ThoughtMarks>,
}

impl LoadRequest {
    /// A prompt that was made to have so many tokens, answered in exactly so many.
    pub(in crate::jobs) fn exact(prompt: Arc<Prompt>, prompt_tokens: usize, output_tokens: usize) -> Self {
        Self { prompt_tokens: Some(prompt_tokens), exact: true, ..Self::open(prompt, output_tokens) }
    }

    /// A prompt that is answered as it comes, in so many tokens at most.
    pub(in crate::jobs) fn open(prompt: Arc<Prompt>, max_tokens: usize) -> Self {
        Self { prompt, prompt_tokens: None, max_tokens, exact: false, stops: Arc::from([]), thoughts: Arc::default() }
    }
}

/// What was answered.
#[derive(Debug)]
pub(in crate::jobs) struct Answered {
    pub(in crate::jobs) text: String,
    pub(in crate::jobs) finish: Finish,
}

/// Whatever answers.
#[derive(Debug)]
pub(in crate::jobs) enum Served {
    /// Servers of one model; each request goes to the one with the fewest in flight.
    Endpoints { places: Vec<Place>, options: Box<EndpointOptions>, model: String, refused: Refused },
    /// An engine of ours.
    Engine(EngineHandle),
}

/// One server.
#[derive(Debug)]
pub(in crate::jobs) struct Place {
    pub(in crate::jobs) client: Client,
    in_flight: AtomicUsize,
}

/// A request that is ready to be sent: nothing is left to be done once its moment has come.
#[derive(Debug)]
pub(in crate::jobs) enum Ready {
    Body(Bytes, AskedLengths, crate::openai::Api),
    Request(Box<Request>, AskedLengths),
}

/// Tokens that a request is made of and asks for, where either is exact.
#[derive(Debug, Clone, Copy)]
pub(in crate::jobs) struct AskedLengths {
    prompt: Option<usize>,
    output: Option<usize>,
}

/// What the request showed that is sent before anything is measured.
#[derive(Debug, Default)]
pub(in crate::jobs) struct Settled {
    /// What the server takes none of.
    pub(in crate::jobs) notes: Vec<String>,
    /// It takes no token ids, but text.
    pub(in crate::jobs) as_text: bool,
    /// What it answered; `None` of an engine of ours, which is asked nothing.
    pub(in crate::jobs) answer: Option<RequestRecord>,
}

/// What came of a request, and the gaps between its chunks in seconds.
#[derive(Debug, Default)]
pub(in crate::jobs) struct Measured {
    pub(in crate::jobs) record: RequestRecord,
    pub(in crate::jobs) gaps: Vec<f32>,
    /// `None` of a failure.
    pub(in crate::jobs) answer: Option<Answered>,
}

impl Served {
    /// Servers, each with connections of its own. Answers come uncompressed.
    pub(in crate::jobs) fn endpoint(endpoint: &Endpoint) -> Result<Self, JobError> {
        let mut options = endpoint.options.clone();
        options.client.compressed = false;
        let clients = options.addresses.iter().map(|address| Client::new(address.clone(), options.client.clone()));
        let places = clients.map(|client| Ok(Place { client: client?, in_flight: AtomicUsize::new(0) }));
        let places = places.collect::<Result<Vec<_>, JobError>>()?;
        let (model, refused) = (endpoint.name.clone(), Refused::default());
        Ok(Self::Endpoints { places, options: Box::new(options), model, refused })
    }

    /// Makes a request ready.
    pub(in crate::jobs) fn ready(&self, request: &LoadRequest, number: usize) -> Result<Ready, EngineError> {
        let asked = AskedLengths { prompt: request.prompt_tokens, output: request.exact.then_some(request.max_tokens) };
        match self {
            Self::Endpoints { options, model, refused, .. } => {
                let prompt = options.prompt_form(&request.prompt)?;
                let body = GenerationRequest {
                    exact_length: request.exact,
                    stop: request.stops.to_vec(),
                    extra: options.extra.clone(),
                    stream: options.stream,
                    ..GenerationRequest::greedy(prompt, request.max_tokens)
                };
                Ok(Ready::Body(Bytes::from(body.body(model, refused).to_string()), asked, body.api()))
            }
            Self::Engine(_) => {
                let options = GenerateOptions {
                    max_tokens: request.max_tokens,
                    ignore_eos: request.exact,
                    stop_strings: Arc::clone(&request.stops),
                    thoughts: Arc::clone(&request.thoughts),
                    stream: true,
                    ..GenerateOptions::default()
                };
                let prompt = Arc::clone(&request.prompt);
                Ok(Ready::Request(Box::new(Request { id: number, prompt, work: Work::Generate(options) }), asked))
            }
        }
    }

    /// Sends a request and waits for all of its answer. A failure is a result: nothing is sent again.
    pub(in crate::jobs) async fn send(&self, ready: Ready) -> Measured {
        match (self, ready) {
            (Self::Endpoints { places, options, .. }, Ready::Body(body, asked, api)) => {
                let place = places.iter().min_by_key(|place| place.in_flight.load(Ordering::Relaxed));
                let Some(place) = place else { return Measured::default() };
                place.in_flight.fetch_add(1, Ordering::Relaxed);
                let sent = Instant::now();
                let answer = place.client.generate(api, body, options.stream).await;
                place.in_flight.fetch_sub(1, Ordering::Relaxed);
                match answer {
                    Ok(reply) => answered(reply, asked, options.tokenizer.as_deref()),
                    Err(error) => failed(&error.cause.to_string(), &error.to_string(), sent),
                }
            }
            (Self::Engine(handle), Ready::Request(request, asked)) => {
                let handle = handle.clone();
                let sent = Instant::now();
                let run = tokio::task::spawn_blocking(move || run_on_engine(&handle, *request, asked));
                run.await.unwrap_or_else(|error| failed("engine", &error.to_string(), sent))
            }
            _ => Measured::default(), // what is ready was made by this very target
        }
    }

    /// Learns what a server refuses, from requests that are not counted, or why it cannot be asked at all. `text` is the same request
    /// without token ids, which not every server takes.
    pub(in crate::jobs) fn settle(
        &mut self,
        request: &LoadRequest,
        text: Option<&LoadRequest>,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Settled, JobError> {
        let mut settled = Settled::default();
        let mut refused_ids = None;
        loop {
            let asked = text.filter(|_| settled.as_text).unwrap_or(request);
            let Ready::Body(body, lengths, api) = self.ready(asked, 0)? else { return Ok(settled) };
            let Self::Endpoints { places, options, refused, .. } = self else { return Ok(settled) };
            let Some(place) = places.first() else { return Ok(settled) };
            let error = match runtime.block_on(place.client.generate(api, body.clone(), options.stream)) {
                Ok(reply) => {
                    settled.answer = Some(answered(reply, lengths, options.tokenizer.as_deref()).record);
                    return Ok(settled);
                }
                Err(error) => error,
            };
            let value = serde_json::from_slice(&body).unwrap_or_default();
            match refused.learn_from(&error, &value) {
                Some(note) => settled.notes.push(note),
                None if text.is_some() && !settled.as_text && may_be_the_ids(&error) => {
                    settled.as_text = true;
                    settled.notes.push(format!("the server takes no token ids ({error}): prompts are sent as text"));
                    refused_ids = Some(error);
                }
                // What it says of the ids is what it minds, where text is refused too.
                None => return Err(first_failure(place.client.address(), refused_ids.as_ref().unwrap_or(&error))),
            }
        }
    }
}

/// Whether a refusal may be one of token ids; some servers fail at them without a word.
fn may_be_the_ids(error: &RequestError) -> bool {
    matches!(error.cause, Cause::Status(400 | 415 | 422 | 500 | 501))
}

fn first_failure(address: &crate::openai::Address, error: &RequestError) -> JobError {
    EngineError::failed(
        format!("the first request to {address} failed, before anything was measured: {error}"),
        "look at the server's log; `evalsuite probe` tells what an endpoint takes",
    )
    .into()
}

fn answered(reply: Reply, asked: AskedLengths, tokenizer: Option<&ModelTokenizer>) -> Measured {
    let counts = reply.counts(tokenizer);
    let record = RequestRecord {
        ttft_seconds: reply.first_token_seconds,
        latency_seconds: Some(reply.seconds),
        prompt_tokens: counts.prompt_tokens,
        output_tokens: counts.output_tokens,
        asked_tokens: asked.output,
        asked_prompt_tokens: asked.prompt,
        resent: reply.resent,
        ..RequestRecord::default()
    };
    let gaps = reply.chunks.windows(2).map(|pair| (pair[1].seconds - pair[0].seconds) as f32).collect();
    Measured {
        record,
        gaps,
        answer: Some(Answered { text: reply.text, finish: reply.finish.unwrap_or(Finish::Unknown) }),
    }
}

fn failed(cause: &str, message: &str, sent: Instant) -> Measured {
    let record = RequestRecord {
        error: Some(message.to_owned()),
        cause: Some(cause.to_owned()),
        failed_after_seconds: Some(sent.elapsed().as_secs_f64()),
        ..RequestRecord::default()
    };
    Measured { record, gaps: Vec::new(), answer: None }
}

fn run_on_engine(handle: &EngineHandle, request: Request, asked: AskedLengths) -> Measured {
    let sent = Instant::now();
    let prompt_tokens = request.prompt.token_ids.len();
    let error = |error: &EngineError| {
        let message = error.to_string();
        failed("engine", message.split("\nhint: ").next().unwrap_or_default(), sent)
    };
    let stream = match handle.submit(request) {
        Ok(stream) => stream,
        Err(refused) => return error(&refused),
    };
    let (mut first, mut last, mut gaps) = (None, 0.0, Vec::new());
    for update in stream {
        match update {
            Update::Token(token) => {
                if first.is_some() {
                    gaps.push((token.seconds - last) as f32);
                }
                first.get_or_insert(token.seconds);
                last = token.seconds;
            }
            Update::Completed(completion) => {
                let record = RequestRecord {
                    ttft_seconds: first,
                    latency_seconds: Some(last),
                    prompt_tokens: Some(prompt_tokens),
                    output_tokens: Some(completion.token_ids.len()),
                    asked_tokens: asked.output,
                    asked_prompt_tokens: asked.prompt,
                    ..RequestRecord::default()
                };
                let answer = Answered { text: completion.text, finish: completion.finish };
                return Measured { record, gaps, answer: Some(answer) };
            }
            Update::Failed(failure) => return error(&failure),
        }
    }
    failed("engine", "the engine ended without an answer", sent)
}
