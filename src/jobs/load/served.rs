//! Whatever answers: endpoints, or an engine of ours on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;

use super::RequestRecord;
use super::prompts::LoadRequest;
use crate::engine::model::ModelTokenizer;
use crate::engine::{EngineError, EngineHandle, GenerateOptions, Request, Update, Work};
use crate::jobs::JobError;
use crate::openai::{Client, EndpointOptions, GenerationRequest, Refused, Reply, RequestError};

/// Whatever answers.
#[derive(Debug)]
pub(super) enum Served {
    /// Servers of one model; each request goes to the one with the fewest in flight.
    Endpoints { places: Vec<Place>, options: Box<EndpointOptions>, model: String, refused: Refused },
    /// An engine of ours.
    Engine(EngineHandle),
}

/// One server.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) client: Client,
    in_flight: AtomicUsize,
}

/// A request that is ready to be sent: nothing is left to be done once its moment has come.
#[derive(Debug)]
pub(super) enum Ready {
    Body(Bytes, Option<usize>, crate::openai::Api),
    Request(Box<Request>, Option<usize>),
}

/// What came of a request, and the gaps between its chunks in seconds.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) record: RequestRecord,
    pub(super) gaps: Vec<f32>,
}

impl Place {
    pub(super) fn new(client: Client) -> Self {
        Self { client, in_flight: AtomicUsize::new(0) }
    }
}

impl Served {
    /// Makes a request ready.
    pub(super) fn ready(&self, request: &LoadRequest, number: usize) -> Result<Ready, EngineError> {
        let asked = request.exact.then_some(request.max_tokens);
        match self {
            Self::Endpoints { options, model, refused, .. } => {
                let prompt = options.prompt_form(&request.prompt)?;
                let body = GenerationRequest {
                    exact_length: request.exact,
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
                    stream: true,
                    ..GenerateOptions::default()
                };
                let prompt = Arc::clone(&request.prompt);
                Ok(Ready::Request(Box::new(Request { id: number, prompt, work: Work::Generate(options) }), asked))
            }
        }
    }

    /// Sends a request and waits for all of its answer. A failure is a result: nothing is sent again.
    pub(super) async fn send(&self, ready: Ready) -> Measured {
        match (self, ready) {
            (Self::Endpoints { places, options, .. }, Ready::Body(body, asked, api)) => {
                let place = places.iter().min_by_key(|place| place.in_flight.load(Ordering::Relaxed));
                let Some(place) = place else { return Measured::default() };
                place.in_flight.fetch_add(1, Ordering::Relaxed);
                let sent = Instant::now();
                let answer = place.client.generate(api, body, options.stream).await;
                place.in_flight.fetch_sub(1, Ordering::Relaxed);
                match answer {
                    Ok(reply) => answered(&reply, asked, options.tokenizer.as_deref()),
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

    /// Learns what a server refuses, from requests that are not counted: the note of it, or why it cannot be asked at all.
    pub(super) fn settle(
        &mut self,
        request: &LoadRequest,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Vec<String>, JobError> {
        let mut notes = Vec::new();
        loop {
            let Ready::Body(body, _, api) = self.ready(request, 0)? else { return Ok(notes) };
            let Self::Endpoints { places, options, refused, .. } = self else { return Ok(notes) };
            let Some(place) = places.first() else { return Ok(notes) };
            let answer = runtime.block_on(place.client.generate(api, body.clone(), options.stream));
            let Err(error) = answer else { return Ok(notes) };
            let value = serde_json::from_slice(&body).unwrap_or_default();
            match refused.learn_from(&error, &value) {
                Some(note) => notes.push(note),
                None => return Err(first_failure(place.client.address(), &error)),
            }
        }
    }
}

fn first_failure(address: &crate::openai::Address, error: &RequestError) -> JobError {
    EngineError::failed(
        format!("the first request to {address} failed, before anything was measured: {error}"),
        "look at the server's log; `evalsuite probe` tells what an endpoint takes",
    )
    .into()
}

fn answered(reply: &Reply, asked_tokens: Option<usize>, tokenizer: Option<&ModelTokenizer>) -> Measured {
    let counts = reply.counts(tokenizer);
    let record = RequestRecord {
        ttft_seconds: reply.first_token_seconds,
        latency_seconds: Some(reply.seconds),
        prompt_tokens: counts.prompt_tokens,
        output_tokens: counts.output_tokens,
        asked_tokens,
        resent: reply.resent,
        ..RequestRecord::default()
    };
    let gaps = reply.chunks.windows(2).map(|pair| (pair[1].seconds - pair[0].seconds) as f32).collect();
    Measured { record, gaps }
}

fn failed(cause: &str, message: &str, sent: Instant) -> Measured {
    let record = RequestRecord {
        error: Some(message.to_owned()),
        cause: Some(cause.to_owned()),
        failed_after_seconds: Some(sent.elapsed().as_secs_f64()),
        ..RequestRecord::default()
    };
    Measured { record, gaps: Vec::new() }
}

fn run_on_engine(handle: &EngineHandle, request: Request, asked_tokens: Option<usize>) -> Measured {
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
                    asked_tokens,
                    ..RequestRecord::default()
                };
                return Measured { record, gaps };
            }
            Update::Failed(failure) => return error(&failure),
        }
    }
    failed("engine", "the engine ended without an answer", sent)
}
