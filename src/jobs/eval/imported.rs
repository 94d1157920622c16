//! Imports: questions, answers and verdicts of another tool become a run folder like any other. Nothing is scored anew; speed, load and
//! memory are unknown.

use std::path::PathBuf;

use super::results::Results;
use super::{CompletionsPlan, DatasetPlan, EvalPlan, EvalRecord, ProtocolPlan, TaskPlan};
use crate::engine::Batching;
use crate::files::sha256;
use crate::jobs::folder::open_folder;
use crate::jobs::{Destination, JobError};
use crate::record::{
    GenerationPlan, Invocation, ModelPlan, RunFolder, StoredCompletion, StoredSample, TargetPlan, VariantName, answers,
};
use crate::score::Answer;

/// A run as another tool tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedRun {
    /// Where it comes from, and how it was asked.
    pub plan: ImportedPlan,
    /// The questions, by row.
    pub samples: Vec<StoredSample>,
    /// The answers of each variant with the tool's verdicts, each by question and repeat.
    pub variants: Vec<(VariantName, Vec<StoredCompletion>)>,
    /// The rules that the tool scored by, the one that decides first.
    pub rules: Vec<String>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What is known of how another tool ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedPlan {
    /// The command line of the import, word by word.
    pub command: Vec<String>,
    /// The file or folder, as it was named.
    pub source: PathBuf,
    /// Over the files that were read.
    pub source_sha256: String,
    /// The model's name.
    pub model: String,
    /// The task; `None` where the tool tells of none that has a definition.
    pub task: Option<TaskPlan>,
    /// The name of what asked and scored, its version, and the hash of all that decides both.
    pub protocol: (String, u32, String),
    /// The dataset's name.
    pub dataset: String,
    /// The hash of the dataset's file, where the tool tells it; else that of questions and answers stands for it.
    pub dataset_sha256: Option<String>,
    /// The variant that the others are compared with; `None` is f32.
    pub reference: Option<VariantName>,
}

/// Answers that were made elsewhere, with their verdicts, on their way into a run folder.
pub(super) struct MadeElsewhere<'a> {
    /// The questions, by row.
    pub(super) samples: &'a [StoredSample],
    /// The answers of each variant, each by question and repeat.
    pub(super) variants: &'a [(VariantName, Vec<StoredCompletion>)],
    /// The rules that scored them, in order.
    pub(super) rules: Vec<String>,
    /// The rule that decides.
    pub(super) headline: String,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

/// Writes a run folder; the record and the folder's path.
pub fn keep_imported(run: &ImportedRun, destination: &Destination) -> Result<(EvalRecord, PathBuf), JobError> {
    let repeats = run.variants.iter().flat_map(|(_, all)| all).map(|one| one.repeat + 1).max().unwrap_or(1);
    let variants = run.variants.iter().map(|(variant, _)| variant.clone()).collect();
    let plan = run.plan.plan(&run.samples, variants, repeats);
    let asked = plan.completions_per_variant();
    let short = run.variants.iter().filter(|(_, completions)| completions.len() < asked);
    let short = short.map(|(variant, own)| format!("{variant} has {} of {asked} answers", own.len()));
    let made = MadeElsewhere {
        samples: &run.samples,
        variants: &run.variants,
        rules: run.rules.clone(),
        headline: run.rules.first().cloned().unwrap_or_default(),
        notes: run.notes.iter().cloned().chain(short).collect(),
    };
    made.keep(plan, destination)
}

impl MadeElsewhere<'_> {
    /// Writes a run folder; the record and the folder's path.
    pub(super) fn keep(self, plan: EvalPlan, destination: &Destination) -> Result<(EvalRecord, PathBuf), JobError> {
        let model = plan.target.model.name.rsplit('/').next().unwrap_or_default();
        let name = format!("{model}-{}", plan.task.as_ref().map_or(plan.protocol.name.as_str(), |task| &task.name));
        let (folder, plan) = open_folder(destination, false, plan, &name)?;
        let path = folder.path().to_path_buf();
        let record = self.write(&folder, plan).inspect_err(|_| {
            // Nothing here is resumed: what is half written would only be in the way of the same command.
            let _ = std::fs::remove_dir_all(&path);
        })?;
        Ok((record, path))
    }

    fn write(self, folder: &RunFolder, plan: EvalPlan) -> Result<EvalRecord, JobError> {
        folder.write_samples(self.samples)?;
        for (variant, completions) in self.variants {
            let (mut journal, _) = folder.journal(variant)?;
            completions.iter().try_for_each(|completion| journal.append(completion))?;
            journal.sync()?;
        }
        let answers = answers(self.variants)?;
        folder.write_answers(&answers)?;
        let results = Results {
            plan,
            rules: self.rules,
            headline: self.headline,
            generated_under: None,
            ground_truth: None,
            completions: self.variants,
            ran: vec![(Vec::new(), None); self.variants.len()],
            samples: self.samples,
            answers_sha256: Some(sha256(&answers)),
            notes: self.notes,
        };
        let record = results.record();
        folder.write_record(&record)?;
        Ok(record)
    }
}

impl ImportedPlan {
    /// The plan of the run folder: of these questions and variants, each with so many answers to a question.
    pub(super) fn plan(&self, samples: &[StoredSample], variants: Vec<VariantName>, repeats: usize) -> EvalPlan {
        let path = std::fs::canonicalize(&self.source).unwrap_or_else(|_| self.source.clone()).display().to_string();
        let (name, version, hash) = self.protocol.clone();
        EvalPlan {
            invocation: Invocation::now(&self.command),
            target: TargetPlan {
                model: ModelPlan {
                    name: self.model.clone(),
                    source: path.clone(),
                    sha256: None,
                    stored_as: None,
                    weights: None,
                    quantized: false,
                    family: None,
                    parameters: None,
                    endpoint: None,
                },
                awq: None,
                variants: std::collections::BTreeMap::new(),
                reference: self.reference.clone(),
            },
            task: self.task.clone(),
            completions: Some(CompletionsPlan { source: path.clone(), sha256: self.source_sha256.clone() }),
            dataset: DatasetPlan {
                name: self.dataset.clone(),
                source: path.clone(),
                requested: path,
                revision: String::new(),
                split: String::new(),
                sha256: self.dataset_sha256.clone().unwrap_or_else(|| questions_sha256(samples)),
                rows: samples.len(),
                left_out: None,
                chosen: samples.len(),
                selection: "all".to_owned(),
            },
            protocol: ProtocolPlan {
                name,
                version,
                sha256: hash,
                chat: false,
                system: None,
                thinking: None,
                fewshot_sha256: None,
            },
            generated_under: None,
            generation: GenerationPlan::unknown(repeats),
            engine: "elsewhere".to_owned(),
            batch: None,
            batching: Batching::default(),
            dtypes: variants,
            placebos: Vec::new(),
        }
    }
}

/// Over questions and answers, which runs of several models may share.
fn questions_sha256(samples: &[StoredSample]) -> String {
    let line = |sample: &StoredSample| {
        let reference = sample.reference.as_deref().unwrap_or_else(|| Answer::from(&sample.answer).value);
        serde_json::json!([sample.sample, sample.question, sample.answer, reference]).to_string() + "\n"
    };
    sha256(samples.iter().map(line).collect::<String>().as_bytes())
}
