//! A file of rows, read and checked.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::row::ElsewhereRow;
use super::tools;
use crate::files::{read_text, sha256};
use crate::record::RecordError;

const HINT: &str = "a file for `--vs` is JSON: {\"rows\": [{\"engine\": \"vLLM 0.24\", \"precision\": \"f16\", \"source\": \
                    \"where from\", \"tokens_per_second\": 653.2, \"load_seconds\": 53.2, \"accuracy_percent\": 70.1, \"n\": \
                    1319}]}; `evalsuite bench --help` names every key";

/// The version of the format; a file need not say it.
const FORMAT: u64 = 1;

/// A file of rows measured elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Elsewhere {
    /// The file, as it was named.
    pub path: String,
    /// Its SHA-256.
    pub sha256: String,
    /// The machine, in the file's words.
    pub machine: Option<String>,
    /// The date, in the file's words.
    pub date: Option<String>,
    /// The rows, each with a source where the file has one.
    pub rows: Vec<ElsewhereRow>,
}

impl Elsewhere {
    /// Reads a file; what cannot be meant is refused by its place.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let text = read_text(path).map_err(|error| {
            let hint = format!("check the path, or leave it out; {HINT}");
            RecordError::invalid(format!("cannot read --vs {}: {error}", path.display()), hint)
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &str, path: &str) -> Result<Self, RecordError> {
        let invalid = |what: String| RecordError::invalid(format!("--vs {path}: {what}"), HINT);
        let json = json_or_lines(text).map_err(|error| invalid(format!("not JSON: {error}")))?;
        if let Some(told) = tools::read(&json).filter(|_| json.get("rows").is_none()) {
            return Self::of_tool(told, text, path).map_err(invalid);
        }
        if let Some(format) = json.get("format").filter(|format| format.as_u64() != Some(FORMAT)) {
            return Err(invalid(format!("format {format}, but this evalsuite reads format {FORMAT}")));
        }
        let rows = json.get("rows").and_then(Value::as_array);
        let rows = rows.ok_or_else(|| invalid("`rows` is missing, or no list".to_owned()))?;
        let word = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        let (machine, date) = (word("machine"), word("date").or_else(|| word("finished")));
        let source = word("source").or_else(|| source_in_words(path, machine.as_deref(), date.as_deref()));
        let rows = rows.iter().enumerate().map(|(index, row)| {
            let place = format!("rows[{index}]");
            let row = ElsewhereRow::deserialize(row).map_err(|error| invalid(format!("{place}: {error}")))?;
            row.check().map_err(|(key, what)| invalid(format!("{place}.{key} {what}")))?;
            Ok(ElsewhereRow { source: row.source.or_else(|| source.clone()), ..row })
        });
        let rows = rows.collect::<Result<_, RecordError>>()?;
        Ok(Self { path: path.to_owned(), sha256: sha256(text.as_bytes()), machine, date, rows })
    }

    fn of_tool(told: tools::Told, text: &str, path: &str) -> Result<Self, String> {
        let tools::Told { tool, date, mut rows } = told;
        for (index, row) in rows.iter_mut().enumerate() {
            row.check().map_err(|(key, what)| format!("row {index} of {tool}: {key} {what}"))?;
            row.source = source_in_words(path, Some(&tool), date.as_deref());
        }
        if rows.is_empty() {
            return Err(format!("{tool} tells of no figure that a row could have"));
        }
        Ok(Self { path: path.to_owned(), sha256: sha256(text.as_bytes()), machine: None, date, rows })
    }

    /// Every row with its source; one without is refused, for a report must say where figures come from.
    pub fn into_sourced(self) -> Result<Vec<(ElsewhereRow, String)>, RecordError> {
        let sourced = |(index, row): (usize, ElsewhereRow)| match row.source.clone() {
            Some(source) => Ok((row, source)),
            None => Err(RecordError::invalid(
                format!("--vs {}: rows[{index}]: `source` is missing", self.path),
                format!("say where the figures come from, in the row or once beside `rows`; {HINT}"),
            )),
        };
        self.rows.into_iter().enumerate().map(sourced).collect()
    }
}

/// A document, or a list of what stands on lines of their own.
fn json_or_lines(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| {
        let lines = text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str::<Value>);
        let lines: Option<Vec<Value>> = lines.map(Result::ok).collect();
        lines.filter(|lines| lines.iter().all(Value::is_object)).map(Value::Array).ok_or(error)
    })
}

