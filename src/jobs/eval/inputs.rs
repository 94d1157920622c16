//! Load: everything that a job names, opened and checked, and the plan that follows from it.

use std::path::Path;

use super::EvalJob;
use super::{DatasetPlan, EvalPlan, ProtocolPlan, TaskPlan};
use crate::hub::Hub;
use crate::jobs::{Checkpoints, JobError, Model, Variants, chat_template};
use crate::record::{GenerationPlan, Invocation};
use crate::task::{ChatTemplate, Dataset, Fewshot, Protocol, Sample, Selection, Task};

/// More than anybody waits for, and few enough to be held.
const MOST_COMPLETIONS: usize = 10_000_000;

/// What a run reads.
pub struct EvalInputs {
    /// The model, and what stands beside it.
    pub checkpoints: Checkpoints,
    /// What the problems are and what counts as right.
    pub task: Task,
    /// The problems that the job takes.
    pub dataset: Dataset,
    /// The protocol, with the user's changes.
    pub protocol: Protocol,
    /// Worked examples.
    pub fewshot: Fewshot,
    /// SHA-256 of the file that they came from.
    pub fewshot_sha256: Option<String>,
    /// The model's chat template, if the run uses it.
    pub chat: Option<ChatTemplate>,
    /// What the user should know about them.
    pub notes: Vec<String>,
}

impl EvalInputs {
    /// Opens what `job` names.
    pub fn load(job: &EvalJob, hub: &Hub) -> Result<Self, JobError> {
        // The cheap and the local first: a misspelt protocol should not wait for a download.
        let mut protocol = Protocol::open(&job.protocol)?;
        if let Some(rule) = &job.rule {
            protocol.set_headline(rule)?;
        }
        protocol.chat = job.chat.unwrap_or(protocol.chat);
        protocol.system = job.system.clone().or(protocol.system).filter(|system| !system.is_empty());
        let mut kept = 0;
        let dataset = Dataset::open_as(&job.task, &job.dataset, hub, |sample| {
            let keeps = job.selection.keeps(sample, kept);
            kept += usize::from(keeps);
            keeps
        })?;
        let (source, rows) = ((&job.task, &job.dataset), dataset.samples.iter().map(|sample| sample.index));
        let (fewshot, fewshot_sha256) = Fewshot::load(&protocol, job.fewshot.as_deref(), source, hub, rows)?;
        let mut checkpoints = job.target.open(hub)?;
        checkpoints.settle_api(&job.target, protocol.chat);
        let mut inputs = Self::new(checkpoints, job.task.clone(), dataset, protocol, (fewshot, fewshot_sha256))?;
        inputs.variants(job)?;
        inputs.think(job.thinking)?;
        Ok(inputs)
    }

    /// Tells the chat template whether the model is to think, where the user says so.
    pub fn think(&mut self, thinking: Option<bool>) -> Result<(), JobError> {
        let Some(thinking) = thinking else { return Ok(()) };
        if self.checkpoints.think(thinking) {
            return Ok(());
        }
        let name = self.model().name().to_owned();
        let refused = |why: &str, hint: &str| Err(JobError::invalid(format!("--thinking: {why}"), hint));
        match &mut self.chat {
            None => refused(
                "prompts are plain text, which no chat template makes",
                "leave it out, or give `--chat required`",
            ),
            Some(chat) if !chat.takes_thinking() => refused(
                &format!("the chat template of {name} does not ask `enable_thinking`"),
                "leave it out: whether this model thinks is not its template's to say",
            ),
            Some(chat) => {
                chat.set_thinking(thinking);
                Ok(())
            }
        }
    }

    /// From parts that are open already; settles whether the chat template is used.
    pub fn new(
        checkpoints: impl Into<Checkpoints>,
        task: Task,
        dataset: Dataset,
        protocol: Protocol,
        (fewshot, fewshot_sha256): (Fewshot, Option<String>),
    ) -> Result<Self, JobError> {
        let checkpoints = checkpoints.into();
        let mut notes = Vec::new();
        let chat =
            chat_template(&checkpoints.model, protocol.chat, &format!("protocol {}", protocol.name), &mut notes)?;
        notes.extend(left_out(&task, &dataset));
        Ok(Self { checkpoints, task, dataset, protocol, fewshot, fewshot_sha256, chat, notes })
    }

    /// The model itself.
    pub fn model(&self) -> &Model {
        &self.checkpoints.model
    }

    /// The columns that the job runs.
    pub fn variants(&self, job: &EvalJob) -> Result<Variants, JobError> {
        let mut variants = self.checkpoints.variants(&job.target, &job.command)?;
        if job.placebo {
            variants.add_placebos(&job.target, job.sampling.temperature, job.sampling.seed)?;
        }
        Ok(variants)
    }

