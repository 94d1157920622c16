//! Runs side by side: one row a run and precision, rows measured elsewhere among them, and what changed between rows.

use rayon::prelude::*;
use serde::Serialize;

use super::digest::{Column, Digest};
use super::divergence::{self, Divergence};
use super::gate::Gate;
use super::outside::{OutsideRow, outside_row};
use super::pairs::{self, Pair};
use super::provenance::{self, Provenance};
use super::rows::{self, ComparisonRow};
use super::source::{Source, sources};
use super::{labels, verdict};
use crate::jobs::eval::{
    DEFAULT_MARGIN_POINTS, Finding, PlaceboRow, StoredRun, placebo_rows, placebo_sentences, sentences, together,
};
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
    /// What is implausible about the runs.
    pub notes: Vec<Note>,
    /// The notes as sentences; rows of which the same is found share one.
    pub note_sentences: Vec<String>,
    /// Notes were denied (`--deny-notes`): each is a failure.
    pub deny_notes: bool,
    /// Every rule of any run, the headline first: it decides verdict and gate.
    pub rules: Vec<String>,
    /// Where the rows come from, one a run.
    pub runs: Vec<Provenance>,
    /// One a run and variant, in the order of the runs; rows measured elsewhere last.
    pub rows: Vec<ComparisonRow>,
    /// What the references are called: `f32`, or what runs name instead; `reference` where these differ.
    pub reference: String,
    /// Indices of the rows that are compared with a reference.
    pub compared: Vec<usize>,
    /// Every two rows on the same questions, under each rule; of more than 32 such rows, each with its reference alone.
    pub pairs: Vec<Pair>,
    /// Where answers first leave their reference.
    pub divergences: Vec<Divergence>,
    /// Some row has several answers a question.
    pub has_repeats: bool,
    /// What intervals make of answers that belong together, a sentence each.
    pub together: Vec<String>,
    /// What variants change beyond their runs' placebos by the headline rule, a row a measure.
    pub placebos: Vec<PlaceboRow>,
    /// The same about answers that flip, a sentence each.
    pub placebo_sentences: Vec<String>,
    /// Each compared row beside the noise floor, a sentence each; none where no floor was given.
    pub noise: Vec<String>,
    /// Against a baseline, where one was given.
    pub gate: Option<Gate>,
}

/// A finding about one of the runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Note {
    /// Index of the run.
    pub run: usize,
    /// Index of the row that it is about; `None` where it is about the run.
    pub row: Option<usize>,
    /// The whole sentence; of several runs it begins with the run's name.
    pub message: String,
    /// Kind, value, threshold, remedy.
    pub finding: Finding,
}

impl Comparison {
    /// Of finished runs, with rows that were measured elsewhere and what a baseline says.
    pub fn new(runs: &[StoredRun], outside: Vec<OutsideRow>, gate: Option<Gate>, command: Vec<String>) -> Self {
        Self::of(runs, &runs.par_iter().map(Digest::new).collect::<Vec<_>>(), outside, gate, command)
    }

    /// The same of runs with their digests, one each; completions are not looked at.
    pub fn of(
        runs: &[StoredRun],
        digests: &[Digest],
        outside: Vec<OutsideRow>,
        gate: Option<Gate>,
        command: Vec<String>,
    ) -> Self {
        let sources = sources(runs);
        let columns: Vec<&Column> = digests.iter().flat_map(|digest| &digest.columns).collect();
        let rules = rules(runs);
        let references = rows::references(&sources);
        let pairs = pairs::pairs(&sources, &columns, &references, &rules);
        let names = labels::run_names(runs);
        let divergences = divergence::divergences(&sources, &columns, &references);
        let mut rows = rows::rows(&sources, &names, &references, &pairs, &rules);
        for (index, divergence) in divergences.iter().enumerate() {
            rows[divergence.row].divergence = Some(index);
        }
        let headline = rules.first().map_or("", String::as_str);
        let verdict = verdict::verdict(&sources, &rows, headline, DEFAULT_MARGIN_POINTS, gate.as_ref());
        let notes = notes(digests, &sources, &names);
        let (placebos, placebo_sentences) = placebos(runs, &names, headline);
        rows.extend(outside.into_iter().map(|row| outside_row(row, &rules)));
        Self {
            format: COMPARISON_FORMAT,
            evalsuite: env!("CARGO_PKG_VERSION").to_owned(),
            made: utc_now(),
            command,
            verdict,
            note_sentences: note_sentences(&notes, &names),
            notes,
            deny_notes: false,
            runs: runs.iter().map(provenance::provenance).collect(),
            divergences,
            reference: rows::reference_name(&sources, &references),
            compared: (0..rows.len())
                .filter(|index| rows[*index].scores.iter().any(|score| score.against.is_some()))
                .collect(),
            has_repeats: rows.iter().flat_map(|row| &row.scores).any(|score| score.repeats.is_some()),
            together: together_in_words(runs, &names),
            rules,
            rows,
            pairs,
            noise: Vec::new(),
            placebos,
            placebo_sentences,
            gate,
        }
    }
}

