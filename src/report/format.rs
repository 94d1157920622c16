//! The formats there are.

use crate::fault::Fault;

/// How a record is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// `templates/eval.txt`: fits 80 columns.
    Terminal {
        /// With ANSI colours.
        colour: bool,
    },
    /// `templates/eval.md`.
    Markdown,
    /// `templates/eval.json`.
    Json,
    /// One self-contained page: `templates/quality.html`.
    Html,
    /// The user's own template.
    Custom {
        /// Where it came from, for messages.
        name: String,
        /// Its text.
        template: String,
    },
}

impl Format {
    /// Names on the command line.
    pub const NAMES: [&str; 4] = ["terminal", "markdown", "json", "html"];

    /// By name; `colour` is for the terminal's.
    pub fn parse(name: &str, colour: bool) -> Result<Self, ReportError> {
        match name {
            "terminal" => Ok(Self::Terminal { colour }),
            "markdown" => Ok(Self::Markdown),
            "json" => Ok(Self::Json),
            "html" => Ok(Self::Html),
            other => Err(Fault::unknown("format", other, &Self::NAMES).into()),
        }
    }
}

/// A report that cannot be made: what failed, in which template, and a `hint:`.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ReportError(#[from] Fault);

impl ReportError {
    /// What failed, in which template, and the way out.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(Fault::new(what, hint))
    }

    /// What cannot happen with data that this program made itself.
    pub(crate) fn fault(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self::new(format!("cannot make {what}: {error}"), "this is a fault of evalsuite")
    }
}
