//! The formats there are.

use crate::text::unknown;

/// How a record is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// `templates/table.txt`: fits 80 columns.
    Terminal {
        /// With ANSI colours.
        colour: bool,
    },
    /// `templates/table.md`.
    Markdown,
    /// `templates/table.json`.
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

/// How a comparison of runs is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// `templates/report.txt`.
    Terminal {
        /// With ANSI colours.
        colour: bool,
    },
    /// `templates/report.md`.
    Markdown,
    /// `templates/report.html`: one file, with every sample.
    Html,
    /// One line a sample and precision.
    Csv,
    /// The comparison's numbers.
    Json,
    /// `JUnit` XML.
    Junit,
    /// Annotations for GitHub Actions.
    Github,
}

impl ReportFormat {
    /// Names on the command line.
    pub const NAMES: [&str; 7] = ["terminal", "markdown", "html", "csv", "json", "junit", "github"];

    /// By name; `colour` is for the terminal's.
    pub fn parse(name: &str, colour: bool) -> Result<Self, ReportError> {
        match name {
            "terminal" => Ok(Self::Terminal { colour }),
            "markdown" => Ok(Self::Markdown),
            "html" => Ok(Self::Html),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "junit" => Ok(Self::Junit),
            "github" => Ok(Self::Github),
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
    pub(super) fn fault(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self { what: format!("cannot make {what}: {error}"), hint: "this is a fault of evalsuite".to_owned() }
    }
}
