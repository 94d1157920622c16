//! How a request to a server fails, and what may be done about it.

use std::fmt;
use std::time::Duration;

/// Why a request failed, in a word that failures are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// No connection: refused, unknown host, TLS.
    Connect,
    /// The answer took longer than it may.
    Timeout,
    /// The connection ended before the answer did.
    Cut,
    /// A status other than 200.
    Status(u16),
    /// The server reported an error within a stream that began well.
    InStream,
    /// The answer is not what the API says: no JSON, no choice, another object.
    Malformed,
    /// It ended for a reason that is no end of an answer: `abort`, `content_filter`.
    Ended,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("no connection"),
            Self::Timeout => f.write_str("timeout"),
            Self::Cut => f.write_str("cut off"),
            Self::Status(status) => write!(f, "HTTP {status}"),
            Self::InStream => f.write_str("error in stream"),
            Self::Malformed => f.write_str("malformed answer"),
            Self::Ended => f.write_str("ended early"),
        }
    }
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    /// Why, to be counted by.
    pub cause: Cause,
    /// What the server or the network said.
    pub message: String,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// More of a server's words than this help nobody.
const LONGEST_MESSAGE: usize = 300;

impl RequestError {
    /// A failure; `message` is cut to what can be read.
    pub(super) fn new(cause: Cause, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let mut words = message.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = words.char_indices().nth(LONGEST_MESSAGE) {
            words.truncate(end);
            words.push('…');
        }
        Self { cause, message: words, retry_after: None }
    }

    /// What the network said.
    pub(super) fn network(error: &reqwest::Error) -> Self {
        let cause = if error.is_timeout() {
            Cause::Timeout
        } else if error.is_connect() {
            Cause::Connect
        } else {
            Cause::Cut
        };
        // The innermost error is the one that says what happened.
        let mut inner: &dyn std::error::Error = error;
        while let Some(source) = inner.source() {
            inner = source;
        }
        Self::new(cause, inner.to_string())
    }

    /// A status other than 200, with its body.
    pub(super) fn status(status: u16, body: &str, retry_after: Option<Duration>) -> Self {
        let said = message_in(body).unwrap_or_else(|| shown(body));
        Self { retry_after, ..Self::new(Cause::Status(status), said) }
    }

    /// Whether the server refuses the request as it is, perhaps for one key of it.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.cause, Cause::Status(400 | 422))
    }

    /// Whether every other request would meet it too.
    pub(super) fn meets_every_request(&self) -> bool {
        matches!(self.cause, Cause::Connect | Cause::Status(401 | 403 | 404))
    }

    /// Whether the same request may succeed later.
    pub fn is_passing(&self) -> bool {
        match self.cause {
            Cause::Connect | Cause::Timeout | Cause::Cut | Cause::InStream | Cause::Ended => true,
            Cause::Status(status) => matches!(status, 408 | 409 | 425 | 429 | 500..=599) && status != 501,
            Cause::Malformed => false,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

/// A body in words: a page of HTML by its title.
fn shown(body: &str) -> String {
    let body = body.trim();
    if !body.starts_with('<') {
        return body.to_owned();
    }
    let title =
        body.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).map(|(title, _)| title.trim());
    format!("a page of HTML{}", title.map(|title| format!(" ({title})")).unwrap_or_default())
}

/// The message of an error in any of the shapes that servers have: `{"error": {"message": …}}`, `{"error": "…"}`, `{"message": …}`,
/// `{"detail": …}`; `None` where the body is no JSON or none of them.
pub(super) fn message_in(body: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    error_message(&value)
}

/// The same of JSON that is read already; `None` where it is no error.
pub(super) fn error_message(value: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    let words = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Some(error.get("message").map_or_else(|| words(error), words));
    }
    if value.get("object").and_then(Value::as_str) == Some("error") || value.get("choices").is_none() {
        return value.get("message").or_else(|| value.get("detail")).map(words);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_in_every_shape_that_servers_have() {
        for (body, message) in [
            (r#"{"error":{"message":"too long","type":"x","param":null,"code":400}}"#, "too long"),
            (r#"{"object":"error","message":"too long","type":"x","code":400}"#, "too long"),
            (r#"{"detail":"too long"}"#, "too long"),
            (r#"{"detail":[{"msg":"too long"}]}"#, r#"[{"msg":"too long"}]"#),
            (r#"{"error":"too long","error_type":"validation"}"#, "too long"),
            ("too long", "too long"),
            ("<html><head><title> 502 Bad Gateway </title></head></html>", "a page of HTML (502 Bad Gateway)"),
            ("<!doctype html><p>no", "a page of HTML"),
        ] {
            assert_eq!(RequestError::status(400, body, None).message, message, "{body}");
        }
        assert_eq!(message_in(r#"{"choices":[],"error":null}"#), None);
        let long = RequestError::new(Cause::Malformed, "é".repeat(1000));
        assert_eq!(long.message.chars().count(), LONGEST_MESSAGE + 1);
    }

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let status = |status| RequestError::status(status, "", None).is_passing();
        assert!([408, 429, 500, 502, 503, 504, 529].into_iter().all(status));
        assert!(![400, 401, 403, 404, 413, 422, 501].into_iter().any(status));
        let of = |cause| RequestError::new(cause, "").is_passing();
        assert!([Cause::Connect, Cause::Timeout, Cause::Cut, Cause::InStream, Cause::Ended].into_iter().all(of));
        assert!(!of(Cause::Malformed));
        assert_eq!(RequestError::status(429, "slow", None).to_string(), "HTTP 429: slow");
    }
}