/// Of several runs each variant, and each sentence, begins with the run's name.
fn placebos(runs: &[StoredRun], names: &[String], rule: &str) -> (Vec<PlaceboRow>, Vec<String>) {
    let named = |name: &str, text: String| format!("{name} {text}").trim_start().to_owned();
    let rows = runs.iter().zip(names).flat_map(|(run, name)| {
        let rows = placebo_rows(&run.record.placebos, rule).into_iter();
        rows.map(move |row| PlaceboRow { variant: named(name, row.variant), ..row })
    });
    let sentences = runs.iter().zip(names).flat_map(|(run, name)| {
        placebo_sentences(&run.record.placebos, rule).into_iter().map(move |sentence| named(name, sentence))
    });
    (rows.collect(), sentences.collect())
}

/// Of several runs each sentence begins with the run's name.
fn together_in_words(runs: &[StoredRun], names: &[String]) -> Vec<String> {
    let of_run = |(run, name): (&StoredRun, &String)| {
        let name = if name.is_empty() { String::new() } else { format!("{name}: ") };
        together(&run.record).map(|sentence| name + &sentence)
    };
    runs.iter().zip(names).filter_map(of_run).collect()
}

fn note_sentences(notes: &[Note], names: &[String]) -> Vec<String> {
    let of_run = |(run, name): (usize, &String)| {
        let first = notes.partition_point(|note| note.run < run);
        let own = notes[first..].iter().take_while(|note| note.run == run);
        let findings: Vec<Finding> = own.map(|note| note.finding.clone()).collect();
        let name = if name.is_empty() { String::new() } else { format!("{name} ") };
        sentences(&findings).into_iter().map(|sentence| format!("{name}{sentence}")).collect::<Vec<_>>()
    };
    names.iter().enumerate().flat_map(of_run).collect()
}

fn notes(digests: &[Digest], sources: &[Source], names: &[String]) -> Vec<Note> {
    let of_run = |(run, digest): (usize, &Digest)| {
        let name = names.get(run).filter(|name| !name.is_empty()).map(|name| format!("{name} ")).unwrap_or_default();
        let first = sources.partition_point(|one| one.run < run);
        let own = || (first..).zip(sources[first..].iter().take_while(|one| one.run == run));
        let note = |finding: &Finding| Note {
            run,
            row: own().find(|(_, one)| Some(one.variant()) == finding.variant.as_ref()).map(|(row, _)| row),
            message: format!("{name}{finding}"),
            finding: finding.clone(),
        };
        digest.findings.iter().map(note).collect::<Vec<_>>()
    };
    digests.iter().enumerate().flat_map(of_run).collect()
}

fn rules(runs: &[StoredRun]) -> Vec<String> {
    let mut rules: Vec<String> = runs.first().map(|run| run.record.headline().to_owned()).into_iter().collect();
    for rule in runs.iter().flat_map(|run| &run.record.dtypes).flat_map(|dtype| &dtype.rules) {
        if !rules.contains(&rule.rule) {
            rules.push(rule.rule.clone());
        }
    }
    rules
}
