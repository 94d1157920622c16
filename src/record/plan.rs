//! `plan.json`: what the plans of all jobs share, and how two plans are compared.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{VariantName, utc_now};
use crate::engine::Precision;
use crate::engine::model::Family;

/// Who ran what, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// The version of evalsuite.
    pub evalsuite: String,
    /// The command line, as words.
    pub command: Vec<String>,
    /// Where the command was given: its relative paths are meant from there. Older plans do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// When the run began, UTC.
    pub started: String,
}

impl Invocation {
    /// Begun now, by this version.
    pub fn now(command: &[String]) -> Self {
        Self {
            evalsuite: env!("CARGO_PKG_VERSION").to_owned(),
            command: command.to_vec(),
            working_directory: std::env::current_dir().ok().map(|folder| folder.display().to_string()),
            started: utc_now(),
        }
    }
}

/// The model of a run, and its further variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetPlan {
    /// The model.
    pub model: ModelPlan,
    /// Its AWQ form, where awq runs from files of its own.
    #[serde(default)]
    pub awq: Option<AwqPlan>,
    /// Further checkpoints of the model, by the names of their variants; left out where there is none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variants: BTreeMap<VariantName, VariantPlan>,
    /// The variant that the others are compared with, where the user named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<VariantName>,
}

impl TargetPlan {
    /// The variant that the others are compared with: the one that the user named, else f32, where it is among these.
    pub fn reference_among<'a>(&self, variants: impl IntoIterator<Item = &'a VariantName>) -> Option<VariantName> {
        let wanted = self.reference.clone().unwrap_or_else(|| Precision::F32.into());
        variants.into_iter().find(|variant| **variant == wanted).cloned()
    }

    /// Whether a server is among its variants, which does not tell its precision.
    pub fn has_endpoint(&self) -> bool {
        self.model.endpoint.is_some() || self.variants.values().any(|plan| plan.endpoint.is_some())
    }

    /// Says what an endpoint was really sent prompts as: `ids`, `text` or `messages`. Other variants are left alone. Whether it is the
    /// model itself.
    pub fn set_prompts_sent_as(&mut self, variant: &VariantName, sent_as: &str) -> bool {
        let endpoint = match self.variants.get_mut(variant) {
            Some(plan) => &mut plan.endpoint,
            None => &mut self.model.endpoint,
        };
        if let Some(endpoint) = endpoint {
            sent_as.clone_into(&mut endpoint.prompts);
        }
        self.model.endpoint.is_some() && !self.variants.contains_key(variant)
    }

    /// Whether a variant holds the model's weights as they were trained: f32 of files that are not quantised.
    pub fn is_ground_truth(&self, variant: &VariantName) -> bool {
        match self.variants.get(variant) {
            None => *variant == Precision::F32 && !self.model.quantized,
            Some(plan) => plan.precision == Some(Precision::F32) && !plan.quantized,
        }
    }
}

/// How much the weights of some files take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StoredWeights {
    /// Of all tensors in the files.
    pub bytes: u64,
    /// Of these, over the model's parameters: scales, zero points, embeddings and norms have their share.
    pub bits_per_weight: f64,
}

impl StoredWeights {
    /// So many bytes for so many parameters.
    pub fn new(bytes: u64, parameters: u64) -> Self {
        // Three decimals: more would say nothing, and stay no number that another program writes.
        let bits = bytes as f64 * 8.0 / parameters.max(1) as f64;
        Self { bytes, bits_per_weight: (bits * 1000.0).round() / 1000.0 }
    }
}

/// A model's provenance. What an endpoint does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// For tables.
    pub name: String,
    /// `bundled`, a path, a hub address with commit, or an endpoint's address.
    pub source: String,
    /// Over every file that decides an answer.
    #[serde(default)]
    pub sha256: Option<String>,
    /// What the files hold their tensors in: `f32`, `Q4_K_M`, `gptq-int4 (group 128)`.
    #[serde(default)]
    pub stored_as: Option<String>,
    /// How much they take; earlier versions kept no such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<StoredWeights>,
    /// The files hold fewer bits than the model was trained in: no precision of theirs is its ground truth.
    #[serde(default)]
    pub quantized: bool,
    /// The family.
    #[serde(default)]
    pub family: Option<Family>,
    /// Parameters, counted from the configuration.
    #[serde(default)]
    pub parameters: Option<u64>,
    /// How it is asked, where it is an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointPlan>,
}

