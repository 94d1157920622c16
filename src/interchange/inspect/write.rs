//! Out: every variant as a log of its own, every rule as a scorer, every repeat as an epoch.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::LOG_VERSION;
use crate::engine::Finish;
use crate::files::sha256;
use crate::interchange::file::{ExportedFile, fault};
use crate::interchange::origin::{KEY, Origin};
use crate::interchange::rows::{ExportedRow, rows, task_name};
use crate::jobs::JobError;
use crate::jobs::eval::StoredRun;

/// The files of a run: `TIME_TASK_VARIANT.json`.
pub(in crate::interchange) fn files(run: &StoredRun) -> Result<Vec<ExportedFile>, JobError> {
    let all = rows(run);
    let time = offset_time(&run.record.finished);
    let name_time = time.replace(['+', ':'], "-");
    let mut files = Vec::new();
    for (variant, _) in &run.completions {
        let own: Vec<&ExportedRow> = all.iter().filter(|row| row.variant == variant.as_str()).collect();
        let log = log(run, variant.as_str(), &own);
        let bytes = serde_json::to_vec_pretty(&log).map_err(|error| fault(&error))?;
        let name = format!("{name_time}_{}_{variant}.json", task_name(run));
        files.push(ExportedFile { path: PathBuf::from(name), bytes });
    }
    Ok(files)
}

/// Inspect writes UTC as an offset.
fn offset_time(utc: &str) -> String {
    utc.strip_suffix('Z').map_or_else(|| utc.to_owned(), |time| format!("{time}+00:00"))
}

fn log(run: &StoredRun, variant: &str, own: &[&ExportedRow]) -> Value {
    let (record, plan, task) = (&run.record, &run.record.plan, task_name(run));
    let model = format!("evalsuite/{}", plan.target.model.name);
    let generation = generation(run);
    // Ids are any short text; these come of what the run is, so that a second export gives the same bytes.
    let id = |what: &str| {
        let hash =
            sha256(format!("{what} {} {variant}", record.answers_sha256.as_deref().unwrap_or_default()).as_bytes());
        hash[..22].to_owned()
    };
    let mut sample_ids: Vec<usize> = own.iter().map(|row| row.sample).collect();
    sample_ids.dedup();
    let rules = record.rules();
    let scorers: Vec<Value> = rules
        .iter()
        .map(|rule| json!({"name": rule, "options": {}, "metrics": [{"name": "inspect_ai/accuracy", "options": {}}], "metadata": {}}))
        .collect();
    json!({
        "version": LOG_VERSION,
        "status": "success",
        "eval": {
            "eval_id": id("eval"),
            "run_id": id("run"),
            "created": offset_time(&plan.invocation.started),
            "task": task,
            "task_id": id("task"),
            "task_version": plan.protocol.version,
            "task_args": {"protocol": plan.protocol.name},
            "dataset": {
                "name": plan.dataset.name,
                "location": plan.dataset.source,
                "samples": sample_ids.len(),
                "sample_ids": sample_ids,
                "shuffled": false,
            },
            "model": model,
            "model_generate_config": generation,
            "model_args": {"source": plan.target.model.source, "sha256": plan.target.model.sha256, "dtype": variant},
            "config": {"epochs": plan.generation.repeats},
            "packages": {"evalsuite": plan.invocation.evalsuite},
            "scorers": scorers,
            "metadata": {KEY: Origin::of(run)},
        },
        "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": generation},
        "results": {
            "total_samples": own.len(),
            "completed_samples": own.len(),
            "scores": rules.iter().map(|rule| score_of(rule, own)).collect::<Vec<_>>(),
        },
        "stats": {
            "started_at": offset_time(&plan.invocation.started),
            "completed_at": offset_time(&record.finished),
            "model_usage": usage_of_all(&model, own),
        },
        "samples": own.iter().map(|row| sample(row, &model)).collect::<Vec<_>>(),
    })
}

