//! In: samples with the results beside them.
//!
//! Two layouts are known: `MODEL/results_TIME.json` with `MODEL/samples_TASK_TIME.jsonl` (since 0.4.3), and `results.json` with
//! `ARGUMENTS_TASK.jsonl` in one folder (0.4.0 to 0.4.2, whose `.jsonl` is one JSON list, and does not name its filters).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::INVALID;
use crate::files::{read_text, sha256};
use crate::interchange::origin::Origin;
use crate::interchange::told::{Told, ToldAnswer, check_accuracy, only_verdicts, question, verdict};
use crate::jobs::JobError;
use crate::record::StoredSample;
use crate::score::Extraction;

/// What a line has that is no metric.
const NO_METRICS: [&str; 12] = [
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
    "multi_target",
];
/// Where a row of a dataset usually has its question.
const QUESTIONS: [&str; 8] = ["question", "problem", "query", "input", "prompt", "text", "sentence", "goal"];

/// A file of samples with the results that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::interchange) struct Samples {
    path: PathBuf,
    results: Option<PathBuf>,
}

/// The newest samples of each task in a folder; none where it holds none.
pub(in crate::interchange) fn find(files: &[PathBuf]) -> Vec<Samples> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ends = |ending: &'static str| files.iter().filter(move |path| name(path).ends_with(ending));
    let results: Vec<&PathBuf> = ends(".json").filter(|path| is_results(path)).collect();
    let mut newest: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for path in ends(".jsonl") {
        let stem = name(path).trim_end_matches(".jsonl").to_owned();
        // Without a time in its name a file is the only one of its task.
        let task = stem
            .strip_prefix("samples_")
            .and_then(|rest| rest.rsplit_once('_'))
            .map_or(stem.clone(), |(task, _)| task.to_owned());
        let is_newer = newest.get(&task).is_none_or(|other| name(other) < name(path));
        if is_newer && (stem.starts_with("samples_") || !results.is_empty()) {
            newest.insert(task, path);
        }
    }
    newest.into_values().map(|path| Samples { results: results_of(path, &results), path: path.clone() }).collect()
}

/// A file of samples itself, with the results beside it.
pub(in crate::interchange) fn with_results(path: &Path) -> Samples {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = std::fs::read_dir(folder).ok();
    let mut results: Vec<PathBuf> = beside.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    results.retain(|path| path.extension().is_some_and(|extension| extension == "json") && is_results(path));
    Samples { results: results_of(path, &results.iter().collect::<Vec<_>>()), path: path.to_path_buf() }
}

/// Whether a file holds the harness's results.
pub(in crate::interchange) fn is_results(path: &Path) -> bool {
    let json = read_text(path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    json.is_some_and(|json| {
        json["results"].is_object() && (json["configs"].is_object() || json["versions"].is_object())
    })
}

/// Those of the same time, else the only ones.
fn results_of(samples: &Path, results: &[&PathBuf]) -> Option<PathBuf> {
    let time = |path: &Path| {
        let stem = path.file_stem()?.to_string_lossy().into_owned();
        stem.rsplit_once('_').map(|(_, time)| time.to_owned())
    };
    let same = results.iter().find(|path| time(path).is_some() && time(path) == time(samples));
    let only = if let [only] = results { Some(only) } else { None };
    same.or(only).map(|path| (*path).clone())
}

impl Samples {
    /// Whether these results are its own.
    pub(in crate::interchange) fn belong_to(&self, results: &Path) -> bool {
        let name = |path: &Path| path.file_name().map(std::ffi::OsStr::to_os_string);
        self.results.as_deref().is_some_and(|own| name(own) == name(results))
    }

    pub(in crate::interchange) fn read(&self) -> Result<Told, JobError> {
        let text = text_of(&self.path)?;
        let rows = rows(&self.path, &text)?;
        let mut bytes = text.into_bytes();
        let results = match &self.results {
            None => Value::Null,
            Some(path) => {
                let text = text_of(path)?;
                bytes.extend_from_slice(text.as_bytes());
                serde_json::from_str(&text).map_err(|error| refused(path, &format!("not JSON: {error}")))?
            }
        };
        told(&self.path, &rows, &results, sha256(&bytes))
    }
}

fn text_of(path: &Path) -> Result<String, JobError> {
    read_text(path).map_err(|error| {
        JobError::invalid(
            format!("cannot read {}: {error}", path.display()),
            "check the path, and that the file is UTF-8 text",
        )
    })
}

fn refused(path: &Path, what: &str) -> JobError {
    JobError::invalid(
        format!("{}: {what}", path.display()),
        "give a folder that lm-evaluation-harness wrote with `--log_samples`, or one of its samples_*.jsonl",
    )
}

/// Lines, or one list.
fn rows(path: &Path, text: &str) -> Result<Vec<Map<String, Value>>, JobError> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| refused(path, &format!("no list of samples: {error}")));
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(index, line): (usize, &str)| {
        let row = serde_json::from_str::<Map<String, Value>>(line);
        row.map_err(|error| refused(path, &format!("line {}: not a JSON object: {error}", index + 1)))
    };
    lines.map(row).collect()
}

