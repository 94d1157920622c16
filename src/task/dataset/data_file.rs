//! A data file's bytes.

use std::path::Path;

use crate::task::TaskError;

/// A file's bytes, and what to call it in messages. The label ends as the file's name does.
#[derive(Clone)]
pub(super) struct DataFile {
    pub(super) label: String,
    pub(super) bytes: Vec<u8>,
}

/// Reads a file of the user's.
pub(super) fn read_file(path: &Path) -> Result<DataFile, TaskError> {
    let bytes = std::fs::read(path).map_err(|error| {
        TaskError::invalid(format!("cannot read {}: {error}", path.display()), "check the path and its permissions")
    })?;
    Ok(DataFile { label: path.display().to_string(), bytes })
}

/// A file's text without the byte order mark that some editors begin a file with.
pub(super) fn utf8(file: &DataFile) -> Result<&str, TaskError> {
    let text = std::str::from_utf8(&file.bytes).map_err(|error| {
        let line = 1 + file.bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
        TaskError::invalid(format!("line {line} of {} is not UTF-8", file.label), "write the file in UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Enough of a text to know it by: values and reasons may run on for pages, and messages must not.
pub(super) fn shortened(text: &str) -> String {
    const LENGTH: usize = 100;
    if text.chars().count() <= LENGTH { text.to_owned() } else { text.chars().take(LENGTH).chain(['…']).collect() }
}
