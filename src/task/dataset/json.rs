//! Rows of JSON files: one object a line, where blank lines count as lines and not as rows, or one list of objects.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::data_file::{DataFile, utf8};
use super::row::{Cell, Row, no_column};
use crate::task::TaskError;

/// An object whose values are kept as they are written: a number must not pass through floating point.
type Object = BTreeMap<String, Box<RawValue>>;

pub(super) fn read(file: &DataFile, columns: &[&str]) -> Result<Vec<Row>, TaskError> {
    let text = without_nan(utf8(file)?);
    let objects = if text.trim_start().starts_with('[') { list(file, &text)? } else { lines(file, &text)? };
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

/// Python writes `NaN` and `Infinity`, which JSON does not have and Python reads: no value that a task could use.
fn without_nan(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    let (mut inside, mut escaped) = (false, false);
    while let Some(c) = rest.chars().next() {
        let word = if inside { None } else { WORDS.iter().find(|word| rest.starts_with(**word)) };
        if let Some(word) = word {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        if escaped {
            escaped = false;
        } else if inside && c == '\\' {
            escaped = true;
        } else if c == '"' {
            inside = !inside;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(out)
}

fn lines(file: &DataFile, text: &str) -> Result<Vec<(String, Object)>, TaskError> {
    let lines = text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
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

fn list(file: &DataFile, text: &str) -> Result<Vec<(String, Object)>, TaskError> {
    let objects: Vec<Object> = serde_json::from_str(text).map_err(|error| {
        TaskError::invalid(
            format!("{} is no list of JSON objects: {error}", file.label),
            "a file that begins with `[` is one whole JSON list; where it breaks off, it was cut",
        )
    })?;
    let place = |(row, object)| (format!("row {row} of {}", file.label), object);
    Ok(objects.into_iter().enumerate().map(place).collect())
}