fn generation(run: &StoredRun) -> Value {
    let plan = &run.record.plan.generation;
    if !plan.is_known() {
        return json!({});
    }
    let mut config = Map::new();
    config.insert("max_tokens".to_owned(), json!(plan.max_tokens));
    config.insert("temperature".to_owned(), json!(plan.temperature));
    config.insert("top_p".to_owned(), json!(plan.top_p));
    if plan.top_k > 0 {
        config.insert("top_k".to_owned(), json!(plan.top_k));
    }
    config.insert("seed".to_owned(), json!(plan.seed));
    config.insert("stop_seqs".to_owned(), json!(plan.stop_strings));
    Value::Object(config)
}

/// A scorer's accuracy.
fn score_of(rule: &str, own: &[&ExportedRow]) -> Value {
    let right = own.iter().filter(|row| row.is_right(rule)).count();
    let accuracy = if own.is_empty() { 0.0 } else { right as f64 / own.len() as f64 };
    json!({
        "name": rule,
        "scorer": rule,
        "scored_samples": own.len(),
        "unscored_samples": 0,
        "params": {},
        "metrics": {"accuracy": {"name": "accuracy", "value": accuracy, "params": {}}},
    })
}

fn usage_of_all(model: &str, own: &[&ExportedRow]) -> Value {
    let total = |tokens: fn(&ExportedRow) -> Option<usize>| own.iter().map(|row| tokens(row)).sum::<Option<usize>>();
    usage(total(|row| row.prompt_tokens), total(|row| row.output_tokens))
        .map_or_else(|| json!({}), |usage| json!({model: usage}))
}

fn usage(input: Option<usize>, output: Option<usize>) -> Option<Value> {
    let (input, output) = input.zip(output)?;
    Some(json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output}))
}

fn sample(row: &ExportedRow, model: &str) -> Value {
    let question = row.question.unwrap_or_default();
    let prompt = row.prompt.unwrap_or(question);
    let answer = json!({"role": "assistant", "content": row.text, "source": "generate", "model": model});
    let mut scores = Map::new();
    for (rule, score) in &row.scores {
        let value = if score["correct"] == true { "C" } else { "I" };
        scores.insert(rule.clone(), json!({"value": value, "answer": score["value"], "explanation": row.text}));
    }
    let mut output = json!({
        "model": model,
        "choices": [{"message": answer.clone(), "stop_reason": stop_reason(row.finish)}],
        "completion": row.text,
        "time": row.total_seconds,
    });
    if let (Some(usage), Some(output)) = (usage(row.prompt_tokens, row.output_tokens), output.as_object_mut()) {
        output.insert("usage".to_owned(), usage);
    }
    let mut metadata = Map::new();
    metadata.insert("answer".to_owned(), json!(row.answer));
    if let Some(id) = row.id {
        metadata.insert("id".to_owned(), json!(id));
    }
    if let Some(cluster) = row.cluster {
        metadata.insert("cluster".to_owned(), json!(cluster));
    }
    if let Some(thought) = row.thought {
        metadata.insert("thought".to_owned(), json!(thought));
    }
    json!({
        "id": row.sample,
        "epoch": row.repeat + 1,
        "input": question,
        "target": row.reference.unwrap_or_default(),
        "messages": [{"role": "user", "content": prompt, "source": "input"}, answer],
        "output": output,
        "scores": scores,
        "metadata": metadata,
        "store": {},
        "events": [],
        "model_usage": usage(row.prompt_tokens, row.output_tokens).map_or_else(|| json!({}), |usage| json!({model: usage})),
        "total_time": row.total_seconds,
        "attachments": {},
    })
}

/// Inspect's word for why generation ended.
fn stop_reason(finish: &str) -> &'static str {
    let is = |one: Finish| one.name() == finish;
    if is(Finish::Length) {
        "max_tokens"
    } else if is(Finish::Context) || is(Finish::UnfinishedThought) {
        "model_length"
    } else if is(Finish::Unknown) {
        "unknown"
    } else {
        "stop"
    }
}
