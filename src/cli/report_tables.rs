//! `evalsuite report` of what has no questions with right answers, or compares nothing by them: quality runs, perplexities, probes, blames,
//! determinism. Each is a table of its own, in the formats that can hold it.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::printer::print_notes;
use super::quality::DIFFS;
use super::report_records::names;
use crate::compare::REPORT_FORMATS;
use crate::fault::Fault;
use crate::jobs::JobError;
use crate::jobs::blame::{BlameRecord, blame_lines, render_blame};
use crate::jobs::determinism::{DeterminismRecord, determinism_lines, render_determinism};
use crate::jobs::endpoint_probe::{EndpointProbeRecord, endpoint_probe_lines, render_endpoint_probe};
use crate::jobs::perplexity::{PerplexityRecord, perplexity_lines, render_perplexity};
use crate::jobs::quality::{QualityRecord, quality_lines, render_quality};
use crate::report::{FigureLine, Format, lines_csv};

/// A record of one of these kinds.
pub(super) enum TableRecord {
    /// With what the user should know of its files.
    Quality(Box<QualityRecord>, Vec<String>),
    Perplexity(Box<PerplexityRecord>),
    Probe(Box<EndpointProbeRecord>),
    Blame(Box<BlameRecord>),
    Determinism(Box<DeterminismRecord>),
}

impl TableRecord {
    /// `None` where the path is of something else.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, JobError> {
        if path.is_dir() {
            if !path.join("record.json").is_file() {
                return Ok(None);
            }
            let Some((record, notes)) = QualityRecord::read_run(path)? else { return Ok(None) };
            return Ok(Some(Self::Quality(Box::new(record), notes)));
        }
        if !path.is_file() {
            return Ok(None);
        }
        if let Some(record) = PerplexityRecord::read(path)? {
            return Ok(Some(Self::Perplexity(Box::new(record))));
        }
        if let Some(record) = BlameRecord::read(path)? {
            return Ok(Some(Self::Blame(Box::new(record))));
        }
        if let Some(record) = EndpointProbeRecord::read(path)? {
            return Ok(Some(Self::Probe(Box::new(record))));
        }
        if let Some(record) = DeterminismRecord::read(path)? {
            return Ok(Some(Self::Determinism(Box::new(record))));
        }
        Ok(QualityRecord::read(path)?.map(|record| Self::Quality(Box::new(record), Vec::new())))
    }

    /// Prints what the user should know of its files.
    fn print_notes(&self) {
        if let Self::Quality(_, notes) = self {
            print_notes(notes);
        }
    }

    /// Its figures, for CSV.
    fn lines(&self) -> Vec<FigureLine> {
        match self {
            Self::Quality(record, _) => quality_lines(record),
            Self::Perplexity(record) => perplexity_lines(record),
            Self::Probe(record) => endpoint_probe_lines(record),
            Self::Blame(record) => blame_lines(record),
            Self::Determinism(record) => determinism_lines(record),
        }
    }

    pub(super) fn render(&self, format: &Format) -> Result<String, JobError> {
        Ok(match self {
            Self::Quality(record, _) => render_quality(record, format, DIFFS)?,
            Self::Perplexity(record) => render_perplexity(record, format, 0)?,
            Self::Probe(record) => render_endpoint_probe(record, format)?,
            Self::Blame(record) => render_blame(record, format)?,
            Self::Determinism(record) => render_determinism(record, format)?,
        })
    }
}

/// The records where all paths are of such; `None` where none is.
pub(super) fn read(paths: &[PathBuf]) -> Result<Option<Vec<TableRecord>>, JobError> {
    let records = paths.par_iter().map(|path| TableRecord::read(path)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = records.iter().position(Option::is_some) else { return Ok(None) };
    if let Some(other) = records.iter().position(Option::is_none) {
        return Err(JobError::invalid(
            format!(
                "{} is a quality run, a perplexity, a probe, a blame or of determinism, {} is not",
                paths[first].display(),
                paths[other].display()
            ),
            "give runs of different kinds to `evalsuite report` apart",
        ));
    }
    for record in records.iter().flatten() {
        record.print_notes();
    }
    Ok(Some(records.into_iter().flatten().collect()))
}

/// One table below the other, or the figures of all; a page and JSON of one alone. The records lie at these paths.
pub(super) fn render(
    records: &[TableRecord],
    paths: &[PathBuf],
    name: &str,
    csv_raw: bool,
    colour: bool,
) -> Result<String, JobError> {
    let has_page = records.iter().all(|record| matches!(record, TableRecord::Quality(..) | TableRecord::Blame(_)));
    let formats: &[&str] = if has_page {
        &["terminal", "markdown", "html", "csv", "json"]
    } else {
        &["terminal", "markdown", "csv", "json"]
    };
    if !formats.contains(&name) {
        return Err(if REPORT_FORMATS.iter().any(|format| format.name() == name) {
            JobError::invalid(
                format!("--format {name} has no room for a quality run, a perplexity, a probe, a blame or determinism"),
                format!("give one of {}", formats.join(", ")),
            )
        } else {
            Fault::unknown("format", name, formats).into()
        });
    }
    if name == "csv" {
        let lines: Vec<_> = names(paths).into_iter().zip(records.iter().map(TableRecord::lines)).collect();
        return Ok(lines_csv(&lines, csv_raw)?);
    }
    let format = Format::parse(name, colour)?;
    if records.len() > 1 && ["html", "json"].contains(&name) {
        return Err(JobError::invalid(
            format!("--format {name} holds one of these at a time, but {} were given", records.len()),
            "give them one by one, or `--format markdown`",
        ));
    }
    let tables = records.iter().map(|record| record.render(&format)).collect::<Result<Vec<_>, _>>()?;
    Ok(tables.join("\n"))
}
