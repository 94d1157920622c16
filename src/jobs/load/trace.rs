//! A trace: when requests came and how long they were, one JSON object a line.
//!
//! `at_seconds` or `timestamp` (milliseconds, as Mooncake's traces have it), `prompt_tokens` or `input_length`, `output_tokens` or
//! `output_length`; other keys are left alone. The first request is sent at once.

use std::path::Path;

use serde::Deserialize;

use crate::files::read_text;
use crate::jobs::JobError;

/// A request of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Arrival {
    /// Since the first.
    pub(super) at_seconds: f64,
    pub(super) prompt_tokens: usize,
    pub(super) output_tokens: usize,
}

#[derive(Deserialize)]
struct Line {
    at_seconds: Option<f64>,
    timestamp: Option<f64>,
    #[serde(alias = "input_length")]
    prompt_tokens: usize,
    #[serde(alias = "output_length")]
    output_tokens: usize,
}

const SHAPE: &str =
    "a line is {\"at_seconds\": 0.5, \"prompt_tokens\": 96, \"output_tokens\": 256}, in the order of time";

/// Reads a trace.
pub(super) fn read(path: &Path) -> Result<(Vec<Arrival>, String), JobError> {
    let text = read_text(path).map_err(|error| {
        JobError::invalid(format!("cannot read the trace {}: {error}", path.display()), "check the path")
    })?;
    let mut arrivals: Vec<Arrival> = Vec::new();
    let mut first = None;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let refuse = |why: &str| JobError::invalid(format!("{}:{}: {why}", path.display(), number + 1), SHAPE);
        let line: Line = serde_json::from_str(line).map_err(|error| refuse(&error.to_string()))?;
        let at = line.at_seconds.or(line.timestamp.map(|at| at / 1e3)).ok_or_else(|| refuse("it has no time"))?;
        let at = at - *first.get_or_insert(at);
        if !at.is_finite() || arrivals.last().is_some_and(|before| at < before.at_seconds) {
            return Err(refuse("it comes before the line above"));
        }
        if line.prompt_tokens == 0 || line.output_tokens == 0 {
            return Err(refuse("a request has at least one token in its prompt and one in its answer"));
        }
        arrivals.push(Arrival { at_seconds: at, prompt_tokens: line.prompt_tokens, output_tokens: line.output_tokens });
    }
    if arrivals.is_empty() {
        return Err(JobError::invalid(format!("the trace {} is empty", path.display()), SHAPE));
    }
    Ok((arrivals, crate::files::sha256(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Arrival>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path()).map(|(arrivals, _)| arrivals).map_err(|error| error.to_string())
    }

    #[test]
    fn a_trace_is_read_in_either_spelling() {
        let own = "{\"at_seconds\": 5, \"prompt_tokens\": 9, \"output_tokens\": 3}\n\n{\"at_seconds\": 5.5, \"prompt_tokens\": 8, \"output_tokens\": 2}\n";
        let mooncake = "{\"timestamp\": 1000, \"input_length\": 9, \"output_length\": 3, \"hash_ids\": [1]}\n\
                        {\"timestamp\": 1500, \"input_length\": 8, \"output_length\": 2, \"hash_ids\": []}";
        assert_eq!(read_text(own).unwrap(), read_text(mooncake).unwrap());
        assert_eq!(read_text(own).unwrap()[1], Arrival { at_seconds: 0.5, prompt_tokens: 8, output_tokens: 2 });
    }

    #[test]
    fn what_is_no_trace_is_refused_by_its_line() {
        for (text, part) in [
            ("", "is empty"),
            ("{}", ":1: missing field"),
            ("{\"prompt_tokens\": 1, \"output_tokens\": 1}", ":1: it has no time"),
            ("{\"at_seconds\": 0, \"prompt_tokens\": 0, \"output_tokens\": 1}", ":1: a request has"),
            (
                "{\"at_seconds\": 1, \"prompt_tokens\": 1, \"output_tokens\": 1}\n{\"at_seconds\": 0, \"prompt_tokens\": 1, \"output_tokens\": 1}",
                ":2: it comes before",
            ),
        ] {
            let message = read_text(text).unwrap_err();
            assert!(message.contains(part) && message.contains("hint: "), "{text}: {message}");
        }
    }
}
