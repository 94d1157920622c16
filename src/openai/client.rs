//! One endpoint's client.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use serde_json::Value;
use sse_stream::SseByteStream;

use super::address::Address;
use super::failure::{Cause, RequestError};
use super::reply::Reply;
use super::request::Api;
use crate::fault::Fault;

/// How an endpoint is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// Sent as `Authorization: Bearer …`.
    pub api_key: Option<ApiKey>,
    /// For a connection.
    pub connect_timeout: Duration,
    /// For a whole answer.
    pub timeout: Duration,
    /// Between two reads of an answer: a server that is silent for longer is taken for dead.
    pub silence: Duration,
    /// Whether answers may come compressed; a load test wants them as they are.
    pub compressed: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            api_key: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_mins(10),
            silence: Duration::from_mins(5),
            compressed: true,
        }
    }
}

/// A key, which no message and no file shows.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(pub String);

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// One endpoint's client; clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    address: Address,
    options: ClientOptions,
}

/// How long the end of a stream may come behind its `[DONE]`.
const AFTER_DONE: Duration = Duration::from_secs(1);

/// Connections that a request is sent on at most, where the server has closed those that were open.
const CONNECTIONS: usize = 4;

/// A connection that was closed before the request came shows that about a round trip later; what ends later was worked on.
const CLOSED_BEFORE: Duration = Duration::from_secs(1);

