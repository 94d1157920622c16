//! Sweeps: requests of one length at once, in growing numbers or lengths.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a sweep varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SweepAxis {
    /// Requests that are submitted at once: few, as a batch.
    Batch,
    /// Tokens of each prompt, and as many of each output.
    Length,
    /// Requests that are submitted at once: as many as a batch holds, and more.
    Requests,
}

/// Output tokens a second by point, of each sweep.
pub type SweepFigures = BTreeMap<SweepAxis, BTreeMap<usize, f64>>;

impl SweepAxis {
    /// Every sweep, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Batch, Self::Length, Self::Requests];

    /// `batch`, `length`, `requests`: in files and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Length => "length",
            Self::Requests => "requests",
        }
    }
}