    /// The samples that the job takes.
    pub fn chosen(&self, selection: &Selection) -> Result<Vec<&Sample>, JobError> {
        let chosen = selection.choose(&self.dataset.samples, self.dataset.rows)?;
        if chosen.is_empty() {
            return Err(JobError::invalid("no sample is chosen", "raise `--limit`, or name rows with `--samples`"));
        }
        Ok(chosen)
    }

    /// Tokens to generate at most.
    pub fn max_tokens(&self, job: &EvalJob) -> usize {
        job.sampling.max_tokens.unwrap_or(self.protocol.max_tokens)
    }

    /// Strings that end a generation: the protocol's, then the user's.
    pub fn stop_strings(&self, job: &EvalJob) -> Vec<String> {
        let mut all = self.protocol.stop_strings.clone();
        all.extend(job.sampling.stop_strings.iter().filter(|stop| !self.protocol.stop_strings.contains(stop)).cloned());
        all
    }

    /// What decides the run's answers and scores. `chosen` is the number of samples taken.
    pub fn plan(&self, job: &EvalJob, variants: &Variants, chosen: usize) -> Result<EvalPlan, JobError> {
        let sampling = &job.sampling;
        if chosen.saturating_mul(sampling.repeats) > MOST_COMPLETIONS {
            return Err(JobError::invalid(
                format!(
                    "--repeats {} of {chosen} samples are more than {MOST_COMPLETIONS} completions",
                    sampling.repeats
                ),
                "lower `--repeats` or `--limit`",
            ));
        }
        Ok(EvalPlan {
            invocation: Invocation::now(&job.command),
            target: variants.plan()?,
            task: self.task_plan(),
            completions: None,
            dataset: DatasetPlan {
                name: self.dataset.name.clone(),
                source: self.dataset.source.clone(),
                requested: reopenable(&job.dataset.source),
                revision: job.dataset.revision.clone(),
                split: self.dataset.split.clone(),
                sha256: self.dataset.sha256.clone(),
                rows: self.dataset.rows,
                left_out: Some(self.dataset.left_out).filter(|rows| *rows > 0),
                chosen,
                selection: selection_in_words(&job.selection),
            },
            protocol: ProtocolPlan {
                name: self.protocol.name.clone(),
                version: self.protocol.version,
                sha256: self.protocol.sha256.clone(),
                chat: self.chat.is_some(),
                system: job.system.clone(),
                thinking: job.thinking,
                fewshot_sha256: self.fewshot_sha256.clone(),
            },
            generated_under: None,
            generation: GenerationPlan {
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                top_k: sampling.top_k,
                seed: sampling.seed,
                repeats: sampling.repeats,
                max_tokens: self.max_tokens(job),
                stop_strings: self.stop_strings(job),
                think_end: sampling.think_end.clone(),
            },
            engine: job.target.engine.name().to_owned(),
            batch: job.target.batch,
            batching: job.target.batching,
            dtypes: variants.names(),
            placebos: variants.placebos.clone(),
        })
    }

    /// The task's provenance, where it is not the built-in `gsm8k`, which plans of before there were others do not name.
    fn task_plan(&self) -> Option<TaskPlan> {
        (!self.task.is_gsm8k()).then(|| TaskPlan {
            name: self.task.name.clone(),
            title: self.task.title.clone(),
            sha256: self.task.sha256.clone(),
            file: self.task.file.as_ref().map(|file| file.display().to_string()),
        })
    }
}

/// Rows that cannot be scored, where there are any.
fn left_out(task: &Task, dataset: &Dataset) -> Option<String> {
    let rows = dataset.left_out;
    (rows > 0).then(|| {
        format!(
            "{rows} of {} rows are left out: their reference is no number, and the task {} scores numbers",
            dataset.rows, task.name
        )
    })
}

/// A dataset's name, or its path so that it can be opened from any working folder.
fn reopenable(source: &str) -> String {
    std::fs::canonicalize(Path::new(source))
        .ok()
        .filter(|path| path.is_file())
        .map_or_else(|| source.to_owned(), |path| path.display().to_string())
}

/// `all`, `first 20`, or `3,17,40-60`.
fn selection_in_words(selection: &Selection) -> String {
    if selection.indices.is_empty() {
        return selection.limit.map_or_else(|| "all".to_owned(), |limit| format!("first {limit}"));
    }
    let runs = selection.indices.chunk_by(|a, b| a + 1 == *b);
    let words: Vec<String> = runs
        .filter_map(|run| match (run.first()?, run.last()?) {
            (first, last) if first == last => Some(first.to_string()),
            (first, last) => Some(format!("{first}-{last}")),
        })
        .collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_in_words() {
        let words = |limit, indices: &[usize]| selection_in_words(&Selection { limit, indices: indices.to_vec() });
        assert_eq!(words(None, &[]), "all");
        assert_eq!(words(Some(20), &[]), "first 20");
        assert_eq!(words(None, &[3, 17, 40, 41, 42]), "3,17,40-42");
    }
}
