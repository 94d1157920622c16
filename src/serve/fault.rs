//! Errors in the API's shape: `{"error": {"message", "type", "param", "code"}}`.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::engine::EngineError;
use crate::task::TaskError;

/// Seconds after which a client that was told to wait may ask again: about what a place in the queue needs to become free.
const RETRY_SECONDS: u64 = 1;

/// A request that is answered by an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// The field that is at fault.
    pub(super) param: Option<String>,
    pub(super) code: Option<&'static str>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None }
    }

    /// A field that cannot be taken as it is.
    pub(super) fn field(param: impl Into<String>, why: impl std::fmt::Display) -> Self {
        let param = param.into();
        let message = format!("`{param}` {why}");
        Self { param: Some(param), ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    pub(super) fn coded(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The server is about to end.
    pub(super) fn closing() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down").coded("shutting_down")
    }

    const fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "authentication_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::SERVICE_UNAVAILABLE => "service_unavailable_error",
            status if status.as_u16() >= 500 => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// As it stands in a body, or in a stream that has begun.
    pub(super) fn body(&self) -> String {
        let Self { message, param, code, .. } = self;
        json!({"error": {"message": message, "type": self.kind(), "param": param, "code": code}}).to_string()
    }

    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
        }
        response
    }
}

/// A message in one line, its hint behind it.
fn in_one_line(message: &str) -> String {
    message.replace("\nhint: ", "; ")
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let (status, code) = match &error {
            EngineError::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, Some("queue_full")),
            EngineError::Invalid(_) => (StatusCode::BAD_REQUEST, None),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        Self { code, ..Self::new(status, in_one_line(&error.to_string())) }
    }
}

impl From<TaskError> for ApiError {
    /// Of the chat template, which cannot take these messages.
    fn from(error: TaskError) -> Self {
        let message = in_one_line(&error.to_string());
        Self { param: Some("messages".to_owned()), ..Self::new(StatusCode::BAD_REQUEST, message) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_error_says_what_in_which_field_and_when_to_ask_again() {
        let error = ApiError::field("max_tokens", "is no whole number: \"many\"");
        let body: Value = serde_json::from_str(&error.body()).unwrap();
        assert_eq!(body["error"]["param"], "max_tokens");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert_eq!(body["error"]["message"], "`max_tokens` is no whole number: \"many\"");
        assert_eq!(error.response().headers().get(header::RETRY_AFTER), None);
        let busy = ApiError::from(EngineError::busy("the queue is full", "try again"));
        assert_eq!((busy.status.as_u16(), busy.message.as_str()), (429, "the queue is full; try again"));
        assert_eq!(busy.response().headers()[header::RETRY_AFTER], "1");
        let status = |error: EngineError| ApiError::from(error).status.as_u16();
        assert_eq!(status(EngineError::invalid("too long", "shorten it")), 400);
        assert_eq!(status(EngineError::failed("overflow", "another precision")), 500);
    }
}
