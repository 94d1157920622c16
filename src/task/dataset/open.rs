//! A dataset: its rows as a task reads them, with their provenance.

use std::collections::BTreeSet;

use super::locate::{Located, locate};
use super::read;
use super::row::Outcome;
use super::spec::DatasetSpec;
use crate::hub::Hub;
use crate::task::definition::Task;
use crate::task::{Sample, TaskError};

/// Rows with their provenance.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// A short name for tables: `bundled`, `openai/gsm8k`, the file's name.
    pub name: String,
    /// `bundled`, the hub address with commit and file, or the absolute path.
    pub source: String,
    /// The split.
    pub split: String,
    /// SHA-256 of the file; of several shards, that of their hashes in hexadecimal, one after the other.
    pub sha256: String,
    /// Those that were asked for of the rows that can be scored, in order.
    pub samples: Vec<Sample>,
    /// All rows, those too that cannot be scored.
    pub rows: usize,
    /// Rows whose reference is no number, where the task leaves such rows out.
    pub left_out: usize,
}

impl Dataset {
    /// Opens a dataset in GSM8K's form: a `question`, and an `answer` that ends in `#### N`.
    pub fn open(spec: &DatasetSpec, hub: &Hub) -> Result<Self, TaskError> {
        Self::open_as(&Task::gsm8k()?, spec, hub, |_| true)
    }

    /// Opens a dataset as a task's. Every row is read and must be one of the task's; kept are those that `keep` says, of the rows that
    /// can be scored, one after the other. An empty dataset, or a row without a question or a reference, is an error that names the row.
    pub fn open_as(
        task: &Task,
        spec: &DatasetSpec,
        hub: &Hub,
        keep: impl FnMut(&Sample) -> bool,
    ) -> Result<Self, TaskError> {
        let located = locate(spec, hub)?;
        let sha256 = located.checked_sha256()?;
        Self::read(task, spec, &located, &sha256, keep)
    }

    /// Opens a dataset as a task's and keeps those rows whose numbers `choose` gives, among the rows that can be scored: it is asked once
    /// these are counted.
    pub(crate) fn pick(
        task: &Task,
        spec: &DatasetSpec,
        hub: &Hub,
        choose: impl FnOnce(&Self) -> Result<BTreeSet<usize>, TaskError>,
    ) -> Result<Self, TaskError> {
        let located = locate(spec, hub)?;
        let sha256 = located.checked_sha256()?;
        let chosen = choose(&Self::read(task, spec, &located, &sha256, |_| false)?)?;
        let mut number = 0..;
        Self::read(task, spec, &located, &sha256, |_| number.next().is_some_and(|number| chosen.contains(&number)))
    }

    fn read(
        task: &Task,
        spec: &DatasetSpec,
        located: &Located,
        sha256: &str,
        mut keep: impl FnMut(&Sample) -> bool,
    ) -> Result<Self, TaskError> {
        let (mut samples, mut rows, mut left_out) = (Vec::new(), 0, 0);
        for file in &located.files {
            for row in read::rows(file, &task.layout)? {
                match row?.into_sample(&task.layout, rows)? {
                    Outcome::Sample(sample) if keep(&sample) => samples.push(sample),
                    Outcome::Sample(_) => {}
                    Outcome::LeftOut => left_out += 1,
                }
                rows += 1;
            }
        }
        if left_out == rows {
            let what = match rows {
                0 => format!("{} holds no rows", located.source),
                rows => {
                    format!("{} holds no row that can be scored: of {rows}, no reference is a number", located.source)
                }
            };
            return Err(TaskError::invalid(
                what,
                format!("give a file with at least one question and reference, as the task `{}` reads them", task.name),
            ));
        }
        let (name, source) = (located.name.clone(), located.source.clone());
        Ok(Self { name, source, split: spec.split.clone(), sha256: sha256.to_owned(), samples, rows, left_out })
    }

    /// How many rows can be scored.
    pub(crate) fn scored(&self) -> usize {
        self.rows - self.left_out
    }
}
