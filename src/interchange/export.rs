//! Out: a finished run as other tools read results.

use std::path::{Path, PathBuf};

use super::file::{ExportedFile, fault};
use super::rows::rows;
use super::{inspect, lm_eval, parquet};
use crate::fault::Fault;
use crate::files::write_atomically;
use crate::jobs::JobError;
use crate::jobs::eval::StoredRun;

/// What a format is written as, and by what.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Text, for stdout or a file.
    Text(fn(&StoredRun) -> Result<String, JobError>),
    /// One file, whose name ends in the format's.
    File(fn(&StoredRun) -> Result<Vec<u8>, JobError>),
    /// A folder of files.
    Folder(fn(&StoredRun) -> Result<Vec<ExportedFile>, JobError>),
}

/// A format that runs are written in.
#[derive(Debug, Clone, Copy)]
pub struct ExportFormat {
    /// As `--format` takes it.
    pub name: &'static str,
    /// What it is, in a few words.
    pub description: &'static str,
    shape: Shape,
}

/// Every format.
pub const EXPORT_FORMATS: [ExportFormat; 5] = [
    ExportFormat {
        name: "lm-eval",
        description: "a folder a variant, as lm-evaluation-harness writes it",
        shape: Shape::Folder(lm_eval::files),
    },
    ExportFormat {
        name: "inspect",
        description: "a log a variant, as Inspect AI writes it",
        shape: Shape::Folder(inspect::files),
    },
    ExportFormat { name: "jsonl", description: "a JSON object an answer", shape: Shape::Text(lines) },
    ExportFormat { name: "json", description: "the same as one JSON document", shape: Shape::Text(document) },
    ExportFormat { name: "parquet", description: "the same as columns", shape: Shape::File(columns) },
];

/// One export.
#[derive(Debug, Clone)]
pub struct Export<'a> {
    /// The run.
    pub run: &'a StoredRun,
    /// A name of [`EXPORT_FORMATS`].
    pub format: &'a str,
    /// The file or folder; `None` is stdout of a text, else a name made of the run's in the current folder.
    pub output: Option<&'a Path>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exported {
    /// For stdout.
    Text(String),
    /// The files that were written.
    Files(Vec<PathBuf>),
}

impl ExportFormat {
    /// Finds one by its name.
    pub fn parse(name: &str) -> Result<Self, Fault> {
        let found = EXPORT_FORMATS.into_iter().find(|format| format.name == name);
        found.ok_or_else(|| Fault::unknown("format", name, &EXPORT_FORMATS.map(|format| format.name)))
    }
}

/// Writes a run in a format.
pub fn export(export: &Export) -> Result<Exported, JobError> {
    let format = ExportFormat::parse(export.format)?;
    let output = export.output.map(Path::to_path_buf);
    match (format.shape, output) {
        (Shape::Text(write), None) => Ok(Exported::Text(write(export.run)?)),
        (Shape::Text(write), Some(path)) => write_file(path, (write(export.run)? + "\n").as_bytes()),
        (Shape::File(write), path) => {
            let path = path.unwrap_or_else(|| PathBuf::from(format!("{}.{}", run_name(export.run), format.name)));
            write_file(path, &write(export.run)?)
        }
        (Shape::Folder(write), path) => {
            let folder = path.unwrap_or_else(|| PathBuf::from(format!("{}-{}", run_name(export.run), format.name)));
            let files = write(export.run)?;
            let written = files.into_iter().map(|file| {
                let path = folder.join(file.path);
                write_into(&path, &file.bytes)?;
                Ok(path)
            });
            Ok(Exported::Files(written.collect::<Result<_, JobError>>()?))
        }
    }
}

fn lines(run: &StoredRun) -> Result<String, JobError> {
    let rows = rows(run);
    let lines = rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>().map_err(|error| fault(&error))?;
    Ok(lines.join("\n"))
}

fn document(run: &StoredRun) -> Result<String, JobError> {
    let document = serde_json::json!({"kind": "export", "format": 1, "run": run.path, "answers": rows(run)});
    serde_json::to_string_pretty(&document).map_err(|error| fault(&error))
}

fn columns(run: &StoredRun) -> Result<Vec<u8>, JobError> {
    parquet::write(&rows(run), &run.record.rules())
}

/// The name of the run's folder.
fn run_name(run: &StoredRun) -> String {
    // `.` and `..` have no name of their own.
    let whole = std::fs::canonicalize(&run.path).unwrap_or_else(|_| run.path.clone());
    whole.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn write_file(path: PathBuf, bytes: &[u8]) -> Result<Exported, JobError> {
    write_into(&path, bytes)?;
    Ok(Exported::Files(vec![path]))
}

fn write_into(path: &Path, bytes: &[u8]) -> Result<(), JobError> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| write_atomically(path, bytes));
    written.map_err(|error| {
        JobError::invalid(
            format!("cannot write {}: {error}", path.display()),
            "give `--out` a place that may be written to, on a disk with room",
        )
    })
}
