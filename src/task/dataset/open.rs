//! A dataset: its rows as a task reads them, with their provenance.

use super::locate::locate;
use super::read::read_rows;
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
    /// Every row that can be scored, in order.
    pub samples: Vec<Sample>,
    /// Rows whose reference is no number, where the task leaves such rows out.
    pub left_out: Vec<usize>,
}

impl Dataset {
    /// Opens a dataset in GSM8K's form: a `question`, and an `answer` that ends in `#### N`.
    pub fn open(spec: &DatasetSpec, hub: &Hub) -> Result<Self, TaskError> {
        Self::open_as(&Task::gsm8k()?, spec, hub)
    }

    /// Opens a dataset as a task's. An empty one, or a row without a question or a reference, is an error that names the row.
    pub fn open_as(task: &Task, spec: &DatasetSpec, hub: &Hub) -> Result<Self, TaskError> {
        let located = locate(spec, hub)?;
        let sha256 = located.sha256();
        located.check(&sha256)?;
        let (mut samples, mut left_out) = (Vec::new(), Vec::new());
        for file in &located.files {
            for row in read_rows(file, &task.layout)? {
                let index = samples.len() + left_out.len();
                match row.into_sample(&task.layout, index)? {
                    Outcome::Sample(sample) => samples.push(sample),
                    Outcome::LeftOut => left_out.push(index),
                }
            }
        }
        if samples.is_empty() {
            let what = match left_out.len() {
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
        let (name, source) = (located.name, located.source);
        Ok(Self { name, source, split: spec.split.clone(), sha256, samples, left_out })
    }

    /// Rows there are, with those that are left out.
    pub fn rows(&self) -> usize {
        self.samples.len() + self.left_out.len()
    }
}