impl Client {
    /// Opens no connection yet.
    pub fn new(address: Address, options: ClientOptions) -> Result<Self, Fault> {
        // Refused where a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("evalsuite/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .pool_max_idle_per_host(usize::MAX)
            .gzip(options.compressed)
            // A redirect would turn a POST into a GET.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| {
                Fault::new(
                    format!("cannot set up HTTP for {address}: {error}"),
                    "look at HTTP_PROXY, HTTPS_PROXY and NO_PROXY, and at the certificates of this system",
                )
            })?;
        Ok(Self { http, address, options })
    }

    /// Where it asks.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A route's JSON, with the `Server` header beside it.
    pub(super) async fn get(&self, url: reqwest::Url) -> Result<(Value, Option<String>), RequestError> {
        let (body, server) = self.fetch(url, self.options.connect_timeout * 3).await?;
        Ok((json(&body)?, server))
    }

    /// What the server tells of itself in Prometheus's format, beside the API.
    pub async fn metrics(&self) -> Result<String, RequestError> {
        Ok(self.fetch(self.address.beside("/metrics"), self.options.connect_timeout).await?.0)
    }

    async fn fetch(&self, url: reqwest::Url, timeout: Duration) -> Result<(String, Option<String>), RequestError> {
        let request = self.authorized(self.http.get(url)).timeout(timeout);
        let response = checked(request.send().await.map_err(|error| RequestError::network(&error))?).await?;
        let server = response.headers().get("server").and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((response.text().await.map_err(|error| RequestError::network(&error))?, server))
    }

    /// Posts JSON to a route, such as `/completions`, and reads JSON.
    pub async fn post(&self, route: &str, body: &Value) -> Result<Value, RequestError> {
        let (answer, _) = self.send(route, Bytes::from(body.to_string()), false).await?;
        json(&answer.text().await.map_err(|error| RequestError::network(&error))?)
    }

    /// Asks for one completion: `body` is [`super::GenerationRequest::body`] in bytes. Dropping the future ends the connection, and with it
    /// the server's work.
    pub async fn generate(&self, api: Api, body: Bytes, stream: bool) -> Result<Reply, RequestError> {
        let work = self.read_answer(api, body, stream);
        let timeout = self.options.timeout;
        tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
            Err(RequestError::new(Cause::Timeout, format!("no whole answer within {} s", timeout.as_secs())))
        })
    }

    async fn read_answer(&self, api: Api, body: Bytes, stream: bool) -> Result<Reply, RequestError> {
        let sent = Instant::now();
        let (response, resent) = self.send(api.route(), body, stream).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        // Some servers stream nothing, whatever they are asked.
        if !stream || kind.contains("json") || kind.contains("html") {
            let text = response.text().await.map_err(|error| RequestError::network(&error))?;
            let seconds = sent.elapsed().as_secs_f64();
            let mut reply = Reply { resent, ..Reply::default() };
            reply.add(&text, seconds)?;
            return reply.whole(seconds).ended();
        }
        let mut reply = Reply { resent, ..Reply::default() };
        let ended = self.read_stream(response, sent, &mut reply).await;
        // What breaks behind the end of an answer takes nothing from it.
        if reply.finish.is_none() {
            ended?;
        }
        reply.ended()
    }

    async fn read_stream(
        &self,
        response: reqwest::Response,
        sent: Instant,
        reply: &mut Reply,
    ) -> Result<(), RequestError> {
        // A chunk has come when the read that completed it returned, however long its turn to be parsed takes.
        let read_at = AtomicU64::new(0);
        let reads = response.bytes_stream().inspect(|_| {
            read_at.store(sent.elapsed().as_nanos() as u64, Ordering::Relaxed);
        });
        // The last event may lack the blank line that ends it.
        let reads = reads.chain(stream::once(async { Ok(Bytes::from_static(b"\n\n")) }));
        let mut events = SseByteStream::new(Box::pin(reads));
        let mut done = false;
        loop {
            let patience = if done { AFTER_DONE } else { self.options.silence };
            let event = match tokio::time::timeout(patience, events.next()).await {
                Err(_) if done => return Ok(()),
                Err(_) => {
                    let seconds = patience.as_secs();
                    return Err(RequestError::new(Cause::Timeout, format!("the server was silent for {seconds} s")));
                }
                Ok(None) => return Ok(()),
                Ok(Some(event)) => event.map_err(|error| stream_error(&error))?,
            };
            let Some(data) = event.data.filter(|data| !data.trim().is_empty()) else { continue };
            if data.trim() == "[DONE]" {
                done = true;
            } else if !done {
                let seconds = Duration::from_nanos(read_at.load(Ordering::Relaxed)).as_secs_f64();
                reply.add(&data, seconds)?;
            }
        }
    }

    /// The answer, and whether it took a new connection: some servers (llama.cpp) close one behind an answer without saying so, and what is
    /// sent on it meanwhile is read by nobody.
    async fn send(&self, route: &str, body: Bytes, stream: bool) -> Result<(reqwest::Response, bool), RequestError> {
        let accept = if stream { "text/event-stream" } else { "application/json" };
        let ask = || {
            let request = self.http.post(self.address.route(route)).header(CONTENT_TYPE, "application/json");
            self.authorized(request.header(ACCEPT, accept)).body(body.clone()).send()
        };
        let begin = Instant::now();
        let (mut answer, mut asked) = (ask().await, 1);
        while asked < CONNECTIONS && begin.elapsed() < CLOSED_BEFORE && answer.as_ref().is_err_and(is_closed_unread) {
            (answer, asked) = (ask().await, asked + 1);
        }
        let response = checked(answer.map_err(|error| RequestError::network(&error))?).await?;
        Ok((response, asked > 1))
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.options.api_key {
            Some(key) => request.bearer_auth(&key.0),
            None => request,
        }
    }
}

fn json(body: &str) -> Result<Value, RequestError> {
    serde_json::from_str(body).map_err(|_| RequestError::new(Cause::Malformed, format!("no JSON: {body}")))
}

/// Whether the connection ended before any byte of an answer.
fn is_closed_unread(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

/// An answer with status 200; anything else with what it says.
async fn checked(response: reqwest::Response) -> Result<reqwest::Response, RequestError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    let body = response.text().await.unwrap_or_default();
    Err(RequestError::status(status.as_u16(), &body, wait))
}

/// `Retry-After`: seconds, or a date.
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value.trim()).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

fn stream_error(error: &sse_stream::Error) -> RequestError {
    match error {
        sse_stream::Error::Body(inner) => match inner.downcast_ref::<reqwest::Error>() {
            Some(network) => RequestError::network(network),
            None => RequestError::new(Cause::Cut, inner.to_string()),
        },
        other => RequestError::new(Cause::Malformed, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(" 0.5 "), Some(Duration::from_millis(500)));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
        assert!((80..=90).contains(&retry_after(&soon).unwrap().as_secs()));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(["", "-1", "soon", "NaN", "1e300"].into_iter().all(|value| retry_after(value).is_none()));
    }
}
