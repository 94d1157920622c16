//! CSV: one line a sample, repeat and row of the table.

use super::{Report, ReportFormat};
use crate::compare::comparison::Comparison;
use crate::compare::samples::{Questions, divergence_of};
use crate::compare::source::{Source, sources};
use crate::engine::Finish;
use crate::jobs::eval::{StoredRun, share_of};
use crate::record::StoredCompletion;
use crate::report::ReportError;
use crate::shown::csv_cell;

/// `--format csv`.
#[derive(Debug)]
pub(super) struct Csv;

impl ReportFormat for Csv {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn description(&self) -> &'static str {
        "a line a sample and variant"
    }

    fn most_answers(&self) -> usize {
        usize::MAX
    }

    fn render(&self, report: &Report) -> Result<String, ReportError> {
        csv(report.comparison, report.runs, report.csv_raw)
    }
}

/// Nothing measured is an empty cell.
fn csv(comparison: &Comparison, runs: &[StoredRun], raw: bool) -> Result<String, ReportError> {
    let fault = |error: &dyn std::fmt::Display| ReportError::fault("CSV", error);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |cells: Vec<String>| {
        let cells = cells.into_iter().map(|cell| if raw { cell } else { csv_cell(&cell).into_owned() });
        writer.write_record(cells).map_err(|error| fault(&error))
    };
    write(header(comparison))?;
    let questions: Vec<Questions> = runs.iter().map(Questions::new).collect();
    let sources = sources(runs);
    for (index, source) in sources.iter().enumerate() {
        let divergence = divergence_of(comparison, &sources, index);
        let of_row = comparison
            .notes
            .iter()
            .filter(|note| note.row == Some(index) || note.row.is_none() && note.run == source.run);
        let notes = of_row.map(|note| note.finding.kind.name()).collect::<Vec<_>>().join(" ");
        for completion in source.completions() {
            let mut cells = common(comparison, index, source, completion);
            let question = questions[source.run].of(completion.sample);
            cells.push(question.map_or_else(String::new, |sample| sample.question.clone()));
            cells.push(question.map_or_else(String::new, |sample| sample.answer.clone()));
            cells.push(divergence.of(completion).map_or_else(String::new, |first| first.to_string()));
            cells.push(notes.clone());
            let (seconds, joules) = share_of(&source.stored.record.dtypes[source.dtype], completion);
            cells.extend([seconds, joules].map(|share| share.map_or_else(String::new, |share| format!("{share:.6}"))));
            for rule in &comparison.rules {
                let score = completion.scores.iter().find(|score| score.rule == *rule);
                cells.push(score.and_then(|score| score.value.clone()).unwrap_or_default());
                cells.push(score.map_or_else(String::new, |score| score.correct.to_string()));
            }
            cells.push(completion.text.clone());
            write(cells)?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| fault(&error))?;
    String::from_utf8(bytes).map_err(|error| fault(&error))
}

fn header(comparison: &Comparison) -> Vec<String> {
    let fixed = [
        "row",
        "run",
        "model",
        "dtype",
        "sample",
        "repeat",
        "finish",
        "prompt_tokens",
        "output_tokens",
        "total_seconds",
        "question",
        "reference",
        "first_divergence",
        "notes",
        "cost_seconds",
        "cost_joules",
    ];
    let rules = comparison.rules.iter().flat_map(|rule| [format!("{rule}_value"), format!("{rule}_correct")]);
    fixed.into_iter().map(str::to_owned).chain(rules).chain(["text".to_owned()]).collect()
}

/// Nothing where a target does not tell.
fn known(count: Option<usize>) -> String {
    count.map_or_else(String::new, |count| count.to_string())
}

fn common(comparison: &Comparison, index: usize, source: &Source, completion: &StoredCompletion) -> Vec<String> {
    let row = &comparison.rows[index];
    vec![
        row.label.clone(),
        comparison.runs[source.run].folder.clone(),
        row.model.clone().unwrap_or_default(),
        row.precision.clone(),
        completion.sample.to_string(),
        completion.repeat.to_string(),
        completion.finish.name().to_owned(),
        known(completion.prompt_tokens),
        known(completion.output_tokens()),
        // Of what was made elsewhere no time is known.
        if completion.finish == Finish::Unknown {
            String::new()
        } else {
            format!("{:.6}", completion.timings.total_seconds)
        },
        // question, reference and the first divergence follow
    ]
}
