//! Runs side by side: one row a run and precision, rows measured elsewhere among them, and what changed between rows.

use serde::Serialize;

use super::divergence::{self, Divergence};
use super::gate::Gate;
use super::outside::{OutsideRow, outside_row};
use super::pairs::{self, Pair};
use super::provenance::{self, Provenance};
use super::rows::{self, ComparisonRow};
use super::source::sources;
use super::{labels, verdict};
use crate::jobs::eval::StoredRun;
use crate::record::utc_now;

/// The version of the comparison's JSON; raised when a field changes its meaning.
pub const COMPARISON_FORMAT: u32 = 1;

/// What a report's template sees, and what `--format json` prints: numbers, `null` where nothing was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// [`COMPARISON_FORMAT`].
    pub format: u32,
    /// The version of evalsuite that made the report.
    pub evalsuite: String,
    /// When, UTC.
    pub made: String,
    /// The report's own command line, word by word.
    pub command: Vec<String>,
    /// One line: what became of accuracy, and of the gate.
    pub verdict: String,
    /// Every rule of any run, the first run's first rule first.
    pub rules: Vec<String>,
    /// Where the rows come from, one a run.
    pub runs: Vec<Provenance>,
    /// One a run and variant, in the order of the runs; rows measured elsewhere last.
    pub rows: Vec<ComparisonRow>,
    /// What the references are called: `f32`, or what runs name instead; `reference` where these differ.
    pub reference: String,
    /// Indices of the rows that are compared with a reference.
    pub compared: Vec<usize>,
    /// Every two rows on the same questions, under each rule.
    pub pairs: Vec<Pair>,
    /// Where answers first leave their reference.
    pub divergences: Vec<Divergence>,
    /// Against a baseline, where one was given.
    pub gate: Option<Gate>,
}

impl Comparison {
    /// Of finished runs, with rows that were measured elsewhere and what a baseline says.
    pub fn new(runs: &[StoredRun], outside: Vec<OutsideRow>, gate: Option<Gate>, command: Vec<String>) -> Self {
        let sources = sources(runs);
        let rules = rules(runs);
        let references = rows::references(&sources);
        let pairs = pairs::pairs(&sources, &rules);
        let names = labels::run_names(runs);
        let mut rows = rows::rows(&sources, &names, &references, &pairs, &rules);
        let primary = rules.first().map_or("", String::as_str);
        let verdict = verdict::verdict(&rows, primary, gate.as_ref());
        rows.extend(outside.into_iter().map(|row| outside_row(row, &rules)));
        Self {
            format: COMPARISON_FORMAT,
            evalsuite: env!("CARGO_PKG_VERSION").to_owned(),
            made: utc_now(),
            command,
            verdict,
            runs: runs.iter().map(provenance::provenance).collect(),
            divergences: divergence::divergences(&sources, &references),
            reference: rows::reference_name(&sources, &references),
            compared: (0..rows.len())
                .filter(|index| rows[*index].scores.iter().any(|score| score.against.is_some()))
                .collect(),
            rules,
            rows,
            pairs,
            gate,
        }
    }
}

fn rules(runs: &[StoredRun]) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    for rule in runs.iter().flat_map(|run| &run.record.dtypes).flat_map(|dtype| &dtype.rules) {
        if !rules.contains(&rule.rule) {
            rules.push(rule.rule.clone());
        }
    }
    rules
}
