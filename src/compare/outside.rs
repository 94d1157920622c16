//! Rows that were measured elsewhere, by vLLM, transformers or anything else, among a report's own.

use std::path::Path;

use super::rows::{ComparisonRow, Score, rule_groups};
use crate::record::{Elsewhere, ElsewhereRow, RecordError};
use crate::score::statistics::{Proportion, wilson};

/// One row of a `--vs` file, and where its figures come from.
pub type OutsideRow = (ElsewhereRow, String);

/// Reads a `--vs` file.
pub fn read_outside(path: &Path) -> Result<Vec<OutsideRow>, RecordError> {
    Elsewhere::read(path)?.into_sourced()
}

/// As a row of the table; the accuracy stands under every rule, for none of them was used. Its interval is Wilson's on the whole
/// number of right answers that is nearest.
pub(super) fn outside_row((outside, source): (ElsewhereRow, String), rules: &[String]) -> ComparisonRow {
    let accuracy = outside.accuracy_percent.zip(outside.n).and_then(|(percent, n)| {
        let right = (percent / 100.0 * n as f64).round() as usize;
        wilson(right, n).map(|interval| Proportion { value: percent / 100.0, ..interval })
    });
    let score = |rule: &String| Score {
        rule: rule.clone(),
        extracted: None,
        extracted_from_cut: None,
        accuracy,
        against: None,
        smallest_difference: None,
        is_damage: false,
        repeats: None,
        cost: None,
    };
    let scores: Vec<Score> = rules.iter().map(score).collect();
    ComparisonRow {
        label: format!("{} {}", outside.engine, outside.precision),
        name: String::new(),
        run: None,
        model: outside.model,
        engine: outside.engine,
        precision: outside.precision,
        device: outside.device,
        reference: None,
        divergence: None,
        n: outside.n,
        answered: None,
        cut: None,
        rules: rule_groups(&scores),
        scores,
        lengths: None,
        costs: Vec::new(),
        output_tokens: None,
        generate_seconds: None,
        tokens_per_second: outside.tokens_per_second,
        speed_ratio: None,
        load_seconds: outside.load_seconds,
        memory_bytes: outside.peak_memory_bytes,
        device_memory: None,
        peak_memory_bytes: outside.peak_memory_bytes,
        memory_is_process_wide: false,
        failure: None,
        note: outside.note,
        source: Some(source),
    }
}
