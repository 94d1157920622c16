//! Out: every variant as a model of its own, every rule as a filter, with `exact_match` as the metric.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::INVALID;
use crate::files::sha256;
use crate::interchange::file::{ExportedFile, fault};
use crate::interchange::origin::{KEY, Origin};
use crate::interchange::rows::{ExportedRow, rows, task_name};
use crate::jobs::JobError;
use crate::jobs::eval::StoredRun;

const METRIC: &str = "exact_match";

/// The files of a run: `MODEL-VARIANT/results_TIME.json` and `MODEL-VARIANT/samples_TASK_TIME.jsonl`.
pub(in crate::interchange) fn files(run: &StoredRun) -> Result<Vec<ExportedFile>, JobError> {
    let all = rows(run);
    let rules = run.record.rules();
    let time = run.record.finished.trim_end_matches('Z').replace(':', "-");
    let task = task_name(run);
    let mut files = Vec::new();
    for (variant, _) in &run.completions {
        let own: Vec<&ExportedRow> = all.iter().filter(|row| row.variant == variant.as_str()).collect();
        let folder = PathBuf::from(format!("{}-{variant}", sanitized_model(&run.record.plan.target.model.name)));
        let samples: Vec<Value> = rules
            .iter()
            .flat_map(|rule| own.iter().map(move |row| (rule, row)))
            .map(|(rule, row)| sample(run, row, rule))
            .collect();
        let lines = samples.iter().map(|sample| sample.to_string() + "\n").collect::<String>();
        let results = results(run, variant.as_str(), &own, &rules, &samples);
        let results = serde_json::to_vec_pretty(&results).map_err(|error| fault(&error))?;
        files.push(ExportedFile { path: folder.join(format!("results_{time}.json")), bytes: results });
        let samples = folder.join(format!("samples_{task}_{time}.jsonl"));
        files.push(ExportedFile { path: samples, bytes: lines.into_bytes() });
    }
    Ok(files)
}

/// As the harness names a model's folder.
fn sanitized_model(name: &str) -> String {
    let mut out = String::new();
    let mut is_within = false;
    for letter in name.chars() {
        let is_bad = "\"<>:/|\\?*[]".contains(letter);
        match (is_bad, is_within) {
            (true, false) => out.push_str("__"),
            (true, true) => {}
            (false, _) => out.push(letter),
        }
        is_within = is_bad;
    }
    out
}

/// A line of the samples: one answer under one filter.
fn sample(run: &StoredRun, row: &ExportedRow, rule: &str) -> Value {
    let value = row.scores.get(rule).and_then(|score| score["value"].as_str()).unwrap_or(INVALID);
    let mut doc = Map::new();
    doc.insert("question".to_owned(), json!(row.question));
    doc.insert("answer".to_owned(), json!(row.answer));
    doc.insert("reference".to_owned(), json!(row.reference));
    if let Some(id) = row.id {
        doc.insert("id".to_owned(), json!(id));
    }
    if let Some(cluster) = row.cluster {
        doc.insert("cluster".to_owned(), json!(cluster));
    }
    let doc = Value::Object(doc);
    let prompt = row.prompt.or(row.question).unwrap_or_default();
    let target = row.answer.unwrap_or_default();
    json!({
        "doc_id": row.sample,
        "doc_hash": sha256(serde_json::to_string_pretty(&doc).unwrap_or_default().as_bytes()),
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": generation(run)}},
        "resps": [[row.text]],
        "filtered_resps": [value],
        "filter": rule,
        "metrics": [METRIC],
        "prompt_hash": sha256(prompt.as_bytes()),
        "target_hash": sha256(target.as_bytes()),
        METRIC: if row.is_right(rule) { 1.0 } else { 0.0 },
    })
}

/// The keyword arguments of `generate_until`; none that nobody knows.
fn generation(run: &StoredRun) -> Value {
    let plan = &run.record.plan.generation;
    if !plan.is_known() {
        return json!({});
    }
    json!({
        "until": plan.stop_strings,
        "do_sample": plan.temperature > 0.0,
        "temperature": plan.temperature,
        "top_p": plan.top_p,
        "top_k": plan.top_k,
        "max_gen_toks": plan.max_tokens,
    })
}

