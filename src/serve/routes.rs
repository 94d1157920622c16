//! The routes, and what every request passes first: the key, the size of its body, its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::{self, Next};
use axum::routing::{any, get, post};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::answer::Head;
use super::fault::ApiError;
use super::fields::Told;
use super::metrics::{CONTENT_TYPE, Metrics};
use super::served::{Models, Served};
use super::work::Ready;
use super::{request, stream, tokens, whole};
use crate::openai::Api;

/// A body comes within this time, or the request is refused.
const BODY_SECONDS: Duration = Duration::from_mins(1);
/// Bytes of a body that is too large which are read on.
const MOST_DROPPED: usize = 64 << 20;
/// Bodies above this are read by a thread that may take its time: tokenizers do.
const LARGE_BODY: usize = 16 << 10;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) models: Models,
    pub(super) metrics: Metrics,
    pub(super) keys: Vec<String>,
    pub(super) max_body_bytes: usize,
    /// No request begins any more.
    pub(super) closing: AtomicBool,
    /// Names of unknown keys that users have been told of.
    pub(super) told: Told,
    pub(super) note: fn(&str),
    /// Of the next answer.
    pub(super) next: AtomicU64,
}

type Reply = Result<Response<Body>, ApiError>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let open = Router::new().route("/health", get(health)).route("/ping", get(health));
    let own = Router::new()
        .route("/v1/completions", post(completions))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/tokenizer_info", get(tokenizer_info))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), check_key));
    open.merge(own).fallback(any(no_route)).method_not_allowed_fallback(wrong_method).with_state(shared)
}

/// Answers by the error where there is one.
fn reply(reply: Reply) -> Response<Body> {
    reply.unwrap_or_else(|error| error.response())
}

/// Every key is compared whole, so that the time tells nothing of how much of one was right.
async fn check_key(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response<Body> {
    if shared.keys.is_empty() || has_key(request.headers(), &shared.keys) {
        return next.run(request).await;
    }
    let error =
        ApiError::new(StatusCode::UNAUTHORIZED, "the key is missing or wrong: send `Authorization: Bearer KEY`");
    error.coded("invalid_api_key").response()
}

fn has_key(headers: &HeaderMap, keys: &[String]) -> bool {
    let sent = headers.get(header::AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
    let sent = if sent.len() > 7 && sent[..7].eq_ignore_ascii_case(b"bearer ") { &sent[7..] } else { &[] };
    keys.iter().fold(false, |found, key| found | bool::from(key.as_bytes().ct_eq(sent)))
}

async fn completions(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    reply(complete(shared, Api::Completions, request).await)
}

async fn chat(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    reply(complete(shared, Api::Chat, request).await)
}

async fn complete(shared: Arc<Shared>, api: Api, request: Request) -> Reply {
    if shared.closing.load(Ordering::Relaxed) {
        return Err(ApiError::closing());
    }
    let request_id = request.headers().get("x-request-id").cloned();
    let body = body(&shared, request).await?;
    let prepare = {
        let shared = Arc::clone(&shared);
        let is_large = body.len() > LARGE_BODY;
        let prepare = move || prepare(&shared, api, &body);
        if is_large { blocking(prepare).await? } else { prepare()? }
    };
    let (ready, head) = prepare;
    let batching = ready.served.batching;
    let (kind, body) = if ready.asked.stream {
        ("text/event-stream; charset=utf-8", stream::answer(ready, head).await?)
    } else {
        ("application/json", Body::from(whole::answer(&ready, &head).await?))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert("x-evalsuite-batching", HeaderValue::from_static(batching.name()));
    if kind.starts_with("text/event-stream") {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // nginx gathers what it passes on, unless it is told not to.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    if let Some(id) = request_id {
        headers.insert("x-request-id", id);
    }
    Ok(response)
}

/// Reads, checks and tokenizes a request.
fn prepare(shared: &Shared, api: Api, body: &[u8]) -> Result<(Ready, Head), ApiError> {
    let (asked, unknown) = request::read(api, body)?;
    for key in unknown.iter().filter(|key| shared.told.is_new(key)) {
        (shared.note)(&format!("note: requests have a key that is not known here and changes nothing: {key:?}"));
    }
    let served = Arc::clone(shared.models.get(asked.model.as_deref())?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    let prefix = if api == Api::Chat { "chatcmpl" } else { "cmpl" };
    let head = Head {
        api,
        id: format!("{prefix}-{:x}{number:06x}", now.as_micros()),
        created: now.as_secs(),
        model: served.id.clone(),
        fingerprint: served.fingerprint.clone(),
    };
    Ok((Ready::new(served, asked)?, head))
}

/// Work that may take long, on a thread that others do not wait for.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be read");
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

/// The whole body. What is too large is read on and dropped for a while, for a client that is cut off while it writes never sees why.
async fn body(shared: &Shared, request: Request) -> Result<Vec<u8>, ApiError> {
    let most = shared.max_body_bytes;
    let (mut body, mut bytes, mut dropped) = (request.into_body(), Vec::new(), 0);
    let read = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            if dropped == 0 && bytes.len() + data.len() <= most {
                bytes.extend_from_slice(&data);
            } else {
                dropped += data.len();
            }
            if dropped > MOST_DROPPED {
                break;
            }
        }
        Ok::<(), ApiError>(())
    };
    let read = tokio::time::timeout(BODY_SECONDS, read).await;
    if dropped > 0 {
        let what = format!("the body is larger than {most} bytes");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, what).coded("body_too_large"));
    }
    read.map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come within 60 s"))??;
    Ok(bytes)
}

