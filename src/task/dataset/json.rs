//! Rows of JSON files: one object a line, where blank lines count as lines and not as rows, or one list of objects.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::data_file::{DataFile, utf8};
use super::row::{Cell, Row, no_column};
use crate::task::TaskError;

/// An object whose values are kept as they are written: a number must not pass through floating point.
type Object = BTreeMap<String, Box<RawValue>>;

pub(super) fn read(file: &DataFile, columns: &[&str]) -> Result<Vec<Row>, TaskError> {
    let objects = if utf8(file)?.trim_start().starts_with('[') { list(file)? } else { lines(file)? };
    objects.into_iter().map(|(place, object)| row(place, &object, columns)).collect()
}

fn row(place: String, object: &Object, columns: &[&str]) -> Result<Row, TaskError> {
    let cell = |column: &&str| {
        object.get(*column).map(|value| cell(value.get())).ok_or_else(|| {
            let present: Vec<&str> = object.keys().map(String::as_str).collect();
            no_column(&place, column, &present)
        })
    };
    let cells = columns.iter().map(cell).collect::<Result<_, _>>()?;
    Ok(Row { place, cells })
}

fn cell(written: &str) -> Option<Cell> {
    match written.as_bytes().first() {
        Some(b'n') => None,
        Some(b'"') => Some(serde_json::from_str(written).map_or_else(|_| Cell::Other(written.to_owned()), Cell::Text)),
        Some(b'-' | b'0'..=b'9') => Some(Cell::number(written)),
        _ => Some(Cell::Other(written.to_owned())),
    }
}

fn lines(file: &DataFile) -> Result<Vec<(String, Object)>, TaskError> {
    let lines = utf8(file)?.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(number, line): (usize, &str)| {
        let place = format!("line {} of {}", number + 1, file.label);
        match serde_json::from_str(line) {
            Ok(object) => Ok((place, object)),
            Err(error) => Err(TaskError::invalid(
                format!("{place} is no JSON object: {error}"),
                "a jsonl file holds one whole JSON object on each line; a last line that breaks off means a cut file",
            )),
        }
    };
    lines.map(parse).collect()
}

fn list(file: &DataFile) -> Result<Vec<(String, Object)>, TaskError> {
    let objects: Vec<Object> = serde_json::from_str(utf8(file)?).map_err(|error| {
        TaskError::invalid(
            format!("{} is no list of JSON objects: {error}", file.label),
            "a file that begins with `[` is one whole JSON list; where it breaks off, it was cut",
        )
    })?;
    let place = |(row, object)| (format!("row {row} of {}", file.label), object);
    Ok(objects.into_iter().enumerate().map(place).collect())
}
