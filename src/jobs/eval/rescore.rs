//! Rescore: stored generations under another protocol's rules, without an engine.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::results::Results;
use super::{EvalPlan, EvalRecord, ProtocolPlan, StoredRun};
use crate::files::sha256;
use crate::hub::Hub;
use crate::jobs::JobError;
use crate::record::{
    RunFolder, Session, StoredCompletion, StoredSample, VariantName, answers, read_journal, read_samples,
};
use crate::score::{Rule, score};
use crate::task::{Dataset, DatasetSpec, Protocol, Sample, Task};

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rescored {
    /// The results.
    pub record: EvalRecord,
    /// The same in the run's own folder: `rescore-<protocol>.json`.
    pub file: PathBuf,
    /// A run folder of its own: what reads runs reads it.
    pub folder: PathBuf,
}

/// A run's completions under the new rules.
struct Rescoring {
    completions: Vec<(VariantName, Vec<StoredCompletion>)>,
    /// Of each variant.
    sessions: Vec<Vec<Session>>,
    samples: Vec<StoredSample>,
    /// Files that cannot prove themselves.
    unproven: Vec<String>,
}

/// Scores a run folder's completions by `protocol`'s rules, and writes a run folder of them: `out`, else a new one beside the run's,
/// `<run>-rescored-<protocol>`.
pub fn rescore(run: &Path, protocol: &str, hub: &Hub, out: Option<&Path>) -> Result<Rescored, JobError> {
    let plan = RunFolder::read_plan::<EvalPlan>(run)?;
    // Of a finished run every file is held against the others first.
    let stored = run.join("record.json").exists().then(|| StoredRun::read(run)).transpose()?;
    let protocol = Protocol::open(protocol)?;
    let rescoring = Rescoring::of(run, &plan, &protocol.rules, hub)?;
    let generated = stored.and_then(|stored| stored.record.generated_under).unwrap_or_else(|| plan.protocol.clone());
    // Nobody knows what completions made elsewhere were generated under.
    let generated = Some(generated).filter(|_| !plan.is_made_elsewhere());
    let record = rescoring.record(generated, plan, &protocol);
    // The user's folder may be refused: before anything is written.
    let path = out.map_or_else(|| fresh_path(run, &protocol.name), Path::to_path_buf);
    rescoring.write_folder(&path, &record)?;
    let file = run.join(format!("rescore-{}.json", protocol.name));
    record.write(&file)?;
    Ok(Rescored { record, file, folder: path })
}

impl Rescoring {
    fn of(run: &Path, plan: &EvalPlan, rules: &[Rule], hub: &Hub) -> Result<Self, JobError> {
        let mut all = Self { completions: Vec::new(), sessions: Vec::new(), samples: Vec::new(), unproven: Vec::new() };
        for variant in &plan.dtypes {
            let path = RunFolder::journal_path(run, variant);
            let journal = read_journal(&path)?;
            all.unproven.extend(journal.note(&path));
            let mut completions = journal.values;
            completions.sort_by_key(|completion| (completion.sample, completion.repeat));
            all.completions.push((variant.clone(), completions));
            all.sessions.push(RunFolder::read_sessions(run, variant)?);
        }
        let rows: HashSet<usize> = all.completions.iter().flat_map(|(_, rows)| rows).map(|row| row.sample).collect();
        let samples = samples(run, plan, hub, &rows)?;
        for (_, completions) in &mut all.completions {
            rescore_completions(completions, rules, &samples)?;
        }
        if rows.is_empty() {
            return Err(JobError::invalid(
                format!("there is no completion in {}", run.display()),
                "finish the run first, with `evalsuite resume RUN`",
            ));
        }
        all.samples = read_samples(run)?.values;
        Ok(all)
    }

    /// `generated` is the protocol that the answers were made with, which may have been scored anew before.
    fn record(&self, generated: Option<ProtocolPlan>, plan: EvalPlan, protocol: &Protocol) -> EvalRecord {
        let origin = generated.as_ref().map_or_else(
            || "completions made elsewhere".to_owned(),
            |generated| format!("generated under protocol {} (version {})", generated.name, generated.version),
        );
        let in_words = format!("{origin}, scored by the rules of {} (version {})", protocol.name, protocol.version);
        let asked = plan.completions_per_variant();
        let unfinished = self.completions.iter().filter(|(_, completions)| completions.len() < asked);
        let unfinished: Vec<String> = unfinished
            .map(|(variant, completions)| format!("{} of {asked} completions in {variant}", completions.len()))
            .collect();
        let not_all = (!unfinished.is_empty()).then(|| format!("the run has not finished: {}", unfinished.join(", ")));
        let results = Results {
            ground_truth: plan.ground_truth(),
            plan: EvalPlan {
                protocol: ProtocolPlan {
                    name: protocol.name.clone(),
                    version: protocol.version,
                    sha256: protocol.sha256.clone(),
                    ..plan.protocol
                },
                generated_under: generated.as_ref().map(|generated| generated.name.clone()),
                ..plan
            },
            rules: protocol.rule_names(),
            headline: protocol.headline.clone(),
            generated_under: generated,
            completions: &self.completions,
            ran: self.sessions.iter().map(|sessions| (sessions.clone(), None)).collect(),
            samples: &self.samples,
            answers_sha256: None,
            notes: std::iter::once(in_words).chain(not_all).chain(self.unproven.clone()).collect(),
        };
        results.record()
    }

