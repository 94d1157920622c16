//! The formats there are.

use crate::text::unknown;

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
            other => {
                let (what, hint) = unknown("format", other, &Self::NAMES);
                Err(ReportError { what, hint })
            }
        }
    }
}

/// A report that cannot be made, with the way out behind `hint:`.
#[derive(Debug, thiserror::Error)]
#[error("{what}\nhint: {hint}")]
pub struct ReportError {
    /// What failed, in which template.
    pub what: String,
    /// The way out.
    pub hint: String,
}

impl ReportError {
    /// What cannot happen with data that this program made itself.
    pub(crate) fn fault(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self { what: format!("cannot make {what}: {error}"), hint: "this is a fault of evalsuite".to_owned() }
    }
}
