//! In: files of other tools become run folders. Results of one model on one task, in several precisions, are variants of one run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::told::Told;
use super::{inspect, lm_eval};
use crate::engine::Precision;
use crate::fault::Fault;
use crate::files::{read_text, sha256};
use crate::jobs::eval::{EvalRecord, ImportedPlan, ImportedRun, TaskPlan, keep_imported};
use crate::jobs::{Destination, JobError};
use crate::record::{StoredSample, VariantName};

const HINT: &str = "give a folder or file of lm-evaluation-harness (`--log_samples`), or JSON logs of Inspect AI";
/// Folders in folders, at most.
const DEPTH: usize = 4;

/// Files to take in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// Files and folders, each with the name of its variant, where the user named it.
    pub sources: Vec<(Option<VariantName>, PathBuf)>,
    /// The task to take, where there are several; `None` is all.
    pub task: Option<String>,
    /// What tables call the model; `None` is what the tool calls it.
    pub model: Option<String>,
    /// The variant that the others are compared with; `None` is f32, or else the first.
    pub reference: Option<String>,
    /// The rule that decides; `None` is the tool's first.
    pub rule: Option<String>,
    /// Where the run folder goes.
    pub destination: Destination,
}

/// Takes files in: a run folder a model and task, with its record.
pub fn import(import: &Import) -> Result<Vec<(EvalRecord, PathBuf)>, JobError> {
    let mut told: Vec<(Option<VariantName>, Told)> = Vec::new();
    for (name, path) in &import.sources {
        for one in read(path)? {
            told.push((name.clone(), one));
        }
    }
    let tasks: BTreeSet<String> = told.iter().map(|(_, one)| one.name.clone()).collect();
    if let Some(task) = &import.task {
        if !tasks.contains(task) {
            let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
            return Err(Fault::unknown("task", task, &tasks).into());
        }
        told.retain(|(_, one)| one.name == *task);
    }
    let runs = grouped(told, import)?;
    if runs.len() > 1 && matches!(import.destination, Destination::Folder(_)) {
        let names: Vec<String> = runs.iter().map(|run| format!("{} on {}", run.plan.model, name_of(run))).collect();
        return Err(JobError::invalid(
            format!("--out is one folder, but these are {} runs: {}", names.len(), names.join(", ")),
            "choose one with `--task`, or leave `--out` out: each gets a folder under runs/",
        ));
    }
    runs.iter().map(|run| keep_imported(run, &import.destination)).collect()
}

fn name_of(run: &ImportedRun) -> &str {
    run.plan.task.as_ref().map_or(&run.plan.protocol.0, |task| &task.name)
}

/// All that a file or folder tells.
fn read(path: &Path) -> Result<Vec<Told>, JobError> {
    let nothing = || JobError::invalid(format!("{}: nothing to import", path.display()), HINT);
    if !path.exists() {
        return Err(JobError::invalid(format!("{} is not there", path.display()), "check the path"));
    }
    if path.is_dir() {
        let mut found = Vec::new();
        read_folder(path, DEPTH, &mut found)?;
        return if found.is_empty() { Err(nothing()) } else { Ok(found) };
    }
    if path.extension().is_some_and(|extension| extension == "jsonl") {
        return Ok(vec![lm_eval::with_results(path).read()?]);
    }
    if lm_eval::is_results(path) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let files = files(folder)?;
        let found = lm_eval::find(&files).into_iter().filter(|samples| samples.belong_to(path));
        let found = found.map(|samples| samples.read()).collect::<Result<Vec<_>, _>>()?;
        if found.is_empty() {
            return Err(JobError::invalid(
                format!("{}: there are no samples beside these results", path.display()),
                "run lm-evaluation-harness with `--log_samples`; results alone are rows for `--vs`",
            ));
        }
        return Ok(found);
    }
    Ok(vec![read_log(path)?.ok_or_else(nothing)?])
}

fn read_log(path: &Path) -> Result<Option<Told>, JobError> {
    let text = read_text(path).map_err(|error| {
        let hint = "check the path; an .eval file becomes JSON by `inspect log dump FILE.eval > FILE.json`";
        JobError::invalid(format!("cannot read {}: {error}", path.display()), hint)
    })?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| JobError::invalid(format!("{}: not JSON: {error}", path.display()), HINT))?;
    if inspect::is_log(&json) { inspect::read(path, &text, &json).map(Some) } else { Ok(None) }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, JobError> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| JobError::invalid(format!("cannot read {}: {error}", folder.display()), "check the path"))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

/// A folder of samples, of logs, or of such folders.
fn read_folder(folder: &Path, depth: usize, found: &mut Vec<Told>) -> Result<(), JobError> {
    let all = files(folder)?;
    let samples = lm_eval::find(&all);
    for one in &samples {
        found.push(one.read()?);
    }
    if samples.is_empty() {
        for path in all.iter().filter(|path| path.is_file() && path.extension().is_some_and(|end| end == "json")) {
            let Ok(text) = read_text(path) else { continue };
            let Ok(json) = serde_json::from_str::<Value>(&text) else { continue };
            if inspect::is_log(&json) {
                found.push(inspect::read(path, &text, &json)?);
            }
        }
    }
    for inner in all.iter().filter(|path| path.is_dir() && depth > 0) {
        read_folder(inner, depth - 1, found)?;
    }
    Ok(())
}