fn told(path: &Path, rows: &[Map<String, Value>], results: &Value, sha256: String) -> Result<Told, JobError> {
    if rows.is_empty() {
        return Err(refused(path, "there is no sample in it"));
    }
    let name = task_of(path, results);
    let config = &results["configs"][name.as_str()];
    let filters = filters(rows, config);
    let origin = Origin::find(&config["metadata"]);
    let mut notes = Vec::new();
    let rules = rules(rows, &filters, &mut notes);
    if rules.is_empty() {
        let keys: Vec<&str> = metrics_of(&rows[0]).collect();
        return Err(refused(path, &format!("no metric is right or wrong by sample: {}", keys.join(", "))));
    }
    let (mut samples, mut answers) =
        (BTreeMap::<usize, StoredSample>::new(), BTreeMap::<(usize, usize), ToldAnswer>::new());
    let mut seen: HashMap<(usize, &str), usize> = HashMap::new();
    let mut unscored = 0;
    for (index, (row, filter)) in rows.iter().zip(&filters).enumerate() {
        let place = format!("sample {}", index + 1);
        let sample = row.get("doc_id").and_then(Value::as_u64);
        let sample = sample.ok_or_else(|| refused(path, &format!("{place} has no `doc_id`")))? as usize;
        let said = Said::of(row).ok_or_else(|| refused(path, &format!("{place} has no `resps`")))?;
        let count = seen.entry((sample, filter)).or_default();
        let repeat = *count;
        *count += 1;
        samples.entry(sample).or_insert_with(|| asked(row, sample, &said, origin.is_some()));
        unscored += usize::from(said.more && repeat == 0);
        let answer = answers.entry((sample, repeat)).or_insert_with(|| ToldAnswer {
            sample,
            repeat,
            text: said.text.clone(),
            ..ToldAnswer::default()
        });
        for rule in rules.iter().filter(|rule| rule.filter == *filter) {
            let correct = row.get(&rule.metric).and_then(verdict).unwrap_or(false);
            answer.scores.push(Extraction { rule: rule.name.clone(), value: said.value.clone(), span: None, correct });
        }
    }
    if unscored > 0 {
        notes.push(
            "the harness scored several answers a question as one: the first stands here, with that verdict".to_owned(),
        );
    }
    let answers: Vec<_> = answers.into_values().map(ToldAnswer::stored).collect();
    for rule in &rules {
        let own = &results["results"][name.as_str()];
        let told = [format!("{},{}", rule.metric, rule.filter), rule.metric.clone()]
            .iter()
            .find_map(|key| own[key.as_str()].as_f64());
        notes.extend(check_accuracy(&rule.name, &answers, told));
    }
    let names = rules.into_iter().map(|rule| rule.name);
    Ok(Told {
        path: path.to_path_buf(),
        sha256,
        tool: tool(results),
        model: model(path, results),
        precision: precision(results),
        place: path
            .parent()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        task: None,
        protocol: protocol(&name, config, results),
        dataset: (config["dataset_path"].as_str().unwrap_or(&name).to_owned(), None),
        rules: names.collect(),
        name,
        samples,
        answers,
        notes,
    }
    .with_origin(origin))
}

/// The task of a file: between `samples_` and the time, or that of the results which its name ends in.
fn task_of(path: &Path, results: &Value) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some((task, _)) = stem.strip_prefix("samples_").and_then(|rest| rest.rsplit_once('_')) {
        return task.to_owned();
    }
    let known = results["configs"].as_object().or_else(|| results["results"].as_object());
    let fits = |task: &&String| stem == **task || stem.ends_with(&format!("_{task}"));
    let found = known.into_iter().flat_map(Map::keys).filter(fits).max_by_key(|task| task.len());
    found.cloned().unwrap_or(stem)
}