/// How an endpoint is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPlan {
    /// `completions` or `chat`.
    pub api: String,
    /// What prompts are sent as: `text`, `ids` or `messages`.
    pub prompts: String,
    /// Where a tokenizer was read, if one was: it renders prompts, makes ids of them, and counts tokens.
    pub tokenizer: Option<String>,
    /// Further keys of every request.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// The provenance of a model's AWQ form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AwqPlan {
    /// For tables.
    pub name: String,
    /// `bundled-awq`, a path, or a hub address with commit.
    pub source: String,
    /// Over every file that decides an answer.
    pub sha256: String,
    /// `awq-int4 (group 64)`.
    pub stored_as: String,
    /// How much the files take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<StoredWeights>,
}

/// The provenance of a further checkpoint of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantPlan {
    /// For tables.
    pub name: String,
    /// A path, or a hub address with commit.
    pub source: String,
    /// Over every file that decides an answer, its tokenizer's too, of which the run uses the model's; `None` of an endpoint.
    #[serde(default)]
    pub sha256: Option<String>,
    /// `f16`, `awq-int4 (group 64)`; `None` of an endpoint.
    #[serde(default)]
    pub stored_as: Option<String>,
    /// How much the files take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<StoredWeights>,
    /// The files hold fewer bits than the model was trained in.
    pub quantized: bool,
    /// The weight format and the arithmetic that it runs in.
    pub precision: Option<Precision>,
    /// How it is asked, where it is an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointPlan>,
}

impl VariantPlan {
    /// A model that runs as a further checkpoint of another.
    pub fn of(model: ModelPlan, precision: Option<Precision>) -> Self {
        let ModelPlan { name, source, sha256, stored_as, weights, quantized, endpoint, .. } = model;
        Self { name, source, sha256, stored_as, weights, quantized, precision, endpoint }
    }
}

/// How completions were generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationPlan {
    /// 0 is greedy.
    pub temperature: f64,
    /// Nucleus.
    pub top_p: f64,
    /// 0 is all.
    pub top_k: usize,
    /// The run's seed; each request's is derived from it, the row and the repeat.
    pub seed: u64,
    /// Completions a sample.
    pub repeats: usize,
    /// Tokens to generate at most; 0 where completions were made elsewhere, of which only the repeats are known.
    pub max_tokens: usize,
    /// Strings that end a generation, the protocol's and the user's.
    pub stop_strings: Vec<String>,
    /// What ends a thought besides the marks of known models, where the user named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think_end: Option<String>,
}

impl GenerationPlan {
    /// Of completions made elsewhere.
    pub const fn unknown(repeats: usize) -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
            repeats,
            max_tokens: 0,
            stop_strings: Vec::new(),
            think_end: None,
        }
    }

    /// Whether anything of it is known.
    pub const fn is_known(&self) -> bool {
        self.max_tokens > 0
    }
}

/// Everything that decides a run's answers, as stored in the run folder.
pub trait RunPlan: Serialize + DeserializeOwned {
    /// The command line, as words.
    fn command(&self) -> &[String];

    /// Every field that could change an answer or a score and differs between this plan (was) and `other` (is).
    fn differences(&self, other: &Self) -> Result<Vec<Difference>, serde_json::Error> {
        let mut found = Vec::new();
        compare("", &serde_json::to_value(self)?, &serde_json::to_value(other)?, &mut found);
        Ok(found)
    }
}

/// One field in which two plans differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `model.sha256`, …
    pub field: String,
    /// In the run folder.
    pub was: String,
    /// In the command now given.
    pub is: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: was {}, is {}", self.field, self.was, self.is)
    }
}

/// Such as are no checkpoint's.
const INDIFFERENT: [&str; 11] = [
    "command",
    "working_directory",
    "started",
    "task.title",
    "task.file",
    "completions.source",
    "dataset.name",
    "dataset.source",
    "dataset.requested",
    "prompts.name",
    "prompts.source",
];

