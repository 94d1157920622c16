//! Rows that were measured elsewhere, by vLLM, transformers or anything else: `--vs FILE`.

use std::path::Path;

use serde::Deserialize;

use super::rows::{Row, Score};
use crate::files::read_text;
use crate::report::ReportError;
use crate::score::statistics::{Proportion, wilson};

const HINT: &str = "a file for `--vs` is JSON: {\"format\": 1, \"rows\": [{\"engine\": \"vLLM 0.24\", \"precision\": \
                    \"f16\", \"tokens_per_second\": 653.2, \"load_seconds\": 53.2, \"accuracy_percent\": 70.1, \"n\": \
                    1319, \"source\": \"where from\"}]}; rows may also have model, device, peak_memory_bytes and note";

/// One row of a `--vs` file. Only engine, precision and source must be there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideRow {
    /// Engine and version, as the table shall name it.
    pub engine: String,
    /// `f32`, `f16`, `awq`, …
    pub precision: String,
    /// Where the figures come from: a command, a paper, an address.
    pub source: String,
    /// The model.
    #[serde(default)]
    pub model: Option<String>,
    /// The device.
    #[serde(default)]
    pub device: Option<String>,
    /// Output tokens a second.
    #[serde(default)]
    pub tokens_per_second: Option<f64>,
    /// Seconds until ready.
    #[serde(default)]
    pub load_seconds: Option<f64>,
    /// Percent of n.
    #[serde(default)]
    pub accuracy_percent: Option<f64>,
    /// Questions behind the accuracy.
    #[serde(default)]
    pub n: Option<usize>,
    /// Bytes.
    #[serde(default)]
    pub peak_memory_bytes: Option<u64>,
    /// What else a reader must know.
    #[serde(default)]
    pub note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    rows: Vec<OutsideRow>,
}

/// Reads a `--vs` file.
pub fn read_outside(path: &Path) -> Result<Vec<OutsideRow>, ReportError> {
    let invalid = |what: String| ReportError { what: format!("{}: {what}", path.display()), hint: HINT.to_owned() };
    let text = read_text(path).map_err(|error| invalid(error.to_string()))?;
    let file: File = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    if file.format != 1 {
        return Err(invalid(format!("format {}, but this evalsuite reads format 1", file.format)));
    }
    for (index, row) in file.rows.iter().enumerate() {
        row.check().map_err(|what| invalid(format!("row {}: {what}", index + 1)))?;
    }
    Ok(file.rows)
}

impl OutsideRow {
    fn check(&self) -> Result<(), String> {
        let words = [("engine", &self.engine), ("precision", &self.precision), ("source", &self.source)];
        for (field, word) in words {
            if word.trim().is_empty() {
                return Err(format!("{field} is empty"));
            }
        }
        let numbers = [
            ("tokens_per_second", self.tokens_per_second, f64::MAX),
            ("load_seconds", self.load_seconds, f64::MAX),
            ("accuracy_percent", self.accuracy_percent, 100.0),
        ];
        for (field, number, most) in numbers {
            if let Some(number) = number.filter(|number| !(0.0..=most).contains(number)) {
                return Err(format!("{field} {number} is out of range"));
            }
        }
        match (self.accuracy_percent, self.n) {
            (Some(_), None | Some(0)) => {
                Err("accuracy_percent without n, the number of questions behind it".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// As a row of the table; the accuracy stands under every rule, for none of them was used. Its interval is Wilson's on the whole
    /// number of right answers that is nearest.
    pub(in crate::compare) fn into_row(self, rules: &[String]) -> Row {
        let accuracy = self.accuracy_percent.zip(self.n).and_then(|(percent, n)| {
            let right = (percent / 100.0 * n as f64).round() as usize;
            wilson(right, n).map(|interval| Proportion { value: percent / 100.0, ..interval })
        });
        let score =
            |rule: &String| Score { rule: rule.clone(), extracted: None, accuracy, against: None, is_damage: false };
        Row {
            label: format!("{} {}", self.engine, self.precision),
            name: String::new(),
            run: None,
            model: self.model,
            engine: self.engine,
            precision: self.precision,
            device: self.device,
            reference: None,
            n: self.n,
            answered: None,
            cut: None,
            scores: rules.iter().map(score).collect(),
            output_tokens: None,
            generate_seconds: None,
            tokens_per_second: self.tokens_per_second,
            speed_ratio: None,
            load_seconds: self.load_seconds,
            peak_memory_bytes: self.peak_memory_bytes,
            memory_is_process_wide: false,
            failure: None,
            note: self.note,
            source: Some(self.source),
        }
    }
}
