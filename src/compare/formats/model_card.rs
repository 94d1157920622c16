//! A model card: the `model-index` that the Hub reads, as YAML before a Markdown table that its page shows.

use serde_json::{Value, json};

use super::{Report, ReportFormat};
use crate::compare::rows::ComparisonRow;
use crate::compare::source::{Source, sources};
use crate::jobs::eval::StoredRun;
use crate::report::ReportError;

/// `--format model-card`.
#[derive(Debug)]
pub(super) struct ModelCard;

impl ReportFormat for ModelCard {
    fn name(&self) -> &'static str {
        "model-card"
    }

    fn description(&self) -> &'static str {
        "the Hub's model-index and a table for a README.md"
    }

    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let table = report.templates.fill("model-card.md", report.comparison, false)?;
        let index = json!({"model-index": index(report)});
        Ok(format!("---\n{}---\n\n{table}", yaml(&index)))
    }
}

/// An entry a model; in it a result a run, with each variant's accuracy by the rule that decides.
fn index(report: &Report) -> Vec<Value> {
    let mut names: Vec<&str> = Vec::new();
    for run in report.runs {
        let name = run.record.plan.target.model.name.as_str();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let entry = |name: &&str| {
        let own = report.runs.iter().enumerate().filter(|(_, run)| run.record.plan.target.model.name == **name);
        let results: Vec<Value> = own.map(|(index, run)| result(report, index, run)).collect();
        json!({"name": name, "results": results})
    };
    names.iter().map(entry).collect()
}

fn result(report: &Report, index: usize, run: &StoredRun) -> Value {
    let rule = report.comparison.rules.first().map_or("", String::as_str);
    let of_run =
        sources(report.runs).into_iter().zip(&report.comparison.rows).filter(|(source, _)| source.run == index);
    let metric = |(_, row): (Source, &ComparisonRow)| {
        let accuracy = row.scores.first()?.accuracy?;
        Some(json!({
            "type": "exact_match",
            "value": accuracy.value,
            "name": format!("{}, rule {rule}", row.precision),
            "args": {
                "variant": row.precision,
                "rule": rule,
                "protocol": run.record.plan.protocol.name,
                "n": accuracy.n,
                "low_95": accuracy.low,
                "high_95": accuracy.high,
            },
            "verified": false,
        }))
    };
    let metrics: Vec<Value> = of_run.filter_map(metric).collect();
    let plan = &run.record.plan;
    let task = plan.task.as_ref().map_or_else(|| plan.title().to_owned(), |task| task.title.clone());
    let mut dataset = json!({"name": task, "type": dataset_type(run)});
    if let Some(dataset) = dataset.as_object_mut() {
        if !plan.dataset.split.is_empty() {
            dataset.insert("split".to_owned(), json!(plan.dataset.split));
        }
        // What decides which rows there are.
        dataset.insert("args".to_owned(), json!({"rows": plan.dataset.selection, "sha256": plan.dataset.sha256}));
    }
    json!({"task": {"type": "text-generation", "name": "Text Generation"}, "dataset": dataset, "metrics": metrics})
}

/// The dataset's id on the Hub; a file's name where it is none of the Hub's.
fn dataset_type(run: &StoredRun) -> String {
    let dataset = &run.record.plan.dataset;
    let is_id = dataset.requested.split('/').count() == 2
        && !dataset.requested.starts_with(['.', '/'])
        && !std::path::Path::new(&dataset.requested).exists();
    if is_id { dataset.requested.clone() } else { dataset.name.clone() }
}

/// YAML in block style; texts in double quotes, whose escapes are JSON's.
fn yaml(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

fn write(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    let pad = pad.as_str();
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                out.extend([pad, key.as_str(), ":"]);
                nested(member, indent + 2, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = String::new();
                write(item, indent + 2, &mut inner);
                // The first line of an item begins with its dash.
                out.extend([pad, "- ", inner.trim_start()]);
            }
        }
        scalar => out.extend([pad, scalar.to_string().as_str(), "\n"]),
    }
}

/// What follows `key:`.
fn nested(value: &Value, indent: usize, out: &mut String) {
    let is_empty =
        value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty);
    if is_empty || !(value.is_array() || value.is_object()) {
        out.extend([" ", value.to_string().as_str(), "\n"]);
    } else {
        out.push('\n');
        write(value, indent, out);
    }
}

#[cfg(test)]
mod tests {
    use yaml_rust2::{Yaml, YamlLoader};

    use super::*;

    fn json_of(yaml: &Yaml) -> Value {
        match yaml {
            Yaml::Hash(members) => members
                .iter()
                .map(|(key, value)| (key.as_str().unwrap().to_owned(), json_of(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Yaml::Array(items) => items.iter().map(json_of).collect(),
            Yaml::String(text) => json!(text),
            Yaml::Integer(number) => json!(number),
            Yaml::Real(number) => json!(number.parse::<f64>().unwrap()),
            Yaml::Boolean(flag) => json!(flag),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let value = json!({"model-index": [
            {"name": "a: \"b\" #c\n- d é\u{2028}", "results": [{"metrics": [{"value": 0.5, "n": 3, "ok": false}, {"value": 1e-7}]}, {"metrics": []}]},
            {"name": "- yes", "results": []},
        ]});
        let read = YamlLoader::load_from_str(&yaml(&value)).unwrap();
        assert_eq!(json_of(&read[0]), value);
    }
}