/// One run a model and task; where the user names variants, one a task.
fn grouped(told: Vec<(Option<VariantName>, Told)>, import: &Import) -> Result<Vec<ImportedRun>, JobError> {
    type Group = (String, String, Vec<(Option<VariantName>, Told)>);
    let mut groups: Vec<Group> = Vec::new();
    for (name, one) in told {
        let model = if name.is_some() { String::new() } else { one.model.clone() };
        match groups.iter_mut().find(|(own, task, _)| *own == model && *task == one.name) {
            Some((_, _, group)) => group.push((name, one)),
            None => groups.push((model, one.name.clone(), vec![(name, one)])),
        }
    }
    groups.into_iter().map(|(_, _, group)| run(group, import)).collect()
}

fn run(group: Vec<(Option<VariantName>, Told)>, import: &Import) -> Result<ImportedRun, JobError> {
    let names = names(&group)?;
    let is_named = group.iter().any(|(name, _)| name.is_some());
    let mut samples: BTreeMap<usize, StoredSample> = BTreeMap::new();
    let (mut variants, mut notes, mut hashes) = (Vec::new(), Vec::new(), String::new());
    let first = group[0].1.clone();
    for ((_, one), name) in group.into_iter().zip(names) {
        if one.protocol != first.protocol || one.rules != first.rules {
            return Err(JobError::invalid(
                format!("{} was asked or scored otherwise than {}", one.path.display(), first.path.display()),
                "import them one at a time: answers are compared where questions, prompts and rules are the same",
            ));
        }
        for (row, sample) in one.samples {
            let known = samples.entry(row).or_insert_with(|| sample.clone());
            if (&known.question, &known.answer) != (&sample.question, &sample.answer) {
                return Err(JobError::invalid(
                    format!("{}: question {row} is another than in {}", one.path.display(), first.path.display()),
                    "import them one at a time: variants of one run answer the same questions",
                ));
            }
        }
        notes.push(format!(
            "{name}: answers and verdicts of {}, {} on {}, from {}; speed, load and memory are unknown",
            one.tool,
            one.model,
            one.name,
            one.path.display()
        ));
        notes.extend(one.notes.iter().map(|note| format!("{name}: {note}")));
        hashes.push_str(&one.sha256);
        variants.push((name, one.answers));
    }
    if !is_named {
        variants.sort_by_key(|(name, _)| name.rank());
    }
    let reference = reference(import, &variants)?;
    let mut rules = first.rules.clone();
    if let Some(rule) = &import.rule {
        let known: Vec<&str> = rules.iter().map(String::as_str).collect();
        let at = rules.iter().position(|own| own == rule).ok_or_else(|| Fault::unknown("rule", rule, &known))?;
        rules[..=at].rotate_right(1);
    }
    let is_ours = first.dataset.1.is_some();
    let task =
        TaskPlan { name: first.name.clone(), title: first.name.clone(), sha256: first.protocol.2.clone(), file: None };
    Ok(ImportedRun {
        plan: ImportedPlan {
            command: import.command.clone(),
            source: import.sources.first().map_or_else(|| first.path.clone(), |(_, path)| path.clone()),
            source_sha256: sha256(hashes.as_bytes()),
            model: import.model.clone().unwrap_or(first.model),
            task: if is_ours { first.task } else { Some(task) },
            protocol: first.protocol,
            dataset: first.dataset.0,
            dataset_sha256: first.dataset.1,
            reference,
        },
        samples: samples.into_values().collect(),
        variants,
        rules,
        notes,
    })
}

/// What the user calls it, else its precision, else its model or folder.
fn names(group: &[(Option<VariantName>, Told)]) -> Result<Vec<VariantName>, JobError> {
    let precision = |one: &Told| one.precision.as_deref().and_then(of_precision);
    let by_precision: Option<Vec<VariantName>> =
        group.iter().map(|(name, one)| name.clone().or_else(|| precision(one))).collect();
    let by_place =
        || group.iter().map(|(name, one)| name.clone().or_else(|| safe(&one.place))).collect::<Option<Vec<_>>>();
    let only = || (group.len() == 1).then(|| VariantName::parse("completions").ok()).flatten().map(|name| vec![name]);
    let is_unique = |names: &Vec<VariantName>| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    let found = by_precision.filter(is_unique).or_else(only).or_else(|| by_place().filter(is_unique));
    found.ok_or_else(|| {
        let paths: Vec<String> = group.iter().map(|(_, one)| one.path.display().to_string()).collect();
        JobError::invalid(
            format!("nothing tells these apart: {}", paths.join(", ")),
            "name them, `evalsuite import f16=PATH awq=PATH`",
        )
    })
}

/// `float16` is f16 here; other words stay as they are.
fn of_precision(word: &str) -> Option<VariantName> {
    Precision::parse(word).map_or_else(|| safe(word), |precision| Some(precision.into()))
}

fn safe(word: &str) -> Option<VariantName> {
    let safe = |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '_' };
    let word: String = word.chars().map(safe).collect();
    let from = word.len().saturating_sub(24);
    VariantName::parse(word[from..].trim_start_matches(['.', '_', '-'])).ok()
}

fn reference(
    import: &Import,
    variants: &[(VariantName, Vec<crate::record::StoredCompletion>)],
) -> Result<Option<VariantName>, JobError> {
    let names: Vec<&str> = variants.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(wanted) = &import.reference {
        let found = variants.iter().find(|(name, _)| name.as_str() == wanted);
        return found
            .map(|(name, _)| Some(name.clone()))
            .ok_or_else(|| Fault::unknown("variant", wanted, &names).into());
    }
    let has_f32 = names.contains(&Precision::F32.name());
    Ok(variants.first().filter(|_| !has_f32 && variants.len() > 1).map(|(name, _)| name.clone()))
}
