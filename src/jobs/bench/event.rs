//! What a benchmark tells while it runs. Who shows it, and how, is not its business.

use super::{BenchPart, LoadRun};
use crate::engine::{Dtype, EngineInfo};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum BenchEvent {
    /// Something that the user should know and need not act on.
    Note(String),
    /// An engine begins to load.
    Loading {
        /// In which precision.
        dtype: Dtype,
        /// The how-manieth time, from 1.
        repetition: usize,
        /// How many times in all.
        repetitions: usize,
    },
    /// An engine gave its first token.
    Loaded(EngineInfo, LoadRun),
    /// A part is under way.
    Progress(BenchProgress),
    /// A part of a precision is done, or was broken off.
    Ended,
    /// A precision could not be finished; the others go on.
    Failed {
        /// Which.
        dtype: Dtype,
        /// What failed, and the hint.
        message: String,
    },
}

/// How far one part of one precision is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BenchProgress {
    /// Which precision.
    pub dtype: Dtype,
    /// Which part.
    pub part: BenchPart,
    /// Requests completed.
    pub completed: usize,
    /// All requests of the part.
    pub requests: usize,
    /// Requests that the engine works on.
    pub running: usize,
    /// Bytes that their keys and values take or may still take, where the engine knows.
    pub cache_bytes: Option<u64>,
    /// Tokens generated.
    pub output_tokens: u64,
    /// Tokens that will have been generated.
    pub expected_tokens: u64,
    /// Seconds since the first request.
    pub seconds: f64,
}

impl BenchProgress {
    /// Requests that wait for their turn.
    pub const fn waiting(&self) -> usize {
        self.requests.saturating_sub(self.completed + self.running)
    }

    /// Output tokens a second so far.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.seconds > 0.0 && self.output_tokens > 0).then(|| self.output_tokens as f64 / self.seconds)
    }

    /// Seconds to go, if the rest goes as what is done.
    pub fn remaining_seconds(&self) -> Option<f64> {
        let left = self.expected_tokens.saturating_sub(self.output_tokens) as f64;
        self.tokens_per_second().map(|speed| left / speed)
    }
}
