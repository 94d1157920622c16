//! What others measured, of this model and in these precisions.

use std::path::Path;

use super::{BenchRow, Peers};
use crate::jobs::JobError;
use crate::record::{Elsewhere, ElsewhereRow, UNKNOWN_PRECISION};

/// Reads the rows that belong to variants of these names (`None`: of whatever precision, for a server does not tell its own) and to the model
/// of this name: those whose model is part of the name, or, where there is none, those without a model.
pub(super) fn open(path: &Path, model: &str, names: Option<&[&str]>) -> Result<Peers, JobError> {
    Ok(chosen(Elsewhere::read(path)?, model, names))
}

/// Those of a file.
pub(super) fn chosen(elsewhere: Elsewhere, model: &str, names: Option<&[&str]>) -> Peers {
    let model = model.to_lowercase();
    let shape = elsewhere
        .rows
        .iter()
        .filter_map(|row| row.model.clone())
        .filter(|shape| model.contains(&shape.to_lowercase()))
        .max_by_key(String::len);
    let fits = |precision: &str| precision == UNKNOWN_PRECISION || names.is_none_or(|names| names.contains(&precision));
    let belongs = |row: &ElsewhereRow| row.model == shape && fits(&row.precision);
    Peers {
        source: elsewhere.path,
        sha256: elsewhere.sha256,
        machine: elsewhere.machine,
        date: elsewhere.date,
        rows: elsewhere.rows.into_iter().filter(belongs).map(bench_row).filter(has_figures).collect(),
    }
}

fn bench_row(row: ElsewhereRow) -> BenchRow {
    BenchRow {
        engine: row.engine,
        dtype: row.precision,
        shape: row.model,
        load_s: row.load_seconds,
        load_first_token_s: row.load_first_token_seconds,
        b1_ttft_ms: row.ttft_milliseconds,
        b1_decode_tok_s: row.decode_tokens_per_second,
        req500_128_64_tok_s: row.concurrent_tokens_per_second,
        gsm8k_shape_s: row.workload_seconds,
        gsm8k_shape_tok_s: row.tokens_per_second,
        sweeps: row.sweeps,
        note: row.note,
    }
}

/// Whether it says anything of speed: a row may be of accuracy alone.
fn has_figures(row: &BenchRow) -> bool {
    let figures = [
        row.load_s,
        row.load_first_token_s,
        row.b1_ttft_ms,
        row.b1_decode_tok_s,
        row.req500_128_64_tok_s,
        row.gsm8k_shape_s,
        row.gsm8k_shape_tok_s,
    ];
    !row.sweeps.is_empty() || figures.iter().any(Option::is_some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(model: &str, names: Option<&[&str]>) -> Vec<BenchRow> {
        let row = |precision: &str, shape: Option<&str>, speed: Option<f64>| ElsewhereRow {
            engine: "P 1.0".to_owned(),
            precision: precision.to_owned(),
            model: shape.map(str::to_owned),
            tokens_per_second: speed,
            ..ElsewhereRow::default()
        };
        let elsewhere = Elsewhere {
            path: "p.json".to_owned(),
            sha256: String::new(),
            machine: None,
            date: None,
            rows: vec![
                row("f16", None, Some(7.0)),
                row("awq", None, Some(100.0)),
                row("awq", None, None),
                row("f16", Some("big-7b"), Some(3.0)),
            ],
        };
        chosen(elsewhere, model, names).rows
    }

    #[test]
    fn rows_belong_to_a_model_and_a_precision_and_say_something_of_speed() {
        let both = ["f16", "awq"];
        let speeds = |rows: Vec<BenchRow>| rows.iter().filter_map(|row| row.gsm8k_shape_tok_s).collect::<Vec<_>>();
        assert_eq!(speeds(rows("small-f16", Some(&both))), [7.0, 100.0]);
        assert_eq!(rows("small-f16", Some(&both)).len(), 2, "the third has no figure");
        assert_eq!(rows("small-f16", Some(&["f32"])), []);
        assert_eq!(speeds(rows("Big-7B-f16", Some(&both))), [3.0]);
        assert_eq!(speeds(rows("small", None)), [7.0, 100.0], "a server tells no precision");
    }
}