    fn write_folder(&self, path: &Path, record: &EvalRecord) -> Result<(), JobError> {
        let folder = RunFolder::create(path, &record.plan)?;
        for ((variant, completions), sessions) in self.completions.iter().zip(&self.sessions) {
            let (mut journal, _) = folder.journal(variant)?;
            for completion in completions {
                journal.append(completion)?;
            }
            journal.sync()?;
            folder.write_sessions(variant, sessions)?;
        }
        if !self.samples.is_empty() {
            folder.write_samples(&self.samples)?;
        }
        let answers = answers(&self.completions)?;
        folder.write_answers(&answers)?;
        folder.write_record(&EvalRecord { answers_sha256: Some(sha256(&answers)), ..record.clone() })?;
        Ok(())
    }
}

/// `<run>-rescored-<protocol>`, numbered where that is there.
fn fresh_path(run: &Path, protocol: &str) -> PathBuf {
    // `.` and `..` have no name of their own.
    let whole = std::fs::canonicalize(run).unwrap_or_else(|_| run.to_path_buf());
    let near = if run.file_name().is_some() { run } else { &whole };
    let name = near.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned());
    let first = near.with_file_name(format!("{name}-rescored-{protocol}"));
    let numbered = (2..).map(|number| near.with_file_name(format!("{name}-rescored-{protocol}-{number}")));
    let mut candidates = std::iter::once(first.clone()).chain(numbered);
    candidates.find(|path| !path.exists()).unwrap_or(first)
}

/// The run's task as it is now; what it has become since must not change a score.
fn task(plan: &EvalPlan) -> Result<Task, JobError> {
    let Some(planned) = &plan.task else { return Ok(Task::gsm8k()?) };
    let task = match &planned.file {
        Some(file) => Task::read(Path::new(file), Some(&planned.name))?,
        None => Task::open(&planned.name)?,
    };
    if task.sha256 != planned.sha256 {
        return Err(JobError::invalid(
            format!(
                "the task {} has changed since the run: it has sha256 {}, the run read {}",
                planned.name, task.sha256, planned.sha256
            ),
            "put the task's file back that the run read, or run again",
        ));
    }
    Ok(task)
}

/// The samples of `rows` by row, from the very file that the run read; those of completions made elsewhere from the run's folder.
fn samples(run: &Path, plan: &EvalPlan, hub: &Hub, rows: &HashSet<usize>) -> Result<HashMap<usize, Sample>, JobError> {
    if plan.is_made_elsewhere() {
        let sample = |stored: StoredSample| {
            let sample = Sample::new(stored.sample, stored.question, stored.answer);
            let reference = stored.reference.unwrap_or(sample.reference);
            (stored.sample, Sample { reference, cluster: stored.cluster, ..sample })
        };
        return Ok(read_samples(run)?.values.into_iter().map(sample).collect());
    }
    let dataset = Dataset::open_as(
        &task(plan)?,
        &DatasetSpec {
            source: plan.dataset.requested.clone(),
            split: plan.dataset.split.clone(),
            revision: plan.dataset.revision.clone(),
            sha256: None,
        },
        hub,
        |sample| rows.contains(&sample.index),
    )?;
    if dataset.sha256 != plan.dataset.sha256 {
        return Err(JobError::invalid(
            format!(
                "the problems have changed since the run: {} has sha256 {}, the run read {}",
                dataset.source, dataset.sha256, plan.dataset.sha256
            ),
            "put the file back that the run read, or run again on the new one",
        ));
    }
    Ok(dataset.samples.into_iter().map(|sample| (sample.index, sample)).collect())
}

fn rescore_completions(
    completions: &mut [StoredCompletion],
    rules: &[Rule],
    samples: &HashMap<usize, Sample>,
) -> Result<(), JobError> {
    completions.par_iter_mut().try_for_each(|completion| {
        let Some(sample) = samples.get(&completion.sample) else {
            return Err(JobError::invalid(
                format!("the journal has a completion of sample {}, the dataset has no such row", completion.sample),
                "the journal was changed; start a new run",
            ));
        };
        completion.scores = score(rules, &completion.text, sample.expected());
        Ok(())
    })
}