async fn health(State(shared): State<Arc<Shared>>) -> Response<Body> {
    if shared.closing.load(Ordering::Relaxed) { ApiError::closing().response() } else { Response::new(Body::empty()) }
}

async fn models(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let all: Vec<Value> = shared.models.0.iter().map(|served| in_list(served)).collect();
    json_response(&json!({"object": "list", "data": all}))
}

async fn model(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let name = request.uri().path().trim_start_matches("/v1/models/");
    reply(shared.models.get(Some(name)).map(|served| json_response(&in_list(served))))
}

fn in_list(served: &Served) -> Value {
    let info = served.handle.info();
    json!({
        "id": served.id, "object": "model", "created": served.created, "owned_by": "evalsuite", "root": served.source,
        "max_model_len": served.context_tokens(), "dtype": info.dtype, "batching": served.batching.name(),
        "engine": format!("{} {}", info.name, info.version), "device": info.device,
    })
}

async fn tokenize(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    reply(of_body(shared, request, |shared, body| tokens::tokenize(&shared.models, body)).await)
}

async fn detokenize(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    reply(of_body(shared, request, |shared, body| tokens::detokenize(&shared.models, body)).await)
}

async fn of_body(
    shared: Arc<Shared>,
    request: Request,
    answer: impl FnOnce(&Shared, &[u8]) -> Result<Value, ApiError> + Send + 'static,
) -> Reply {
    let body = body(&shared, request).await?;
    Ok(json_response(&blocking(move || answer(&shared, &body)).await?))
}

async fn tokenizer_info(State(shared): State<Arc<Shared>>) -> Response<Body> {
    json_response(&tokens::tokenizer_info(&shared.models.0[0]))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response<Body> {
    for served in &shared.models.0 {
        served.metrics.set(&served.handle.capacity(), served.cache_tokens);
    }
    let mut response = Response::new(Body::from(shared.metrics.text()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

async fn version() -> Response<Body> {
    json_response(&json!({"version": env!("CARGO_PKG_VERSION"), "server": "evalsuite"}))
}

async fn no_route(request: Request) -> Response<Body> {
    let path: String = request.uri().path().chars().take(100).collect();
    ApiError::new(StatusCode::NOT_FOUND, format!("there is no {path} here: `/v1/chat/completions` is one that is"))
        .response()
}

async fn wrong_method(method: Method) -> Response<Body> {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not taken here")).response()
}

fn json_response(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