/// The filter of every row. Old files do not say: the first line of a document is of the first filter.
fn filters(rows: &[Map<String, Value>], config: &Value) -> Vec<String> {
    let named: Vec<&str> =
        config["filter_list"].as_array().into_iter().flatten().filter_map(|filter| filter["name"].as_str()).collect();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let filter = |row: &Map<String, Value>| {
        if let Some(name) = row.get("filter").and_then(Value::as_str) {
            return name.to_owned();
        }
        let count = seen.entry(row.get("doc_id").map(Value::to_string).unwrap_or_default()).or_default();
        *count += 1;
        named.get(*count - 1).copied().unwrap_or("none").to_owned()
    };
    rows.iter().map(filter).collect()
}

struct MetricRule {
    name: String,
    filter: String,
    metric: String,
}

fn metrics_of(row: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let listed: Option<Vec<&str>> =
        row.get("metrics").and_then(Value::as_array).map(|list| list.iter().filter_map(Value::as_str).collect());
    listed
        .unwrap_or_else(|| row.keys().map(String::as_str).filter(|key| !NO_METRICS.contains(key)).collect())
        .into_iter()
}

/// Every filter's metrics that are right or wrong on each of its rows.
fn rules(rows: &[Map<String, Value>], filters: &[String], notes: &mut Vec<String>) -> Vec<MetricRule> {
    let scores = rows.iter().zip(filters).flat_map(|(row, filter)| {
        metrics_of(row).map(move |metric| ((filter.as_str(), metric), row.get(metric).and_then(verdict)))
    });
    let found = only_verdicts(scores, |(filter, metric)| format!("{metric},{filter}"), notes);
    let is_one_metric = found.iter().all(|(_, metric)| *metric == found[0].1);
    let name = |filter: &str, metric: &str| match filter {
        "none" => metric.to_owned(),
        _ if is_one_metric => filter.to_owned(),
        _ => format!("{metric},{filter}"),
    };
    let rule = |(filter, metric): (&str, &str)| MetricRule {
        name: name(filter, metric),
        filter: filter.to_owned(),
        metric: metric.to_owned(),
    };
    found.into_iter().map(rule).collect()
}

/// What a row's model said, and what the filter took of it.
struct Said {
    text: String,
    value: Option<String>,
    /// Of a choice: the texts to choose from.
    choices: Vec<String>,
    /// There are several answers.
    more: bool,
}

impl Said {
    fn of(row: &Map<String, Value>) -> Option<Self> {
        let responses = row.get("resps")?.as_array()?;
        let first = responses.first().and_then(Value::as_array)?;
        if let Some(text) = first.first().and_then(Value::as_str) {
            let filtered = row.get("filtered_resps").and_then(first_text).filter(|value| *value != INVALID);
            return Some(Self {
                text: text.to_owned(),
                value: filtered.map(str::to_owned),
                choices: Vec::new(),
                more: first.len() > 1,
            });
        }
        // Log-likelihoods, one a choice: [[[-1.5, false]], …]. What is likelier is the answer.
        let likelihood = |response: &Value| number(&response[0][0]).or_else(|| number(&response[0]));
        let likelihoods: Vec<f64> = responses.iter().map(likelihood).collect::<Option<_>>()?;
        let choices: Vec<String> =
            (0..responses.len()).map(|index| argument(row, index, 1).trim().to_owned()).collect();
        let best = (0..likelihoods.len()).max_by(|one, other| likelihoods[*one].total_cmp(&likelihoods[*other]))?;
        Some(Self { text: choices[best].clone(), value: Some(choices[best].clone()), choices, more: false })
    }
}

/// The harness writes numbers of a list as text now and then.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn first_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(list) => list.first().and_then(first_text),
        _ => None,
    }
}

/// An argument of a request: a prompt is 0, a continuation 1.
fn argument(row: &Map<String, Value>, request: usize, which: usize) -> String {
    let arguments = row.get("arguments").unwrap_or(&Value::Null);
    let one = if arguments.is_array() {
        &arguments[request][which]
    } else {
        &arguments[format!("gen_args_{request}")][format!("arg_{which}")]
    };
    first_text(one).unwrap_or_default().to_owned()
}

