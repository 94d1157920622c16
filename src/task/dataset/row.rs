//! A row of a data file, and the sample that a task makes of it.

use super::data_file::shortened;
use crate::score::exact_value;
use crate::task::definition::{Found, Layout};
use crate::task::{Sample, TaskError};

/// A row as read: what its columns hold, in the order of [`Layout::columns`].
pub(super) struct Row {
    /// Where it stands: `line 3 of a.jsonl`.
    pub(super) place: String,
    /// `None` where the row has nothing.
    pub(super) cells: Vec<Option<Cell>>,
}

/// What stands in one column of one row.
pub(super) enum Cell {
    Text(String),
    /// A number in its canonical writing.
    Number(String),
    /// Anything else, as the file writes it.
    Other(String),
}

impl Cell {
    /// A number as a file or a library writes it, exactly; one that 128 bits do not hold stays as it is written.
    pub(super) fn number(written: &str) -> Self {
        Self::Number(exact_value(written).unwrap_or_else(|| written.to_owned()))
    }
}

/// What became of a row.
pub(super) enum Outcome {
    Sample(Sample),
    /// Its reference is no number, and the task leaves such rows out.
    LeftOut,
}

impl Row {
    /// The sample that a task's layout makes of this row, number `index` of the dataset.
    pub(super) fn into_sample(mut self, layout: &Layout, index: usize) -> Result<Outcome, TaskError> {
        let columns = layout.columns();
        let mut parts = Vec::new();
        for (at, column) in columns.iter().enumerate().take(layout.question.len()) {
            match self.cells[at].take() {
                Some(Cell::Text(text)) if !text.trim().is_empty() => parts.push(text),
                None | Some(Cell::Text(_)) => return Err(refused(format!("{} has no `{column}`", self.place), layout)),
                Some(Cell::Number(value) | Cell::Other(value)) => return Err(no_text(&self.place, column, &value)),
            }
        }
        let question = parts.join(" ");
        let answer = self.value(layout.question.len(), &columns)?;
        let answer = answer.ok_or_else(|| refused(format!("{} has no `{}`", self.place, layout.answer), layout))?;
        let cluster = if layout.cluster.is_some() { self.value(columns.len() - 1, &columns)? } else { None };
        match layout.reference.find(&answer) {
            Found::Value(reference) => Ok(Outcome::Sample(Sample { index, question, answer, reference, cluster })),
            Found::LeftOut => Ok(Outcome::LeftOut),
            Found::Nothing(why) => {
                Err(refused(format!("{}: `{}` is {}", self.place, layout.answer, shortened(&why)), layout))
            }
        }
    }

    /// A text or a number; nothing where there is nothing or a blank.
    fn value(&mut self, at: usize, columns: &[&str]) -> Result<Option<String>, TaskError> {
        match self.cells[at].take() {
            Some(Cell::Text(text) | Cell::Number(text)) => Ok((!text.trim().is_empty()).then_some(text)),
            None => Ok(None),
            Some(Cell::Other(value)) => Err(no_text(&self.place, columns[at], &value)),
        }
    }
}

fn refused(what: String, layout: &Layout) -> TaskError {
    let question: Vec<String> = layout.question.iter().map(|name| format!("`{name}`")).collect();
    let hint = format!(
        "every row needs {} and `{}` with {}, as the task says; other columns are named in a task file (`--task FILE`)",
        question.join(", "),
        layout.answer,
        layout.reference.in_words()
    );
    TaskError::invalid(what, hint)
}

fn no_text(place: &str, column: &str, value: &str) -> TaskError {
    TaskError::invalid(
        format!("{place} has a `{column}` that is no text: {}", shortened(value)),
        format!("write the column `{column}` as UTF-8 strings"),
    )
}

/// A column that a file, or a row of it, does not have.
pub(super) fn no_column(place: &str, column: &str, present: &[&str]) -> TaskError {
    let meant = crate::text::nearest(column, present.iter().copied());
    let meant = meant.map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
    TaskError::invalid(
        format!("{place} has no column `{column}`"),
        format!(
            "{meant}the columns there are: {}; a task file (`--task FILE`) says which hold what",
            present.join(", ")
        ),
    )
}
