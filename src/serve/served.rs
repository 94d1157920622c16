//! The models that are served, and what each needs beside its engine.

use std::sync::Arc;

use axum::http::StatusCode;

use super::fault::ApiError;
use super::metrics::ModelMetrics;
use crate::engine::model::ModelTokenizer;
use crate::engine::{Batching, EngineHandle, ThoughtMarks};
use crate::task::ChatTemplate;

/// A model in one precision, ready for requests.
#[derive(Debug)]
pub(super) struct Served {
    /// Its name in the API.
    pub(super) id: String,
    /// Where its files are.
    pub(super) source: String,
    pub(super) handle: EngineHandle,
    pub(super) tokenizer: Arc<ModelTokenizer>,
    /// `None`: it has none, and takes no messages.
    pub(super) template: Option<ChatTemplate>,
    pub(super) thoughts: Arc<ThoughtMarks>,
    pub(super) batching: Batching,
    /// Says which weights, precision and engine answered, so that a change can be seen.
    pub(super) fingerprint: String,
    pub(super) metrics: ModelMetrics,
    /// When it was ready, in seconds since 1970.
    pub(super) created: u64,
    /// Tokens that its whole KV cache holds, where that has a fixed size.
    pub(super) cache_tokens: Option<usize>,
}

impl Served {
    /// Prompt and output together.
    pub(super) fn context_tokens(&self) -> usize {
        self.handle.info().context_tokens
    }

    /// Refuses ids that the model has no token for.
    pub(super) fn check_ids(&self, field: &str, ids: &[u32]) -> Result<(), ApiError> {
        let vocabulary = self.handle.limits().vocabulary;
        match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => {
                Err(ApiError::field(field, format!("holds the token {id}, and the vocabulary ends at {vocabulary}")))
            }
            None => Ok(()),
        }
    }
}

/// All of them, the first of which is meant where nobody names one.
#[derive(Debug)]
pub(super) struct Models(pub(super) Vec<Arc<Served>>);

impl Models {
    /// The one of this name, which may be that of its files.
    pub(super) fn get(&self, name: Option<&str>) -> Result<&Arc<Served>, ApiError> {
        let Some(name) = name else { return Ok(&self.0[0]) };
        let named = self.0.iter().find(|served| served.id == name);
        named.or_else(|| self.0.iter().find(|served| served.source == name)).ok_or_else(|| {
            let known = self.0.iter().map(|served| served.id.as_str()).collect::<Vec<_>>().join(", ");
            let shown: String = name.chars().take(100).collect();
            ApiError {
                param: Some("model".to_owned()),
                ..ApiError::new(StatusCode::NOT_FOUND, format!("there is no model {shown:?} here: there is {known}"))
            }
            .coded("model_not_found")
        })
    }
}