/// Fields that say where and when, and decide nothing.
fn is_indifferent(field: &str) -> bool {
    let of_checkpoint = match field.split_once('.') {
        Some(("model" | "awq", rest)) => Some(rest),
        // A variant's name may hold dots; no name of a field does.
        Some(("variants", rest)) => rest.rsplit_once('.').map(|(_, last)| last),
        _ => None,
    };
    // The hash beside them decides, and `stored_as` has become a file's own name of it.
    let said = |field: &str| matches!(field, "name" | "source" | "stored_as" | "weights" | "bytes" | "bits_per_weight");
    of_checkpoint.is_some_and(|field| said(field.rsplit('.').next().unwrap_or(field))) || INDIFFERENT.contains(&field)
}

/// Whether a version is newer than another: what an older one planned is gone on with, as far as its engine computes alike
/// ([`crate::engine::EngineInfo::computes_like`]), and what a newer one planned is not known here.
fn is_newer(version: &Value, than: &Value) -> bool {
    let numbers =
        |version: &Value| -> Option<Vec<u32>> { version.as_str()?.split('.').map(|part| part.parse().ok()).collect() };
    numbers(version).zip(numbers(than)).is_none_or(|(version, than)| version > than)
}

fn compare(field: &str, was: &Value, is: &Value, found: &mut Vec<Difference>) {
    if let (Value::Object(was), Value::Object(is)) = (was, is) {
        // A field that is left out where it says nothing may stand in either of them alone.
        let new = is.keys().filter(|key| !was.contains_key(*key));
        for key in was.keys().chain(new) {
            let inner = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
            let value = |object: &Map<String, Value>| object.get(key).cloned().unwrap_or_default();
            compare(&inner, &value(was), &value(is), found);
        }
    } else if was != is && !is_indifferent(field) && (field != "evalsuite" || is_newer(was, is)) {
        found.push(Difference { field: field.to_owned(), was: shown(was), is: shown(is) });
    }
}

/// A value in words: strings bare, nothing as `none`.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn differences(was: &Value, is: &Value) -> Vec<String> {
        let mut found = Vec::new();
        compare("", was, is, &mut found);
        found.iter().map(Difference::to_string).collect()
    }

    #[test]
    fn what_weights_are_called_decides_nothing_and_their_hash_does() {
        let plan = |sha256: &str, stored_as: &str, weights: Value| {
            let model = json!({"name": "m", "sha256": sha256, "stored_as": stored_as, "weights": weights});
            json!({"model": model, "awq": model, "variants": {"g.32": model}})
        };
        let old = plan("1", "Q4_K", Value::Null);
        let new = plan("1", "Q4_K_M", json!({"bytes": 5, "bits_per_weight": 4.8}));
        assert_eq!(differences(&old, &new), Vec::<String>::new());
        assert_eq!(differences(&new, &plan("1", "Q4_K_M", json!({"bytes": 6}))), Vec::<String>::new());
        assert_eq!(differences(&old, &plan("2", "Q4_K", Value::Null)).len(), 3);
        assert_eq!(differences(&json!({"task": {"stored_as": 1}}), &json!({"task": {"stored_as": 2}})).len(), 1);
    }

    #[test]
    fn an_older_version_s_plan_is_gone_on_with_and_a_newer_one_s_is_not() {
        let of = |version: &str| json!({"evalsuite": version});
        for older in ["0.1.0", "0.2.0", "0.2.9", "0.9.10"] {
            assert_eq!(differences(&of(older), &of("0.10.0")), Vec::<String>::new(), "{older}");
        }
        for newer in ["0.10.1", "1.0.0", "next"] {
            let expected = format!("evalsuite: was {newer}, is 0.10.0");
            assert_eq!(differences(&of(newer), &of("0.10.0")), [expected]);
        }
    }

    #[test]
    fn a_field_that_stands_in_one_plan_alone_differs() {
        let old = json!({"protocol": {"name": "a", "chat": true}, "command": ["x"]});
        let new = json!({"protocol": {"name": "a", "chat": true, "system": "Be brief."}, "command": ["y"], "task": {"name": "t"}});
        assert_eq!(differences(&old, &old), Vec::<String>::new());
        assert_eq!(
            differences(&old, &new),
            ["protocol.system: was none, is Be brief.", "task: was none, is {\"name\":\"t\"}"]
        );
        assert_eq!(differences(&new, &old).len(), 2);
        assert_eq!(differences(&json!({"task": null}), &json!({})), Vec::<String>::new());
    }
}
