//! From a data file to its rows, and from rows to worked examples.

use std::path::Path;

use super::data_file::DataFile;
use super::names::Format;
use super::row::{Outcome, Row};
use super::{csv, json, parquet};
use crate::task::TaskError;
use crate::task::definition::Layout;

/// A data file's rows one after the other, as far as a layout wants them; the file's name says what it is. What is held at a time does
/// not grow with their number.
pub(super) fn rows<'a>(
    file: &'a DataFile,
    layout: &'a Layout,
) -> Result<Box<dyn Iterator<Item = Result<Row, TaskError>> + 'a>, TaskError> {
    let columns = layout.columns();
    Ok(match Format::of(&file.label) {
        Some(Format::Parquet) => Box::new(parquet::read(file, columns)?),
        Some(Format::Csv) => Box::new(csv::read(file, &columns, &layout.header)?),
        Some(Format::Json) | None => Box::new(json::read(file, columns)?),
    })
}

/// Worked examples of the user's, as (question, target), with the file's SHA-256: a data file with these two columns.
pub(in crate::task) fn read_examples(path: &Path) -> Result<(Vec<(String, String)>, String), TaskError> {
    let file = DataFile::open(path)?;
    let layout = Layout::of_columns("question", "target");
    let mut examples = Vec::new();
    for row in rows(&file, &layout)? {
        if let Outcome::Sample(sample) = row?.into_sample(&layout, examples.len())? {
            examples.push((sample.question, sample.answer));
        }
    }
    Ok((examples, file.sha256()?))
}
