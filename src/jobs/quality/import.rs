//! Answers made elsewhere, through the same comparison: a JSON list of objects with `model`, `id` and one text for
//! each column.

use std::path::Path;

use serde_json::{Map, Value};

use super::ImportJob;
use super::inputs::set_plan;
use super::pipeline::unanswered;
use super::{
    Answer, Asked, ImportPlan, ModelQuality, Origin, PromptQuality, QUALITY_FORMAT, QualityRecord, compare,
    render_quality,
};
use crate::fault::Fault;
use crate::files::{read_text, sha256};
use crate::jobs::JobError;
use crate::record::{Invocation, Machine, utc_now};
use crate::task::{PromptSet, SetPrompt};

/// Keys that name a row; every other key is a column.
const NAMES: [&str; 2] = ["model", "id"];

/// Compares a file's answers and gives the record with its report in the job's format.
pub fn import(job: &ImportJob) -> Result<(QualityRecord, String), JobError> {
    let invocation = Invocation::now(&job.command);
    let set = job.prompts.as_deref().map(|path| PromptSet::open(Some(path))).transpose()?;
    let text = read_text(&job.file).map_err(|error| {
        JobError::invalid(
            format!("cannot read the answers in {}: {error}", job.file.display()),
            "`--import` takes a JSON list of objects with `model`, `id` and one text a column",
        )
    })?;
    let rows = rows(&job.file, &text)?;
    let columns = columns(job, &rows)?;
    let models = models(job, &rows, &columns, set.as_ref());
    let asked_for = |prompt: &SetPrompt| rows.iter().any(|row| row.id == prompt.id);
    let record = QualityRecord {
        quality_format: QUALITY_FORMAT,
        invocation,
        finished: utc_now(),
        machine: Machine::detect(),
        origin: Origin::Import(ImportPlan {
            source: job.file.display().to_string(),
            sha256: sha256(text.as_bytes()),
            ground_truth: job.ground_truth.clone(),
        }),
        prompts: set.as_ref().map(|set| {
            let found = set.prompts.iter().enumerate().filter(|(_, prompt)| asked_for(prompt));
            set_plan(set, &found.map(|(row, _)| row).collect::<Vec<_>>(), &["those that were answered".to_owned()])
        }),
        complete: models.iter().all(|model| model.prompts.iter().all(|one| one.answers.len() == columns.len())),
        answers_sha256: None,
        notes: Vec::new(),
        models,
    };
    if let Some(path) = &job.out {
        record.write(path)?;
    }
    let report = render_quality(&record, &job.format, job.diffs)?;
    Ok((record, report))
}

/// One object of the file.
struct Row {
    model: String,
    id: String,
    /// (column, answer), in the file's order.
    answers: Vec<(String, String)>,
}

fn rows(path: &Path, text: &str) -> Result<Vec<Row>, JobError> {
    let fault = |what: String, hint: &str| JobError::invalid(format!("{}: {what}", path.display()), hint);
    let hint = "write a list of objects with `model`, `id` and one text a column";
    let objects: Vec<Map<String, Value>> =
        serde_json::from_str(text).map_err(|error| fault(format!("not a list of answers: {error}"), hint))?;
    if objects.is_empty() {
        return Err(fault("the list is empty".to_owned(), hint));
    }
    let mut rows: Vec<Row> = Vec::new();
    for (index, object) in objects.into_iter().enumerate() {
        let place = format!("entry {}", index + 1);
        let mut row = Row { model: String::new(), id: String::new(), answers: Vec::new() };
        for (key, value) in object {
            let text = match value {
                Value::String(text) => text,
                // A column that one prompt lacks is not an empty answer.
                Value::Null if !NAMES.contains(&key.as_str()) => continue,
                other => return Err(fault(format!("{place}: `{key}` is {other}"), "every value is a text")),
            };
            match key.as_str() {
                "model" => row.model = text,
                "id" => row.id = text,
                _ => row.answers.push((key, text)),
            }
        }
        for (key, value) in [("model", &row.model), ("id", &row.id)] {
            if value.trim().is_empty() {
                return Err(fault(format!("{place}: `{key}` is missing or empty"), hint));
            }
        }
        if rows.iter().any(|before| (&before.model, &before.id) == (&row.model, &row.id)) {
            let what = format!("{place}: the prompt `{}` of {} is there twice", row.id, row.model);
            return Err(fault(what, "leave one of the two out"));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Every column of the file, the ground truth first.
fn columns(job: &ImportJob, rows: &[Row]) -> Result<Vec<String>, JobError> {
    let mut found: Vec<String> = Vec::new();
    for (column, _) in rows.iter().flat_map(|row| &row.answers) {
        if !found.contains(column) {
            found.push(column.clone());
        }
    }
    let Some(position) = found.iter().position(|column| *column == job.ground_truth) else {
        let known: Vec<&str> = found.iter().map(String::as_str).collect();
        let Fault { what, hint } = Fault::unknown("column", &job.ground_truth, &known);
        let hint = format!("name the column to compare with by `--ground-truth COLUMN`: {hint}");
        return Err(JobError::invalid(format!("{}: {what}", job.file.display()), hint));
    };
    if found.len() == 1 {
        return Err(JobError::invalid(
            format!("{}: `{}` is the only column", job.file.display(), job.ground_truth),
            "add a column to compare with it",
        ));
    }
    let truth = found.remove(position);
    found.insert(0, truth);
    Ok(found)
}

fn models(job: &ImportJob, rows: &[Row], columns: &[String], set: Option<&PromptSet>) -> Vec<ModelQuality> {
    let mut names: Vec<&String> = Vec::new();
    for row in rows {
        if !names.contains(&&row.model) {
            names.push(&row.model);
        }
    }
    let of_model = |model: &&String| {
        let own = rows.iter().filter(|row| row.model == **model);
        let asked = own.map(|row| asked(row, columns, set)).collect();
        let columns = columns.iter().map(|column| (column.clone(), None, Vec::new())).collect();
        compare(model, (&job.ground_truth, true), columns, asked, &|token| token.to_string())
    };
    names.iter().map(of_model).collect()
}

fn asked(row: &Row, columns: &[String], set: Option<&PromptSet>) -> Asked {
    let known = set.and_then(|set| set.prompts.iter().find(|prompt| prompt.id == row.id));
    let answers = columns.iter().filter_map(|column| {
        let (_, text) = row.answers.iter().find(|(name, _)| name == column)?;
        Some(Answer {
            column: column.clone(),
            text: text.clone(),
            token_ids: None,
            margins: None,
            finish: None,
            verdicts: Vec::new(),
            against: None,
        })
    });
    let prompt = known.map_or_else(
        || PromptQuality {
            id: row.id.clone(),
            kind: None,
            text: None,
            checks: Vec::new(),
            rendered: None,
            prompt_sha256: None,
            prompt_ids_sha256: None,
            prompt_tokens: None,
            answers: Vec::new(),
        },
        unanswered,
    );
    Asked {
        prompt: PromptQuality { answers: answers.collect(), ..prompt },
        checks: known.map_or_else(Vec::new, |prompt| prompt.checks.clone()),
    }
}
