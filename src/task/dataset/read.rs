//! From a data file to its rows, and from rows to worked examples.

use std::path::Path;

use super::data_file::{DataFile, read_file};
use super::names::Format;
use super::row::{Outcome, Row};
use super::{container, csv, json, parquet};
use crate::task::TaskError;
use crate::task::definition::Layout;

/// A data file's rows as far as a layout wants them; the file's name says what it is.
pub(super) fn read_rows(file: &DataFile, layout: &Layout) -> Result<Vec<Row>, TaskError> {
    let columns = layout.columns();
    let file = &*container::opened(file)?;
    match Format::of(&file.label) {
        Some(Format::Parquet) => parquet::read(file, &columns),
        Some(Format::Csv) => csv::read(file, &columns, &layout.header),
        Some(Format::Json) | None => json::read(file, &columns),
    }
}

/// Worked examples of the user's, as (question, target), with the file's SHA-256: a data file with these two columns.
pub(in crate::task) fn read_examples(path: &Path) -> Result<(Vec<(String, String)>, String), TaskError> {
    let file = read_file(path)?;
    let layout = Layout::of_columns("question", "target");
    let mut examples = Vec::new();
    for row in read_rows(&file, &layout)? {
        if let Outcome::Sample(sample) = row.into_sample(&layout, examples.len())? {
            examples.push((sample.question, sample.answer));
        }
    }
    Ok((examples, crate::files::sha256(&file.bytes)))
}
