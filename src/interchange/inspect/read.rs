//! In: a JSON log.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::files::sha256;
use crate::interchange::origin::Origin;
use crate::interchange::told::{Told, ToldAnswer, check_accuracy, only_verdicts, question, verdict};
use crate::jobs::JobError;
use crate::record::StoredSample;
use crate::score::Extraction;

const HINT: &str = "give a log with samples that Inspect AI wrote as JSON; `inspect log dump FILE.eval > FILE.json` makes one of an .eval file";

/// Whether JSON is a log.
pub(in crate::interchange) fn is_log(json: &Value) -> bool {
    json["eval"]["task"].is_string() && json["eval"]["model"].is_string() && json.get("status").is_some()
}

/// A log that has been parsed from `text`.
pub(in crate::interchange) fn read(path: &Path, text: &str, log: &Value) -> Result<Told, JobError> {
    let refused = |what: &str| JobError::invalid(format!("{}: {what}", path.display()), HINT);
    let logged = log["samples"].as_array().filter(|samples| !samples.is_empty());
    let logged = logged.ok_or_else(|| refused("the log has no samples"))?;
    let spec = &log["eval"];
    let mut notes = Vec::new();
    if log["status"] != "success" {
        notes.push(format!("the log's status is {}", log["status"].as_str().unwrap_or("unknown")));
    }
    let rules = rules(logged, &mut notes);
    if rules.is_empty() {
        return Err(refused("no scorer says of its samples that they are right or wrong"));
    }
    let rows = rows(logged);
    let (mut samples, mut answers) = (BTreeMap::<usize, StoredSample>::new(), BTreeMap::new());
    let mut missing = 0;
    for (index, one) in logged.iter().enumerate() {
        let id = id_of(one).ok_or_else(|| refused(&format!("sample {} has no `id`", index + 1)))?;
        let sample = rows[&id];
        let epoch = one["epoch"].as_u64().unwrap_or(1).max(1) as usize;
        samples.entry(sample).or_insert_with(|| asked(one, sample, &id));
        missing += usize::from(rules.iter().any(|rule| one["scores"][rule].is_null()));
        let answer = answer(one, sample, epoch - 1, &rules);
        if answers.insert((sample, epoch - 1), answer).is_some() {
            return Err(refused(&format!("the sample {id} is there twice in epoch {epoch}")));
        }
    }
    if missing > 0 {
        notes.push(format!("{missing} of {} samples lack a score, which counts as wrong", logged.len()));
    }
    let answers: Vec<_> = answers.into_values().map(ToldAnswer::stored).collect();
    for rule in &rules {
        let scores = log["results"]["scores"].as_array().into_iter().flatten();
        let told = scores
            .filter(|score| score["name"] == rule.as_str())
            .find_map(|score| score["metrics"]["accuracy"]["value"].as_f64());
        notes.extend(check_accuracy(rule, &answers, told));
    }
    let origin = Origin::find(&spec["metadata"]);
    let name = spec["task"].as_str().unwrap_or_default().to_owned();
    let model = spec["model"].as_str().unwrap_or_default();
    let version = spec["task_version"].as_f64().unwrap_or(0.0) as u32;
    let decides =
        format!("{name} {} {} {} {}", spec["task_version"], spec["task_args"], spec["scorers"], log["plan"]["steps"]);
    let place = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let package = spec["packages"]["inspect_ai"].as_str().map(|version| format!(" {version}")).unwrap_or_default();
    Ok(Told {
        path: path.to_path_buf(),
        sha256: sha256(text.as_bytes()),
        tool: format!("Inspect AI{package}"),
        model: if origin.is_some() { model.trim_start_matches("evalsuite/") } else { model }.to_owned(),
        precision: spec["model_args"]["dtype"].as_str().map(str::to_owned),
        place,
        task: None,
        protocol: (name.clone(), version, sha256(decides.as_bytes())),
        dataset: (spec["dataset"]["name"].as_str().unwrap_or(&name).to_owned(), None),
        name,
        rules,
        samples,
        answers,
        notes,
    }
    .with_origin(origin))
}

/// Scorers of which every score is a verdict, in the order in which they stand.
fn rules(samples: &[Value], notes: &mut Vec<String>) -> Vec<String> {
    let scores = samples.iter().filter_map(|sample| sample["scores"].as_object()).flatten();
    let scores = scores.map(|(name, score)| (name.as_str(), verdict(&score["value"])));
    only_verdicts(scores, |name| (*name).to_owned(), notes).into_iter().map(str::to_owned).collect()
}

