//! What others measured, from a JSON file: `{"machine": "…", "date": "…", "rows": […]}`, each row a [`BenchRow`].
//!
//! The record that `evalsuite bench --out FILE` writes is such a file too. Other fields beside `rows` are left unread.

use std::path::Path;

use serde_json::Value;

use super::{BenchRow, Peers};
use crate::engine::Dtype;
use crate::files::{read_text, sha256};
use crate::jobs::JobError;

const SHAPE: &str = "such a file is {\"machine\": \"...\", \"date\": \"...\", \"rows\": [{\"engine\": \"...\", \"dtype\": \"f16\", \
                     \"load_s\": 1.2, ...}]}; `evalsuite bench --help` names the columns";

/// Reads the rows that belong to these precisions and to the model of this name: those of the shape that the name
/// contains, or, where it contains none, those without a shape.
pub(super) fn open(path: &Path, model: &str, dtypes: &[Dtype]) -> Result<Peers, JobError> {
    let text = read_text(path).map_err(|error| {
        JobError::invalid(format!("cannot read --vs {}: {error}", path.display()), "check the path, or leave it out")
    })?;
    parse(&text, path, model, dtypes)
}

fn parse(text: &str, path: &Path, model: &str, dtypes: &[Dtype]) -> Result<Peers, JobError> {
    let place = path.display();
    let json: Value = serde_json::from_str(text)
        .map_err(|error| JobError::invalid(format!("--vs {place} is not JSON: {error}"), SHAPE))?;
    let rows = json.get("rows").and_then(Value::as_array);
    let rows = rows.ok_or_else(|| JobError::invalid(format!("--vs {place}: `rows` is missing, or no list"), SHAPE))?;
    let row = |(index, row): (usize, &Value)| {
        let row: BenchRow = serde_json::from_value(row.clone())
            .map_err(|error| JobError::invalid(format!("--vs {place}: rows[{index}]: {error}"), SHAPE))?;
        match figures(&row).into_iter().find(|(_, figure)| !(figure.is_finite() && *figure > 0.0)) {
            None => Ok(row),
            Some((name, figure)) => Err(JobError::invalid(
                format!("--vs {place}: rows[{index}].{name} is {figure}"),
                "figures are above zero; leave out what was not measured",
            )),
        }
    };
    let rows: Vec<BenchRow> = rows.iter().enumerate().map(row).collect::<Result<_, JobError>>()?;
    let model = model.to_lowercase();
    let shape = rows
        .iter()
        .filter_map(|row| row.shape.clone())
        .filter(|shape| model.contains(&shape.to_lowercase()))
        .max_by_key(String::len);
    let belongs = |row: &BenchRow| row.shape == shape && dtypes.iter().any(|dtype| dtype.name() == row.dtype);
    let text_of = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(Peers {
        source: path.display().to_string(),
        sha256: sha256(text.as_bytes()),
        machine: text_of("machine"),
        date: text_of("date").or_else(|| text_of("finished")),
        rows: rows.into_iter().filter(belongs).collect(),
    })
}

fn figures(row: &BenchRow) -> Vec<(&'static str, f64)> {
    let all = [
        ("load_s", row.load_s),
        ("load_first_token_s", row.load_first_token_s),
        ("b1_ttft_ms", row.b1_ttft_ms),
        ("b1_decode_tok_s", row.b1_decode_tok_s),
        ("req500_128_64_tok_s", row.req500_128_64_tok_s),
        ("gsm8k_shape_s", row.gsm8k_shape_s),
        ("gsm8k_shape_tok_s", row.gsm8k_shape_tok_s),
    ];
    all.into_iter().filter_map(|(name, figure)| Some((name, figure?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"machine": "a card", "date": "2026-01-01", "limits": {}, "rows": [
        {"engine": "P 1.0", "dtype": "f16", "load_s": 2.5, "b1_ttft_ms": 7},
        {"engine": "P 1.0", "dtype": "awq", "gsm8k_shape_tok_s": 100},
        {"engine": "P 1.0", "dtype": "f16", "shape": "big-7b", "note": "elsewhere"}]}"#;

    fn rows(model: &str, dtypes: &[Dtype]) -> Vec<BenchRow> {
        parse(FILE, Path::new("p.json"), model, dtypes).unwrap().rows
    }

    #[test]
    fn rows_belong_to_a_shape_and_a_precision() {
        let both = [Dtype::F16, Dtype::Awq];
        assert_eq!(rows("small-f16", &both).len(), 2);
        assert_eq!(rows("small-f16", &[Dtype::F32]).len(), 0);
        let big = rows("Big-7B-f16", &both);
        assert_eq!((big.len(), big[0].note.as_deref(), big[0].load_s), (1, Some("elsewhere"), None));
        let small = &rows("small", &[Dtype::F16])[0];
        assert_eq!((small.load_s, small.b1_ttft_ms, small.gsm8k_shape_s), (Some(2.5), Some(7.0), None));
    }

    #[test]
    fn a_bad_file_is_refused_with_its_place() {
        for (text, part) in [
            ("{\n x", "line 2"),
            ("{}", "`rows` is missing"),
            (r#"{"rows": [{"engine": "P"}]}"#, "rows[0]: missing field `dtype`"),
            (r#"{"rows": [{"engine": "P", "dtype": "f16", "loads": 1}]}"#, "rows[0]: unknown field `loads`"),
            (r#"{"rows": [{"engine": "P", "dtype": "f16", "load_s": -1}]}"#, "rows[0].load_s is -1"),
        ] {
            let error = parse(text, Path::new("p.json"), "m", &[Dtype::F16]).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("p.json") && error.contains("\nhint: "), "{text}: {error}");
        }
    }
}
