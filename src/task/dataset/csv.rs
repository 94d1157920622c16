//! Rows of CSV and TSV files: texts all of them, quoted by `"` where they hold a separator or a line break.

use super::data_file::{DataFile, utf8};
use super::names;
use super::row::{Cell, Row, no_column};
use crate::task::TaskError;

/// `header` names the columns of a file without a first line that does.
pub(super) fn read(file: &DataFile, columns: &[&str], header: &[String]) -> Result<Vec<Row>, TaskError> {
    let is_tsv = names::plain(&file.label).rsplit_once('.').is_some_and(|(_, ending)| ending == "tsv");
    let delimiter = if is_tsv { b'\t' } else { b',' };
    let text = utf8(file)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).delimiter(delimiter).from_reader(text.as_bytes());
    let mut records = Vec::new();
    for record in reader.records() {
        records.push(record.map_err(|error| broken(file, text, &error))?);
    }
    let Some(first) = records.first() else { return Ok(Vec::new()) };
    let names: Vec<&str> = first.iter().map(str::trim).collect();
    let has_header = header.is_empty() || names == header;
    let names = if has_header { names } else { header.iter().map(String::as_str).collect() };
    let positions = positions(file, columns, &names, first.len())?;
    let row = |record: &csv::StringRecord| Row {
        place: format!("line {} of {}", line(text, record.position()), file.label),
        cells: positions.iter().map(|at| record.get(*at).map(|field| Cell::Text(field.to_owned()))).collect(),
    };
    Ok(records.iter().skip(usize::from(has_header)).map(row).collect())
}

/// Where the wanted columns stand among `names`, of which there must be as many as a line has fields.
fn positions(file: &DataFile, columns: &[&str], names: &[&str], fields: usize) -> Result<Vec<usize>, TaskError> {
    if names.len() != fields {
        return Err(TaskError::invalid(
            format!("{} has {fields} columns, and the task's header names {}", file.label, names.join(", ")),
            "name every column in the task's `header`; a .csv is separated by commas, a .tsv by tabs",
        ));
    }
    let position = |column: &&str| {
        names.iter().position(|name| name == column).ok_or_else(|| no_column(&file.label, column, names))
    };
    columns.iter().map(position).collect()
}

/// The line that a record begins in: its own position is that of the blank lines in front of it.
fn line(text: &str, position: Option<&csv::Position>) -> u64 {
    position.map_or(0, |position| {
        let rest = text.as_bytes().get(position.byte() as usize..).unwrap_or_default();
        let blank = rest.iter().take_while(|byte| b"\r\n".contains(byte)).filter(|byte| **byte == b'\n').count();
        position.line() + blank as u64
    })
}

fn broken(file: &DataFile, text: &str, error: &csv::Error) -> TaskError {
    let what = match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = line(text, pos.as_ref());
            format!("line {line} of {} has {len} fields, where the first has {expected_len}", file.label)
        }
        _ => format!("{} cannot be read: {error}", file.label),
    };
    TaskError::invalid(
        what,
        "put fields that hold a separator, a quote or a line break in quotes, and double quotes within",
    )
}
