//! What a check is, and what comes of one.

use serde::{Deserialize, Serialize};

use super::ask::Asker;
use crate::openai::RequestError;

/// What a check finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As an evaluation needs it.
    Holds,
    /// Scores stay right, but something has to be known.
    Notable,
    /// Scores, or what is compared with them, are not what they seem.
    Harms,
    /// It could not be asked.
    NotAsked,
}

impl Verdict {
    /// In the table.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Notable => "notable",
            Self::Harms => "HARMS",
            Self::NotAsked => "not asked",
        }
    }
}

/// A check: an entry of the list in `checks/mod.rs`.
pub(super) struct Check {
    /// In the table and behind `--only`.
    pub(super) name: &'static str,
    /// The question.
    pub(super) asks: &'static str,
    /// Asks it. What cannot be asked is said in the error.
    pub(super) run: fn(&mut Asker) -> Result<Found, Unasked>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) verdict: Verdict,
    /// What was seen, with its numbers.
    pub(super) seen: String,
    /// What it means for scores, in one line.
    pub(super) means: &'static str,
}

impl Found {
    pub(super) fn holds(seen: impl Into<String>, means: &'static str) -> Self {
        Self { verdict: Verdict::Holds, seen: seen.into(), means }
    }

    pub(super) fn notable(seen: impl Into<String>, means: &'static str) -> Self {
        Self { verdict: Verdict::Notable, seen: seen.into(), means }
    }

    pub(super) fn harms(seen: impl Into<String>, means: &'static str) -> Self {
        Self { verdict: Verdict::Harms, seen: seen.into(), means }
    }
}

/// Why a check could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unasked(pub(super) String);

impl Unasked {
    pub(super) fn because(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl From<RequestError> for Unasked {
    fn from(error: RequestError) -> Self {
        Self(error.to_string())
    }
}
