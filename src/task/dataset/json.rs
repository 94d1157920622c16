//! Rows of JSON files: one object a line, where blank lines count as lines and not as rows, or one list of objects.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use serde_json::value::RawValue;

use super::container::{self, Text};
use super::data_file::DataFile;
use super::row::{Cell, Row, no_column};
use crate::task::TaskError;

/// An object whose values are kept as they are written: a number must not pass through floating point.
type Object = BTreeMap<String, Box<RawValue>>;

/// A longer row, in bytes, is no question with its answer, but a file that is written in another way.
const LONGEST: u64 = 256 << 20;

/// The rows one after the other, `columns` of each.
pub(super) fn read<'a>(
    file: &'a DataFile,
    columns: Vec<&'a str>,
) -> Result<impl Iterator<Item = Result<Row, TaskError>> + 'a, TaskError> {
    let mut text = container::text(file)?;
    let (first, lines) = skip_blank(&mut text).map_err(|error| container::broken(file, &error))?;
    let mut written: Box<dyn Iterator<Item = io::Result<Written>>> = match first {
        Some(b'[') => Box::new(List::new(text)),
        _ => Box::new(Lines { text, number: lines }),
    };
    Ok(std::iter::from_fn(move || {
        let written = written.next()?.map_err(|error| container::broken(file, &error));
        Some(written.and_then(|written| row(file, &written, &columns)))
    }))
}

/// The first byte that is no white space, which stays, and how many lines end before it.
fn skip_blank(text: &mut Text) -> io::Result<(Option<u8>, usize)> {
    let mut lines = 0;
    loop {
        let buffer = text.fill_buf()?;
        let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let first = buffer.get(blank).copied();
        let is_end = buffer.is_empty();
        lines += buffer.iter().take(blank).filter(|byte| **byte == b'\n').count();
        text.consume(blank);
        if first.is_some() || is_end {
            return Ok((first, lines));
        }
    }
}

/// A row as it is written.
struct Written {
    place: Place,
    text: Vec<u8>,
    /// What is wrong with the file where the row ends.
    fault: Option<&'static str>,
}

#[derive(Clone, Copy)]
enum Place {
    /// Counted from 1.
    Line(usize),
    /// Of a list, counted from 0.
    Row(usize),
}

fn row(file: &DataFile, written: &Written, columns: &[&str]) -> Result<Row, TaskError> {
    let label = &file.label;
    let place = match written.place {
        Place::Line(number) => format!("line {number} of {label}"),
        Place::Row(number) => format!("row {number} of {label}"),
    };
    let no_object = |reason: &str| match written.place {
        Place::Line(_) => TaskError::invalid(
            format!("{place} is no JSON object: {reason}"),
            "a jsonl file holds one whole JSON object on each line; a last line that breaks off means a cut file",
        ),
        Place::Row(number) => TaskError::invalid(
            format!("{label} is no list of JSON objects: row {number}: {reason}"),
            "a file that begins with `[` is one whole JSON list; where it breaks off, it was cut",
        ),
    };
    if written.text.len() as u64 > LONGEST {
        return Err(no_object(&format!("it is longer than {} MiB", LONGEST >> 20)));
    }
    let Ok(text) = std::str::from_utf8(&written.text) else {
        return Err(TaskError::invalid(format!("{place} is not UTF-8"), "write the file in UTF-8"));
    };
    if let Some(fault) = written.fault {
        return Err(no_object(fault));
    }
    let object: Object =
        serde_json::from_str(without_nan(text.trim()).as_ref()).map_err(|error| no_object(&error.to_string()))?;
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

/// The lines of a text that are not blank.
struct Lines {
    text: Text,
    /// Those that have been read.
    number: usize,
}

impl Iterator for Lines {
    type Item = io::Result<Written>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut text = Vec::new();
            match self.text.by_ref().take(LONGEST + 1).read_until(b'\n', &mut text) {
                Ok(0) => return None,
                Ok(_) => self.number += 1,
                Err(error) => return Some(Err(error)),
            }
            if !std::str::from_utf8(&text).is_ok_and(|text| text.trim().is_empty()) {
                return Some(Ok(Written { place: Place::Line(self.number), text, fault: None }));
            }
        }
    }
}

/// The elements of one list, each as it is written: only where one ends is looked for here.
struct List {
    text: Text,
    /// Elements that have been read.
    number: usize,
    /// Whether the list's end, or a fault behind which nothing can be read, was met.
    is_over: bool,
}

impl List {
    fn new(mut text: Text) -> Self {
        text.consume(1);
        Self { text, number: 0, is_over: false }
    }

    /// The bytes up to the `,` or `]` that ends an element, and that byte; none where the file ends first.
    fn element(&mut self, element: &mut Vec<u8>) -> io::Result<Option<u8>> {
        let (mut depth, mut inside, mut escaped) = (0_usize, false, false);
        let mut ends = |byte: u8| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if inside => escaped = true,
                b'"' => inside = !inside,
                _ if inside => {}
                b'[' | b'{' => depth += 1,
                b']' | b'}' if depth > 0 => depth -= 1,
                b']' => return true,
                b',' => return depth == 0,
                _ => {}
            }
            false
        };
        loop {
            let buffer = self.text.fill_buf()?;
            let end = buffer.iter().position(|byte| ends(*byte));
            let length = end.unwrap_or(buffer.len());
            element.extend_from_slice(&buffer[..length]);
            let (byte, is_end) = (end.map(|at| buffer[at]), buffer.is_empty());
            self.text.consume(length + usize::from(byte.is_some()));
            if byte.is_some() || is_end || element.len() as u64 > LONGEST {
                return Ok(byte);
            }
        }
    }
}

impl Iterator for List {
    type Item = io::Result<Written>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let mut text = Vec::new();
        let end = match self.element(&mut text) {
            Ok(end) => end,
            Err(error) => return Some(Err(error)),
        };
        let mut fault = None;
        if end != Some(b',') {
            self.is_over = true;
            fault = match end {
                None => Some("the file ends before the list does"),
                Some(_) => match skip_blank(&mut self.text) {
                    Ok((None, _)) => None,
                    Ok(_) => Some("something stands behind the list's end"),
                    Err(error) => return Some(Err(error)),
                },
            };
            if fault.is_none() && self.number == 0 && text.trim_ascii().is_empty() {
                return None;
            }
        }
        let place = Place::Row(self.number);
        self.number += 1;
        Some(Ok(Written { place, text, fault }))
    }
}
