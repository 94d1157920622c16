//! Worked examples in front of a question: the user's file, or draws from the train split.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::examples::read_examples;
use super::random::PythonRandom;
use super::{Dataset, DatasetSpec, FewshotKind, Protocol, Sample, Task, TaskError, dataset};
use crate::hub::Hub;

/// Worked examples that stand in front of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fewshot {
    /// None.
    None,
    /// The same ones for every sample: (question, target).
    Fixed(Vec<(String, String)>),
    /// Each sample's own, by row of the dataset: (question, target) lists.
    PerSample(BTreeMap<usize, Vec<(String, String)>>),
}

impl Fewshot {
    /// The examples for a protocol, and the SHA-256 of the file they come from (`None` where there are none).
    ///
    /// `file` is a data file with the columns `question` and `target`, or a task's YAML file of lm-evaluation-harness; it takes the
    /// place of whatever the protocol would draw. Without it, a protocol that draws does so from where the task says, the train
    /// split of `dataset` as a rule, for the rows of the dataset in turn, of which those for `rows` are kept: which samples a run takes
    /// never changes an example.
    pub fn load(
        protocol: &Protocol,
        file: Option<&Path>,
        (task, dataset): (&Task, &DatasetSpec),
        hub: &Hub,
        rows: impl IntoIterator<Item = usize>,
    ) -> Result<(Self, Option<String>), TaskError> {
        match (file, &protocol.fewshot_kind) {
            (None, None) => Ok((Self::None, None)),
            (Some(file), None) => Err(TaskError::invalid(
                format!(
                    "protocol `{}` takes no examples, and `--fewshot {}` gives some",
                    protocol.name,
                    file.display()
                ),
                "leave `--fewshot` out, or take a protocol with examples, such as gsm8k-cot",
            )),
            (Some(file), Some(_)) => from_file(protocol, file),
            (None, Some(FewshotKind::File { found_in })) => Err(TaskError::invalid(
                format!("protocol `{}` needs {} worked examples", protocol.name, protocol.fewshot_count),
                format!(
                    "give them by `--fewshot FILE`, a jsonl file with one {{\"question\": …, \"target\": …}} a line, or the YAML \
                     file that they are published in as it is: {found_in}"
                ),
            )),
            (None, Some(FewshotKind::Train { seed })) => {
                let spec = dataset::train_split(task, dataset)?;
                let from_itself = (&dataset.source, &dataset.split) == (&spec.source, &spec.split);
                let draws = Draws { protocol, seed: *seed, from_itself };
                let mut drawn = BTreeMap::new();
                let train = Dataset::pick(task, &spec, hub, |train| {
                    drawn = draws.of(train, &rows.into_iter().collect())?;
                    Ok(drawn.values().flatten().copied().collect())
                })?;
                let numbers: BTreeSet<usize> = drawn.values().flatten().copied().collect();
                let examples: HashMap<usize, &Sample> = numbers.into_iter().zip(&train.samples).collect();
                let example =
                    |number: &usize| examples.get(number).map(|one| (one.question.clone(), one.answer.clone()));
                let of_row = |(row, numbers): (usize, Vec<usize>)| (row, numbers.iter().filter_map(&example).collect());
                Ok((Self::PerSample(drawn.into_iter().map(of_row).collect()), Some(train.sha256)))
            }
        }
    }

    /// The examples of a row of the dataset; empty where there are none.
    pub(super) fn examples(&self, index: usize) -> &[(String, String)] {
        match self {
            Self::None => &[],
            Self::Fixed(examples) => examples,
            Self::PerSample(rows) => rows.get(&index).map_or(&[], Vec::as_slice),
        }
    }
}

fn from_file(protocol: &Protocol, file: &Path) -> Result<(Fewshot, Option<String>), TaskError> {
    let (examples, sha256) = read_examples(file)?;
    if examples.len() != protocol.fewshot_count {
        return Err(TaskError::invalid(
            format!(
                "{} holds {} examples, and protocol `{}` needs {}",
                file.display(),
                examples.len(),
                protocol.name,
                protocol.fewshot_count
            ),
            "keep exactly so many in the file: their number is part of the protocol",
        ));
    }
    Ok((Fewshot::Fixed(examples), Some(sha256)))
}

struct Draws<'a> {
    protocol: &'a Protocol,
    seed: u32,
    /// The questions are the train split's own: one more is drawn, and a question is never its own example.
    from_itself: bool,
}

impl Draws<'_> {
    /// Numbers of the examples in the train split, for each of `rows`. Draws follow one another from the first row of the dataset on.
    fn of(&self, train: &Dataset, rows: &BTreeSet<usize>) -> Result<BTreeMap<usize, Vec<usize>>, TaskError> {
        let mut random = PythonRandom::new(self.seed);
        let drawn = self.protocol.fewshot_count + usize::from(self.from_itself);
        let mut of_rows = BTreeMap::new();
        for index in 0..rows.last().map_or(0, |last| last + 1) {
            let Some(mut numbers) = random.sample(train.scored(), drawn) else {
                return Err(TaskError::invalid(
                    format!(
                        "protocol `{}` draws {drawn} examples, and {} has {} rows",
                        self.protocol.name,
                        train.source,
                        train.scored()
                    ),
                    "give a larger train split, or fixed examples by `--fewshot FILE`",
                ));
            };
            if rows.contains(&index) {
                numbers.retain(|&number| !(self.from_itself && number == index));
                numbers.truncate(self.protocol.fewshot_count);
                of_rows.insert(index, numbers);
            }
        }
        Ok(of_rows)
    }
}
