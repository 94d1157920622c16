//! Requests of exact lengths that run together, and what came of them.

use std::sync::Arc;

use crate::engine::{Prompt, Timings};
use crate::jobs::{Event, Progress};

/// One request of exact lengths.
pub(super) struct Asked {
    pub(super) prompt: Arc<Prompt>,
    pub(super) prompt_tokens: usize,
    pub(super) output_tokens: usize,
}

/// What came of requests that ran together.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// One a request that was answered; of an engine in the order in which they were given.
    pub(super) times: Vec<Times>,
    /// From submission until the engine returned, or until the last answer's end.
    pub(super) seconds: f64,
    /// Of all answers.
    pub(super) output_tokens: u64,
    /// Requests that were not answered: none of an engine of ours, which fails with the first.
    pub(super) failed: usize,
}

/// A request's own times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Times {
    /// From submission until the first token; `None` where the answer came whole.
    pub(super) first_token_seconds: Option<f64>,
    /// From submission until the last token.
    pub(super) latency_seconds: f64,
    pub(super) output_tokens: usize,
}

impl Times {
    pub(super) fn of(timings: &Timings, output_tokens: usize) -> Self {
        Self {
            first_token_seconds: Some(timings.queued_seconds + timings.first_token_seconds),
            latency_seconds: timings.queued_seconds + timings.total_seconds,
            output_tokens,
        }
    }
}

/// The last word of progress: all is done.
pub(super) fn done(progress: Progress, seconds: f64) -> Event {
    Event::Progress(Progress {
        completed: progress.total,
        completed_now: progress.total,
        running: 0,
        cache_bytes: None,
        output_tokens: progress.expected_tokens.unwrap_or(progress.output_tokens),
        seconds,
        ..progress
    })
}
