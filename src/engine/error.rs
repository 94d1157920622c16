//! What can go wrong between a model's files and its tokens.

use std::path::PathBuf;

/// An engine's or a model's failure, with the way out behind `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A file of the model could not be read.
    #[error("cannot read {path}: {source}\nhint: {hint}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
        /// The way out.
        hint: String,
    },
    /// What was found is not what a model needs. The commonest variant: the user's files are at fault.
    #[error("{what}\nhint: {hint}")]
    Invalid {
        /// What is wrong, on which value.
        what: String,
        /// The way out.
        hint: String,
    },
    /// The hub could not give what was asked of it.
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
    /// The engine has no room for another request now.
    #[error("{what}\nhint: {hint}")]
    Busy {
        /// What is full.
        what: String,
        /// The way out.
        hint: String,
    },
    /// The engine itself failed: not the user's mistake.
    #[error("{what}\nhint: {hint}")]
    Failed {
        /// What failed.
        what: String,
        /// The way out.
        hint: String,
    },
}

impl EngineError {
    /// The user's files or flags are at fault.
    pub fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), hint: hint.into() }
    }

    /// Too much was asked for at once.
    pub fn busy(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Busy { what: what.into(), hint: hint.into() }
    }

    /// The same words again, for another one who waits for the same.
    #[must_use]
    pub fn repeated(&self) -> Self {
        let text = self.to_string();
        let (what, hint) = text.split_once("\nhint: ").unwrap_or((&text, "run the command again"));
        match self {
            Self::Failed { .. } => Self::failed(what, hint),
            Self::Busy { .. } => Self::busy(what, hint),
            _ => Self::invalid(what, hint),
        }
    }

    /// The engine is at fault.
    pub fn failed(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), hint: hint.into() }
    }
}

impl From<candle_core::Error> for EngineError {
    fn from(error: candle_core::Error) -> Self {
        Self::failed(
            format!("candle: {error}"),
            "run with `--engine cpu`, which computes the same without candle's operators",
        )
    }
}