fn asked(row: &Map<String, Value>, sample: usize, said: &Said, is_ours: bool) -> StoredSample {
    let prompt = argument(row, 0, 0);
    let doc = row.get("doc").unwrap_or(&Value::Null);
    let text = QUESTIONS.iter().find_map(|key| doc[*key].as_str()).filter(|text| !text.is_empty());
    let target = row
        .get("target")
        .map(|target| target.as_str().map_or_else(|| target.to_string(), str::to_owned))
        .unwrap_or_default();
    // The target of a choice is its number.
    let chosen = target.parse::<usize>().ok().and_then(|index| said.choices.get(index));
    let id = doc["id"].as_str().map(str::to_owned);
    let reference = doc["reference"].as_str().map(str::to_owned);
    let text = text.map_or_else(|| prompt.clone(), str::to_owned);
    let cluster = doc["cluster"].as_str().filter(|_| is_ours).map(str::to_owned);
    StoredSample { cluster, ..question(sample, id, text, chosen.cloned().unwrap_or(target), reference, prompt) }
}

fn tool(results: &Value) -> String {
    let version = results["lm_eval_version"].as_str().map(|version| format!(" {version}")).unwrap_or_default();
    format!("lm-evaluation-harness{version}")
}

/// As the harness names it: of these arguments, in this order.
fn model(path: &Path, results: &Value) -> String {
    let arguments = &results["config"]["model_args"];
    let of_arguments =
        ["peft", "delta", "pretrained", "model", "path", "engine"].iter().find_map(|key| argument_of(arguments, key));
    let folder = || path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().replace("__", "/"));
    let named = results["model_name"].as_str().map(str::to_owned);
    named.or(of_arguments).or_else(folder).unwrap_or_else(|| "model".to_owned())
}

fn precision(results: &Value) -> Option<String> {
    let config = &results["config"];
    let named = argument_of(&config["model_args"], "dtype").filter(|name| name != "auto");
    let named = named.or_else(|| config["model_dtype"].as_str().map(str::to_owned))?;
    Some(named.trim_start_matches("torch.").to_owned())
}

/// Of `{"dtype": "float16"}`, or of `pretrained=x,dtype=float16`.
fn argument_of(arguments: &Value, key: &str) -> Option<String> {
    if let Some(words) = arguments.as_str() {
        let pair = words.split(',').filter_map(|word| word.split_once('='));
        return pair.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.to_owned()).next();
    }
    arguments[key].as_str().map(str::to_owned)
}

/// What of a task's configuration decides answers and verdicts; not whose model it was.
fn protocol(name: &str, config: &Value, results: &Value) -> (String, u32, String) {
    let mut decides = config.clone();
    if let Some(config) = decides.as_object_mut() {
        config.remove("metadata");
    }
    let version = results["versions"][name].as_f64().unwrap_or(0.0);
    let shots = &results["n-shot"][name];
    (name.to_owned(), version as u32, sha256(format!("{name} {version} {shots} {decides}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_results_of_their_own_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let results = r#"{"results": {}, "configs": {}}"#;
        let files = [
            file("results_2026-11-01T10.json", results),
            file("results_2026-11-02T10.json", results),
            file("samples_gsm8k_2026-11-02T10.jsonl", ""),
            file("samples_gsm8k_2026-11-01T10.jsonl", ""),
            file("samples_svamp_2026-11-01T10.jsonl", ""),
            file("samples_svamp_2026-11-03T10.jsonl", ""),
        ];
        let own = |samples: &Path| Some(results_of(samples, &[&files[0], &files[1]])?.file_name()?.to_owned());
        assert_eq!(own(&files[2]), Some("results_2026-11-02T10.json".into()));
        assert_eq!(own(&files[4]), Some("results_2026-11-01T10.json".into()));
        assert_eq!(own(&files[5]), None, "of another time, and there are two to choose from");
        assert_eq!(results_of(&files[5], &[&files[0]]).as_ref(), Some(&files[0]), "the only ones");
        // Of each task the newest.
        let found: Vec<PathBuf> = find(&files).into_iter().map(|samples| samples.path).collect();
        assert_eq!(found, [files[2].clone(), files[5].clone()]);
    }
}
