//! Rows of CSV and TSV files: texts all of them, quoted by `"` where they hold a separator or a line break.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::rc::Rc;

use super::container::{self, Text};
use super::data_file::DataFile;
use super::names;
use super::row::{Cell, Row, no_column};
use crate::task::TaskError;

/// The rows one after the other, `columns` of each; `header` names the columns of a file without a first line that does.
pub(super) fn read<'a>(
    file: &'a DataFile,
    columns: &[&str],
    header: &[String],
) -> Result<impl Iterator<Item = Result<Row, TaskError>> + use<'a>, TaskError> {
    let is_tsv = names::plain(&file.label).rsplit_once('.').is_some_and(|(_, ending)| ending == "tsv");
    let delimiter = if is_tsv { b'\t' } else { b',' };
    let window = Rc::new(RefCell::new(Window::default()));
    let text = Watched { text: container::text(file)?, window: Rc::clone(&window) };
    let reader = csv::ReaderBuilder::new().has_headers(false).delimiter(delimiter).from_reader(text);
    let line = move |position: Option<&csv::Position>| {
        position.map_or(0, |position| window.borrow_mut().line(position.line(), position.byte()))
    };
    let mut records = reader.into_records().map(move |record| match record {
        Ok(record) => Ok((line(record.position()), record)),
        Err(error) => Err(broken(file, line(error.position()), &error)),
    });
    let (mut first, mut positions) = (None, Vec::new());
    if let Some(record) = records.next() {
        let (line, record) = record?;
        let names: Vec<&str> = record.iter().map(str::trim).collect();
        let has_header = header.is_empty() || names == header;
        let names = if has_header { names } else { header.iter().map(String::as_str).collect() };
        positions = self::positions(file, columns, &names, record.len())?;
        first = (!has_header).then_some(Ok((line, record)));
    }
    let row = move |(line, record): (u64, csv::StringRecord)| Row {
        place: format!("line {line} of {}", file.label),
        cells: positions.iter().map(|at| record.get(*at).map(|field| Cell::Text(field.to_owned()))).collect(),
    };
    Ok(first.into_iter().chain(records).map(move |record| record.map(&row)))
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

/// The bytes of a text that the reader of records has taken and that may still be asked for.
#[derive(Default)]
struct Window {
    bytes: VecDeque<u8>,
    /// Where the first of them stands in the text.
    start: u64,
}

impl Window {
    /// The line that a record begins in, by its position: that of the blank lines in front of it. Positions only grow.
    fn line(&mut self, line: u64, byte: u64) -> u64 {
        let passed = (byte.saturating_sub(self.start) as usize).min(self.bytes.len());
        self.bytes.drain(..passed);
        self.start += passed as u64;
        let blank = self.bytes.iter().take_while(|byte| b"\r\n".contains(byte)).filter(|byte| **byte == b'\n').count();
        line + blank as u64
    }
}

/// A text that keeps what is read of it in a window.
struct Watched {
    text: Text,
    window: Rc<RefCell<Window>>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(buffer)?;
        self.window.borrow_mut().bytes.extend(&buffer[..read]);
        Ok(read)
    }
}

fn broken(file: &DataFile, line: u64, error: &csv::Error) -> TaskError {
    let label = &file.label;
    let what = match error.kind() {
        csv::ErrorKind::Io(error) => return container::broken(file, error),
        csv::ErrorKind::Utf8 { .. } => {
            return TaskError::invalid(format!("line {line} of {label} is not UTF-8"), "write the file in UTF-8");
        }
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("line {line} of {label} has {len} fields, where the first has {expected_len}")
        }
        _ => format!("{label} cannot be read: {error}"),
    };
    TaskError::invalid(
        what,
        "put fields that hold a separator, a quote or a line break in quotes, and double quotes within",
    )
}
