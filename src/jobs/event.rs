//! What a job emits while it runs. Who shows it, and how, is not its business.

use std::path::PathBuf;

use crate::engine::EngineInfo;
use crate::record::VariantName;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Something that the user should know and need not act on.
    Note(String),
    /// The run folder is ready.
    Folder {
        /// Where.
        path: PathBuf,
        /// Completions that it holds already.
        done: usize,
        /// Completions that it shall hold.
        total: usize,
    },
    /// An engine begins to load.
    Loading {
        /// Which variant.
        variant: VariantName,
        /// The how-manieth time, from 1.
        repetition: usize,
        /// How many times in all.
        repetitions: usize,
    },
    /// An engine is ready.
    Loaded {
        /// Which variant.
        variant: VariantName,
        /// Its engine.
        engine: EngineInfo,
        /// Where loading is what is measured: until the first token too.
        first_token: Option<FirstToken>,
    },
    /// How long generation will take, from a variant on.
    Estimate(Estimate),
    /// A step of the batch is done, or a completion ended.
    Progress(Progress),
    /// A window of a text went through one variant's engine.
    Window(WindowProgress),
    /// Texts went through layers of a model whose weights change from one reading to the next.
    Reading(ReadingProgress),
    /// A part of a variant's work is done, or was broken off.
    Ended(VariantName),
    /// A variant could not be finished; the others go on.
    Failed {
        /// Which.
        variant: VariantName,
        /// What failed, and the hint.
        message: String,
    },
}

/// How long loading took, by this program's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FirstToken {
    /// Seconds until the engine was ready.
    pub ready_seconds: f64,
    /// Seconds until the first token of the first request.
    pub first_token_seconds: f64,
}

/// How long a variant and those after it will take, by what its engine did in a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Which.
    pub variant: VariantName,
    /// It and those after it that lack completions.
    pub variants: usize,
    /// What they lack.
    pub completions: usize,
    /// Tokens of a completion if they are as long as something known, and the seconds that follow.
    pub expected: Option<(f64, f64)>,
    /// Whether they are expected to be as long as another variant's; else as the dataset's own answers.
    pub by_variant: bool,
    /// Tokens of a completion at most, and the seconds that follow.
    pub most: (usize, f64),
    /// What was measured.
    pub speed: Speed,
}

/// What an engine does in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Prompt tokens.
    pub prefill: f64,
    /// Output tokens of a full batch.
    pub decode: f64,
}

/// How far one variant is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Which.
    pub variant: VariantName,
    /// Which part of its work, where there are several.
    pub part: Option<&'static str>,
    /// Completions that the engine has emitted, those of earlier sessions included. The journal, where there is one, follows at once, and
    /// has them all when the variant has [`Event::Ended`].
    pub completed: usize,
    /// Completions of this session.
    pub completed_now: usize,
    /// Completions when all is done.
    pub total: usize,
    /// Requests that the engine works on.
    pub running: usize,
    /// Bytes that their keys and values take or may still take, where the engine knows.
    pub cache_bytes: Option<u64>,
    /// Tokens generated in this session.
    pub output_tokens: u64,
    /// Tokens that will have been generated, where every request's length is given.
    pub expected_tokens: Option<u64>,
    /// Seconds since this session's first request.
    pub seconds: f64,
    /// Seconds to go, as far as that can be told.
    pub remaining_seconds: Option<f64>,
}

/// How far the reading of a text is. Every window passes through the engine of every precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowProgress {
    /// Windows that every variant has read.
    pub windows_done: usize,
    /// Windows there are.
    pub windows: usize,
    /// Passes of one window through one engine.
    pub passes_done: usize,
    /// Passes there are.
    pub passes: usize,
    /// Tokens scored by the windows that are done.
    pub scored_tokens: usize,
    /// Seconds since the first window.
    pub seconds: f64,
}

/// How far a search by readings under changing weights is.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadingProgress {
    /// What was done last.
    pub what: String,
    /// Layers that texts went through.
    pub done: usize,
    /// Layers that they will have gone through, as far as that is known.
    pub total: usize,
    /// Seconds since the first reading.
    pub seconds: f64,
}

impl ReadingProgress {
    /// Seconds to go, if the rest goes as what is done; `None` before anything is.
    pub fn remaining_seconds(&self) -> Option<f64> {
        let left = self.total.saturating_sub(self.done) as f64;
        (self.done > 0).then(|| self.seconds / self.done as f64 * left)
    }
}

impl WindowProgress {
    /// Seconds to go, if the rest goes as what is done; `None` before the first pass.
    pub fn remaining_seconds(&self) -> Option<f64> {
        let left = self.passes.saturating_sub(self.passes_done) as f64;
        (self.passes_done > 0).then(|| self.seconds / self.passes_done as f64 * left)
    }
}

impl Progress {
    /// Requests that wait for their turn.
    pub const fn waiting(&self) -> usize {
        self.total.saturating_sub(self.completed + self.running)
    }

    /// Output tokens a second so far.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.seconds > 0.0 && self.output_tokens > 0).then(|| self.output_tokens as f64 / self.seconds)
    }

    /// Whether all is done.
    pub fn is_done(&self) -> bool {
        self.completed >= self.total
    }

    /// How far it is, and of what: in tokens where every length is given, else in completions.
    pub fn share(&self) -> (u64, u64) {
        self.expected_tokens
            .map_or((self.completed as u64, self.total as u64), |expected| (self.output_tokens, expected))
    }
}