fn id_of(sample: &Value) -> Option<String> {
    sample["id"].as_str().map(str::to_owned).or_else(|| sample["id"].as_i64().map(|id| id.to_string()))
}

/// The row of every id: the id itself where all are whole numbers, else the order in which they come.
fn rows(samples: &[Value]) -> BTreeMap<String, usize> {
    let mut ids: Vec<String> = Vec::new();
    let mut rows = BTreeMap::new();
    for id in samples.iter().filter_map(id_of) {
        if !rows.contains_key(&id) {
            rows.insert(id.clone(), ids.len());
            ids.push(id);
        }
    }
    let numbers: Option<Vec<usize>> =
        samples.iter().map(|sample| sample["id"].as_u64().map(|id| id as usize)).collect();
    if numbers.is_some() {
        for (id, row) in &mut rows {
            *row = id.parse().unwrap_or(*row);
        }
    }
    rows
}

fn asked(sample: &Value, row: usize, id: &str) -> StoredSample {
    let text = |value: &Value| resolved(sample, &content(value));
    let input = match &sample["input"] {
        Value::Array(messages) => {
            messages.iter().map(|message| text(&message["content"])).collect::<Vec<_>>().join("\n\n")
        }
        other => text(other),
    };
    let choices = sample["choices"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let choices: Vec<String> = choices.map(|choice| format!("\n- {choice}")).collect();
    let choices = choices.concat();
    let target = match &sample["target"] {
        Value::Array(targets) => targets.iter().map(content).collect::<Vec<_>>().join(" | "),
        other => content(other),
    };
    let before =
        sample["messages"].as_array().into_iter().flatten().take_while(|message| message["role"] != "assistant");
    let prompt = before.map(|message| text(&message["content"])).collect::<Vec<_>>().join("\n\n");
    let metadata = &sample["metadata"];
    let answer = metadata["answer"].as_str().map_or_else(|| target.clone(), str::to_owned);
    let own_id = if sample["id"].is_string() { Some(id) } else { metadata["id"].as_str() };
    let mut stored = question(row, own_id.map(str::to_owned), input + &choices, answer, Some(target), prompt);
    stored.cluster = metadata["cluster"].as_str().map(str::to_owned);
    stored
}

fn answer(sample: &Value, row: usize, repeat: usize, rules: &[String]) -> ToldAnswer {
    let output = &sample["output"];
    let message = &output["choices"][0]["message"];
    let text = output["completion"].as_str().map_or_else(|| content(&message["content"]), str::to_owned);
    let reasoning = message["content"].as_array().into_iter().flatten();
    let reasoning: Vec<&str> =
        reasoning.filter(|part| part["type"] == "reasoning").filter_map(|part| part["reasoning"].as_str()).collect();
    let thought = (!reasoning.is_empty()).then(|| reasoning.join("\n"));
    let usage = |key: &str| output["usage"][key].as_u64().map(|tokens| tokens as usize);
    let output_tokens = usage("output_tokens");
    let score = |rule: &String| {
        let score = &sample["scores"][rule];
        let value = score["answer"].as_str().map(str::to_owned);
        Extraction { rule: rule.clone(), value, span: None, correct: verdict(&score["value"]).unwrap_or(false) }
    };
    ToldAnswer {
        sample: row,
        repeat,
        text: resolved(sample, &text),
        thought: thought.or_else(|| sample["metadata"]["thought"].as_str().map(str::to_owned)),
        // What came from a cache is a part of the total alone.
        prompt_tokens: usage("total_tokens").zip(output_tokens).and_then(|(total, output)| total.checked_sub(output)),
        output_tokens,
        scores: rules.iter().map(score).collect(),
    }
}

/// A message's text: itself, or its parts of text.
fn content(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Long texts stand apart, under their hash.
fn resolved(sample: &Value, text: &str) -> String {
    let attached = text.strip_prefix("attachment://").and_then(|hash| sample["attachments"][hash].as_str());
    attached.unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_are_their_own_rows_and_other_ids_stand_in_their_order() {
        let of = |ids: &[Value]| rows(&ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>());
        assert_eq!(of(&[json!(17), json!(3), json!(17)]), BTreeMap::from([("17".to_owned(), 17), ("3".to_owned(), 3)]));
        assert_eq!(of(&[json!("b"), json!(3), json!("a")])["3"], 1);
        assert_eq!(
            of(&[json!("b"), json!("a"), json!("b")]),
            BTreeMap::from([("b".to_owned(), 0), ("a".to_owned(), 1)])
        );
    }
}