fn results(run: &StoredRun, variant: &str, own: &[&ExportedRow], rules: &[&str], samples: &[Value]) -> Value {
    let (record, task) = (&run.record, task_name(run));
    let plan = &record.plan;
    let mut metrics = Map::new();
    metrics.insert("name".to_owned(), json!(task));
    metrics.insert("alias".to_owned(), json!(task));
    metrics.insert("sample_len".to_owned(), json!(own.len()));
    for rule in rules {
        let (right, n) = (own.iter().filter(|row| row.is_right(rule)).count(), own.len());
        let mean = if n == 0 { Value::Null } else { json!(right as f64 / n as f64) };
        metrics.insert(format!("{METRIC},{rule}"), mean);
        metrics.insert(format!("{METRIC}_stderr,{rule}"), standard_error(right, n));
    }
    let hashes = samples.iter().flat_map(|sample| ["doc_hash", "prompt_hash", "target_hash"].map(|key| &sample[key]));
    let hashes: String = hashes.filter_map(Value::as_str).collect();
    json!({
        "results": {task: metrics},
        "group_subtasks": {task: []},
        "configs": {task: config(run, rules)},
        "versions": {task: plan.protocol.version},
        "n-shot": {},
        "higher_is_better": {task: {METRIC: true}},
        "n-samples": {task: {"original": plan.dataset.rows, "effective": plan.dataset.chosen}},
        "config": {
            "model": "evalsuite",
            "model_args": {"pretrained": plan.target.model.source, "dtype": variant},
            "model_num_parameters": plan.target.model.parameters,
            "model_dtype": variant,
            "model_sha": plan.target.model.sha256,
            "batch_size": plan.batch,
            "limit": (plan.dataset.chosen < plan.dataset.rows).then_some(plan.dataset.chosen),
            "gen_kwargs": generation(run),
            "random_seed": plan.generation.seed,
        },
        "git_hash": Value::Null,
        "evalsuite_version": plan.invocation.evalsuite,
        "task_hashes": {task: sha256(hashes.as_bytes())},
        "model_source": "evalsuite",
        "model_name": plan.target.model.name,
        "model_name_sanitized": sanitized_model(&plan.target.model.name),
        "system_instruction": plan.protocol.system,
        "fewshot_as_multiturn": false,
        "chat_template": Value::Null,
        "total_evaluation_time_seconds":
            record.dtypes.iter().find(|dtype| dtype.dtype.as_str() == variant).and_then(|dtype| dtype.generate_seconds).map(|seconds| seconds.to_string()),
    })
}

fn config(run: &StoredRun, rules: &[&str]) -> Value {
    let plan = &run.record.plan;
    let filters: Vec<Value> = rules.iter().map(|rule| json!({"name": rule, "filter": []})).collect();
    json!({
        "task": task_name(run),
        "dataset_path": plan.dataset.requested,
        "test_split": plan.dataset.split,
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "description": "",
        "output_type": "generate_until",
        "generation_kwargs": generation(run),
        "metric_list": [{"metric": METRIC, "aggregation": "mean", "higher_is_better": true}],
        "filter_list": filters,
        "repeats": 1,
        "metadata": {
            "version": plan.protocol.version,
            KEY: Origin::of(run),
        },
    })
}

/// Of a mean of zeros and ones, as the harness has it: the sample's standard deviation over the root of n.
fn standard_error(right: usize, n: usize) -> Value {
    if n < 2 {
        return json!("N/A");
    }
    let (mean, n) = (right as f64 / n as f64, n as f64);
    json!((mean * (1.0 - mean) / (n - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_as_the_harness_names_them() {
        for (name, folder) in [("bundled", "bundled"), ("meta-llama/X", "meta-llama__X"), ("a://b?*c", "a__b__c")] {
            assert_eq!(sanitized_model(name), folder);
        }
    }

    #[test]
    fn the_standard_error_is_the_harness_s() {
        // lm-evaluation-harness 0.4.13 prints 0.1124 for 10 right of 12.
        assert!((standard_error(10, 12).as_f64().unwrap() - 0.112_366_643_743_873_69).abs() < 1e-15);
        assert_eq!((standard_error(1, 1), standard_error(0, 5)), (json!("N/A"), json!(0.0)));
    }
}