/// `bench.json (an H200, 2026-01-01)`; nothing where the file says neither.
fn source_in_words(path: &str, machine_or_tool: Option<&str>, date: Option<&str>) -> Option<String> {
    let about: Vec<&str> = [machine_or_tool, date].into_iter().flatten().collect();
    let name = path.rsplit('/').next().unwrap_or_default();
    (!about.is_empty()).then(|| format!("{name} ({})", about.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SweepAxis;
    use crate::record::elsewhere::UNKNOWN;

    fn parse(text: &str) -> Result<Elsewhere, RecordError> {
        Elsewhere::parse(text, "there/p.json")
    }

    #[test]
    fn both_spellings_of_a_row_are_one() {
        let rows = |row: &str| parse(&format!("{{\"rows\": [{{\"engine\": \"e\", {row}}}]}}")).unwrap().rows;
        let plain = rows(
            r#""precision": "f16", "model": "m", "load_seconds": 1, "load_first_token_seconds": 2, "ttft_milliseconds": 3,
               "decode_tokens_per_second": 4, "concurrent_tokens_per_second": 5, "workload_seconds": 6, "tokens_per_second": 7"#,
        );
        let short = rows(
            r#""dtype": "f16", "shape": "m", "load_s": 1, "load_first_token_s": 2, "b1_ttft_ms": 3,
               "b1_decode_tok_s": 4, "req500_128_64_tok_s": 5, "gsm8k_shape_s": 6, "gsm8k_shape_tok_s": 7"#,
        );
        assert_eq!(plain, short);
        assert_eq!((plain[0].tokens_per_second, plain[0].n), (Some(7.0), None));
    }

    #[test]
    fn a_sweep_s_points_stand_by_their_number() {
        let text = r#"{"rows": [{"engine": "e", "dtype": "f16", "sweeps": {"requests": {"10": 5, "500": 70.5}, "batch": {"1": 2}}}]}"#;
        let row = &parse(text).unwrap().rows[0];
        let points: Vec<_> = row.sweep_points().collect();
        let wanted = [(SweepAxis::Batch, 1, 2.0), (SweepAxis::Requests, 10, 5.0), (SweepAxis::Requests, 500, 70.5)];
        assert_eq!(points, wanted);
    }

    #[test]
    fn a_row_s_source_is_its_own_or_the_file_s() {
        let row = r#"{"engine": "e", "precision": "f16"}"#;
        let source = |head: &str, row: &str| {
            parse(&format!("{{{head}\"rows\": [{row}]}}")).unwrap().into_sourced().map(|rows| rows[0].1.clone())
        };
        assert_eq!(source("\"source\": \"a paper\", ", row).unwrap(), "a paper");
        assert_eq!(
            source("\"machine\": \"an H200\", \"date\": \"2026-01-01\", ", row).unwrap(),
            "p.json (an H200, 2026-01-01)"
        );
        let own = r#"{"engine": "e", "precision": "f16", "source": "mine"}"#;
        assert_eq!(source("\"source\": \"a paper\", ", own).unwrap(), "mine");
        let error = source("", row).unwrap_err().to_string();
        assert!(error.contains("rows[0]: `source` is missing") && error.contains("hint: say where"), "{error}");
    }

    /// Files in `tests/data/interchange`, whose README says who made them.
    fn of_tool(name: &str) -> Elsewhere {
        Elsewhere::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/interchange").join(name)).unwrap()
    }

    #[test]
    fn vllm_s_lines_are_the_levels_of_one_server() {
        let file = of_tool("vllm.jsonl");
        let row = &file.rows[0];
        assert_eq!((file.rows.len(), row.engine.as_str(), row.precision.as_str()), (1, "vllm", UNKNOWN));
        assert_eq!(row.model.as_deref(), Some("tiny-1B"));
        let levels: Vec<_> = row.load.iter().map(|point| (point.users, point.rate, point.tokens_per_second)).collect();
        let wanted = [(Some(1), None, Some(256.0)), (Some(16), None, Some(2560.0)), (None, Some(20.0), Some(1248.0))];
        assert_eq!(levels, wanted);
        assert_eq!((row.tokens_per_second, row.decode_tokens_per_second), (Some(2560.0), Some(250.0)));
        let first = row.load[0];
        assert_eq!((first.ttft_mean_ms, first.ttft_p50_ms, first.ttft_p99_ms), (Some(12.5), Some(12.0), Some(18.0)));
        assert_eq!((first.itl_mean_ms, first.itl_p50_ms, first.itl_p99_ms), (Some(4.0), Some(3.9), Some(6.0)));
        assert_eq!((first.e2e_mean_ms, first.e2e_p50_ms, first.e2e_p99_ms), (Some(264.0), Some(262.0), Some(280.0)));
        assert_eq!((first.requests_per_second, first.seconds), (Some(4.0), Some(50.0)));
        assert_eq!(row.source.as_deref(), Some("vllm.jsonl (vllm bench serve, 20260115-101500)"));
    }

    #[test]
    fn guidellm_s_and_aiperf_s_figures_are_milliseconds() {
        let row = of_tool("guidellm.json").rows.remove(0);
        let point = row.load[0];
        assert_eq!((row.load.len(), point.users, row.model.as_deref()), (1, Some(2), Some("bundled")));
        let near = |value: Option<f64>, wanted: f64| assert!((value.unwrap() - wanted).abs() < 1e-3, "{value:?}");
        near(point.tokens_per_second, 475.8889);
        near(point.ttft_p50_ms, 19.2838);
        near(point.itl_mean_ms, 2.2035);
        near(point.e2e_mean_ms, 53.2748);
        near(point.seconds, 0.40346);
        let row = of_tool("aiperf.json").rows.remove(0);
        let point = row.load[0];
        assert_eq!((point.users, row.model.as_deref()), (Some(4), Some("bundled")));
        near(point.tokens_per_second, 465.3142);
        near(point.requests_per_second, 29.3111);
        near(point.ttft_p99_ms, 55.7139);
        near(point.itl_p50_ms, 5.4908);
        near(point.e2e_p99_ms, 201.7849);
        near(point.seconds, 0.80397);
        assert!(row.source.unwrap().starts_with("aiperf.json (aiperf 0.13.0, "));
    }

    #[test]
    fn llama_bench_has_a_row_a_model_with_its_format() {
        let rows = of_tool("llama-bench.json").rows;
        let names: Vec<_> = rows.iter().map(|row| (row.precision.as_str(), row.model.as_deref().unwrap())).collect();
        assert_eq!(names, [("q4_k", "tiny-1B"), ("f16", "tiny-1B")]);
        assert_eq!((rows[0].decode_tokens_per_second, rows[0].ttft_milliseconds), (Some(118.9), Some(20.0)));
        assert_eq!((rows[1].decode_tokens_per_second, rows[1].ttft_milliseconds), (Some(60.0), None));
        assert_eq!((rows[0].engine.as_str(), rows[0].device.as_deref()), ("llama.cpp b5163", Some("A GPU")));
        assert!(rows[0].note.as_deref().unwrap().contains("pp512 7100.0 tokens/s"), "{:?}", rows[0].note);
        assert!(rows[0].note.as_deref().unwrap().contains("tg64 at depth 4096 110.0 tokens/s"), "{:?}", rows[0].note);
    }

    #[test]
    fn the_harness_s_results_alone_are_rows_of_accuracy() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/interchange/lm-eval/bundled");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let results = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let mut rows: Vec<_> = results.flat_map(|path| Elsewhere::read(&path).unwrap().rows).collect();
        rows.sort_by(|one, other| one.note.cmp(&other.note));
        let told: Vec<_> = rows.iter().map(|row| (row.note.as_deref().unwrap(), row.n)).collect();
        let wanted = [
            ("arithmetic_here: exact_match,strict-match", Some(12)),
            ("arithmetic_repeats: exact_match,strict-match", Some(12)),
            ("choices_here: acc,none", Some(6)),
        ];
        assert_eq!(told, wanted);
        assert!((rows[0].accuracy_percent.unwrap() - 250.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_bad_file_is_refused_with_its_place() {
        for (text, part) in [
            ("{\n x", "line 2"),
            ("{}", "`rows` is missing"),
            (r#"{"format": 2, "rows": []}"#, "format 2"),
            (r#"{"rows": [{"engine": "P"}]}"#, "rows[0]: missing field `precision`"),
            (r#"{"rows": [{"engine": "P", "dtype": "f16", "loads": 1}]}"#, "rows[0]: unknown field `loads`"),
            (r#"{"rows": [{"engine": "P", "dtype": "f16", "load_s": -1}]}"#, "rows[0].load_seconds -1 is out of range"),
            (r#"{"rows": [{"engine": "P", "dtype": "f16", "load_s": 1, "load_seconds": 1}]}"#, "duplicate field"),
            (r#"{"rows": [{"engine": " ", "dtype": "f16"}]}"#, "rows[0].engine is empty"),
            (r#"{"rows": [{"engine": "P", "dtype": "f16", "sweeps": {"depth": {}}}]}"#, "unknown variant `depth`"),
            (r#"{"rows": [{"engine": "P", "dtype": "f16", "sweeps": {"batch": {"x": 1}}}]}"#, "rows[0]: invalid"),
            (
                r#"{"rows": [{"engine": "P", "dtype": "f16", "sweeps": {"batch": {"4": 0}}}]}"#,
                "rows[0].sweeps has 0 at batch 4: leave out",
            ),
            (
                r#"{"rows": [{"engine": "P", "dtype": "f16", "load": [{"seconds": 1}]}]}"#,
                "rows[0].load has a point without",
            ),
            (
                r#"{"rows": [{"engine": "P", "dtype": "f16", "load": [{"users": 1, "ttft_p50_ms": -1}]}]}"#,
                "rows[0].load has -1 as TTFT 50 %: leave out",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("p.json") && error.contains("\nhint: "), "{text}: {error}");
        }
    }
}
