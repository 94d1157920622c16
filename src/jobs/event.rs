//! What a run tells while it runs. Who shows it, and how, is not its business.

use std::path::PathBuf;

use crate::engine::{Dtype, EngineInfo};

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
    Loading(Dtype),
    /// An engine is ready.
    Loaded(EngineInfo),
    /// A step of the batch is done, or a completion ended.
    Progress(Progress),
    /// A window of a text went through one precision's engine.
    Window(WindowProgress),
    /// A precision has all its completions, or was interrupted.
    Ended(Dtype),
    /// A precision could not be finished; the others go on.
    Failed {
        /// Which.
        dtype: Dtype,
        /// What failed, and the hint.
        message: String,
    },
}

/// How far one precision is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Which.
    pub dtype: Dtype,
    /// Completions that the engine has handed out, those of earlier sessions included. The journal follows at once, and
    /// has them all when the precision has [`Event::Ended`].
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
    /// Seconds since this session's first request.
    pub seconds: f64,
}

/// How far the reading of a text is. Every window passes through the engine of every precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowProgress {
    /// Windows that every precision has read.
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

    /// Seconds to go, if the rest goes as what is done; `None` before the first completion.
    pub fn remaining_seconds(&self) -> Option<f64> {
        let left = self.total.saturating_sub(self.completed) as f64;
        (self.completed_now > 0).then(|| self.seconds / self.completed_now as f64 * left)
    }
}
