//! What goes to stdout: in which format, by which template, and what happens where it finds no room.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::printer::{note, print, say};
use crate::fault::Fault;
use crate::files::read_text;
use crate::jobs::JobError;
use crate::record::RecordError;
use crate::report::{Format, ReportError, check_template};
use crate::shown::outgoing;

/// How a table is printed.
#[derive(Debug, Clone, Args)]
pub struct OutputArguments {
    /// `terminal`, `markdown`, `json`, or `html` (of quality runs and benchmarks)
    #[arg(long, default_value = "terminal", help_heading = "Results")]
    pub format: String,
    /// A tera template of your own instead
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub template: Option<PathBuf>,
}

impl OutputArguments {
    /// The format of a command that has tables and no page, with the user's template read; said before hours are spent.
    pub(super) fn table_format(&self, colour: bool) -> Result<Format, JobError> {
        let format = self.format(colour)?;
        if format != Format::Html {
            return Ok(format);
        }
        Err(JobError::invalid(
            "`--format html` is for quality, bench, load and report",
            "`evalsuite report RUN --format html` makes a page of a finished gsm8k run; choose another format here",
        ))
    }

    /// The format, with the user's template read.
    pub(super) fn format(&self, colour: bool) -> Result<Format, JobError> {
        let format = Format::parse(&self.format, colour)?;
        let Some(path) = &self.template else { return Ok(format) };
        let template = read_text(path).map_err(|error| {
            ReportError::new(
                format!("cannot read the template {}: {error}", path.display()),
                "`--template` takes a tera template; templates/eval.md is one to start from",
            )
        })?;
        let name = path.display().to_string();
        check_template(&name, &template)?;
        Ok(Format::Custom { name, template })
    }
}

/// How a command prints what is no table of a run.
#[derive(Debug, Clone, Args)]
pub struct DataArguments {
    /// `terminal`, or `json` for programs
    #[arg(long, default_value = "terminal")]
    pub format: String,
}

impl DataArguments {
    /// Whether a program reads it.
    pub(super) fn is_json(&self) -> Result<bool, JobError> {
        match self.format.as_str() {
            "terminal" => Ok(false),
            "json" => Ok(true),
            other => Err(Fault::unknown("format", other, &["terminal", "json"]).into()),
        }
    }
}

/// The version of what [`print_json`] prints; raised when a key changes its meaning.
const DATA_FORMAT: u32 = 1;

/// Prints an object as JSON, with `kind` and `format` before its own keys.
pub(super) fn print_json(kind: &'static str, data: &impl Serialize) -> Result<(), JobError> {
    #[derive(Serialize)]
    struct Document<'a, T> {
        kind: &'static str,
        format: u32,
        #[serde(flatten)]
        data: &'a T,
    }
    let text = serde_json::to_string_pretty(&Document { kind, format: DATA_FORMAT, data });
    let text = text.map_err(|error| {
        JobError::invalid(format!("cannot write {kind} as JSON: {error}"), "this is a fault of evalsuite")
    })?;
    print_data(&text)
}

/// Colours where a person looks, unless they said no (<https://no-color.org>).
pub(super) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints data on stdout: text and colours, and nothing else that a terminal or a CI system would obey.
pub(super) fn print_data(text: &str) -> Result<(), JobError> {
    print_bytes(&outgoing(text, colour()))
}

/// Prints what is as it should be: it went through [`crate::shown`], or the user wants it as it is.
pub(super) fn print_bytes(text: &str) -> Result<(), JobError> {
    print(text).map_err(|error| {
        JobError::invalid(format!("cannot write to stdout: {error}"), "is the disk full that it is redirected to?")
    })
}

/// Prints a table and writes the record that it shows: where one of the two finds no room, the other keeps the figures. What an
/// interruption left incomplete replaces no file.
pub(super) fn print_and_keep(
    report: &str,
    out: Option<&Path>,
    interrupted: bool,
    write: impl FnOnce(&Path) -> Result<(), RecordError>,
) -> Result<(), JobError> {
    let printed = print_data(report);
    match out {
        Some(path) if interrupted && path.is_file() => {
            say(&format!("results: none written, for {} is there and this is incomplete", path.display()));
        }
        Some(path) => {
            write(path)?;
            note(&format!("results: {}", path.display()));
        }
        None => {}
    }
    printed
}
