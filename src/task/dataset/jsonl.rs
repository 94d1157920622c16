//! Rows of a jsonl file: one JSON object a line; blank lines count as lines and not as rows.

use std::path::Path;

use serde_json::{Map, Value};

use super::{DataFile, Row, locate, shortened};
use crate::task::TaskError;

pub(super) fn read(file: &DataFile) -> Result<Vec<Row>, TaskError> {
    let rows = objects(file)?.into_iter().map(|(place, object)| {
        let question = text(&object, "question", &place)?;
        let answer = text(&object, "answer", &place)?;
        Ok(Row { place, question, answer })
    });
    rows.collect()
}

/// Worked examples, as (question, target), with the file's SHA-256.
pub(in crate::task) fn read_examples(path: &Path) -> Result<(Vec<(String, String)>, String), TaskError> {
    let file = locate::read_file(path)?;
    let sha256 = crate::files::sha256(&file.bytes);
    let examples = objects(&file)?.into_iter().map(|(place, object)| {
        let field = |name: &str| {
            text(&object, name, &place)?.filter(|text| !text.trim().is_empty()).ok_or_else(|| {
                TaskError::invalid(
                    format!("{place} has no `{name}`"),
                    "every line of a few-shot file is one {\"question\": …, \"target\": …}",
                )
            })
        };
        Ok((field("question")?, field("target")?))
    });
    Ok((examples.collect::<Result<_, TaskError>>()?, sha256))
}

/// Where a line stands, and its object.
type Line = (String, Map<String, Value>);

fn objects(file: &DataFile) -> Result<Vec<Line>, TaskError> {
    let text = std::str::from_utf8(&file.bytes).map_err(|error| {
        let line = 1 + file.bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
        TaskError::invalid(format!("line {line} of {} is not UTF-8", file.label), "write the file in UTF-8")
    })?;
    // Some editors begin a file with a byte order mark.
    let lines = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .split('\n')
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
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

fn text(object: &Map<String, Value>, name: &str, place: &str) -> Result<Option<String>, TaskError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(TaskError::invalid(
            format!("{place} has a `{name}` that is no text: {}", shortened(&other.to_string())),
            format!("put the value of `{name}` in quotes"),
        )),
    }
}
