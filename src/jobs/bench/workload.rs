//! A workload: the lengths of requests that are submitted at once, from a file, from a run or from a stated distribution.
//!
//! ```json
//! {"requests": [{"prompt_tokens": 96, "output_tokens": 256}, …], "shared_prefix_tokens": 1000}
//! ```
//!
//! `shared_prefix_tokens` may be left out: tokens that all prompts begin with, over and above `prompt_tokens`. `name` and
//! `description` may stand beside it.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::files::{read_text, sha256};
use crate::jobs::JobError;
use crate::jobs::eval::StoredRun;
use crate::random::{GOLDEN, normal_quantile, split_mix};
use crate::record::StoredCompletion;
use crate::text::nearest;

const SHAPE: &str = "a workload is {\"requests\": [{\"prompt_tokens\": 96, \"output_tokens\": 256}, ...]}, and, if prompts begin \
                     alike, \"shared_prefix_tokens\": N";

/// The lengths of one request, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RequestLengths {
    /// The prompt's own, without what all prompts share.
    pub prompt_tokens: usize,
    /// Tokens that it generates.
    pub output_tokens: usize,
}

/// Requests that are submitted at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// For tables.
    pub name: String,
    /// `built in`, or the path.
    pub source: String,
    /// Of the file, or of the same as JSON where it is built in.
    pub sha256: String,
    /// In the order of submission.
    pub requests: Vec<RequestLengths>,
    /// Tokens that all prompts begin with, over and above their own.
    pub shared_prefix_tokens: usize,
}

impl Workload {
    /// 1,319 requests shaped like a zero-shot run over GSM8K's test split through a chat template: prompts of
    /// 36 + exp(x) tokens, x normal with mean 3.95 and standard deviation 0.392 (at its 1,319 quantiles, in a random
    /// order), so that the mean is 92, the median 88 and the range 50 to 230; 256 output tokens each.
    pub fn gsm8k_like() -> Self {
        const REQUESTS: usize = 1319;
        let length = |index: usize| {
            let normal = normal_quantile((index as f64 + 0.5) / REQUESTS as f64);
            36 + libm::exp(3.95 + 0.392 * normal).round() as usize
        };
        let mut requests: Vec<RequestLengths> =
            (0..REQUESTS).map(|index| RequestLengths { prompt_tokens: length(index), output_tokens: 256 }).collect();
        // Fisher and Yates's shuffle, from the last place to the second.
        for last in (1..REQUESTS).rev() {
            let word = split_mix((last as u64).wrapping_mul(GOLDEN));
            requests.swap(last, (word % (last as u64 + 1)) as usize);
        }
        let json = serde_json::json!({ "requests": requests }).to_string();
        Self {
            name: "gsm8k-like".to_owned(),
            source: "built in".to_owned(),
            sha256: sha256(json.as_bytes()),
            requests,
            shared_prefix_tokens: 0,
        }
    }

    /// From a file, or from the folder of a finished run.
    pub fn open(path: &Path) -> Result<Self, JobError> {
        if path.is_dir() {
            return Self::of_run(&StoredRun::read(path)?);
        }
        let text = read_text(path).map_err(|error| {
            JobError::invalid(
                format!("cannot read the workload {}: {error}", path.display()),
                "check the path; without `--workload` the one that is built in runs",
            )
        })?;
        Self::parse(&text, path)
    }

    /// The lengths of a run's completions in its first variant, by sample and repeat: what is left when nothing is tokenised, scored
    /// or kept. A completion without a token asks for one. What its prompts share is not shared.
    fn of_run(run: &StoredRun) -> Result<Self, JobError> {
        let place = run.path.display();
        let completions = run.completions.first().map_or(&[][..], |(_, completions)| completions);
        let lengths = |completion: &StoredCompletion| {
            Some(RequestLengths {
                prompt_tokens: completion.prompt_tokens?.max(1),
                output_tokens: completion.token_ids.as_ref()?.len().max(1),
            })
        };
        let requests: Option<Vec<RequestLengths>> = completions.iter().map(lengths).collect();
        let Some(requests) = requests.filter(|requests| !requests.is_empty()) else {
            return Err(JobError::invalid(format!("the run {place} holds no completion whose length is known"), SHAPE));
        };
        let json = serde_json::json!({ "requests": requests }).to_string();
        Ok(Self {
            name: run.path.file_name().unwrap_or(run.path.as_os_str()).to_string_lossy().into_owned(),
            source: std::fs::canonicalize(&run.path).unwrap_or_else(|_| run.path.clone()).display().to_string(),
            sha256: sha256(json.as_bytes()),
            requests,
            shared_prefix_tokens: 0,
        })
    }

    fn parse(text: &str, path: &Path) -> Result<Self, JobError> {
        let place = path.display();
        let json: Value = serde_json::from_str(text)
            .map_err(|error| JobError::invalid(format!("the workload {place} is not JSON: {error}"), SHAPE))?;
        let fault = |what: String| JobError::invalid(format!("the workload {place}: {what}"), SHAPE);
        let fields = json.as_object().ok_or_else(|| fault("the top of the file is no object".to_owned()))?;
        known(fields, &["requests", "shared_prefix_tokens", "name", "description"]).map_err(fault)?;
        let requests = fields.get("requests").and_then(Value::as_array);
        let requests = requests.ok_or_else(|| fault("`requests` is missing, or no list".to_owned()))?;
        if requests.is_empty() {
            return Err(fault("`requests` is empty".to_owned()));
        }
        let requests = requests
            .iter()
            .enumerate()
            .map(|(index, request)| lengths(request).map_err(|what| fault(format!("requests[{index}]{what}"))));
        let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self {
            name: fields.get("name").and_then(Value::as_str).map_or(stem, str::to_owned),
            source: std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string(),
            sha256: sha256(text.as_bytes()),
            requests: requests.collect::<Result<_, _>>()?,
            shared_prefix_tokens: match fields.get("shared_prefix_tokens") {
                None | Some(Value::Null) => 0,
                Some(value) => count(value, 0).map_err(|what| fault(format!("shared_prefix_tokens{what}")))?,
            },
        })
    }
}

fn lengths(request: &Value) -> Result<RequestLengths, String> {
    let fields = request.as_object().ok_or_else(|| format!(" is {request}, which is no object"))?;
    known(fields, &["prompt_tokens", "output_tokens"]).map_err(|what| format!(": {what}"))?;
    let field = |name: &str| {
        let value = fields.get(name).ok_or_else(|| format!(" has no `{name}`"))?;
        count(value, 1).map_err(|what| format!(".{name}{what}"))
    };
    Ok(RequestLengths { prompt_tokens: field("prompt_tokens")?, output_tokens: field("output_tokens")? })
}

/// No length comes near this; a larger one is a mistake.
const LONGEST: u64 = 1 << 31;

fn count(value: &Value, least: u64) -> Result<usize, String> {
    let count = value.as_u64().filter(|count| (least..LONGEST).contains(count));
    count.map(|count| count as usize).ok_or_else(|| format!(" is {value}: a whole number from {least} on is needed"))
}

/// A misspelt field must not be read as a missing one.
fn known(fields: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    let Some(stranger) = fields.keys().find(|key| !names.contains(&key.as_str())) else { return Ok(()) };
    let meant =
        nearest(stranger, names.iter().copied()).map_or_else(String::new, |name| format!(": is `{name}` meant?"));
    Err(format!("unknown field `{stranger}`{meant}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Workload, String> {
        Workload::parse(text, Path::new("w.json")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_built_in_workload_is_what_its_description_says() {
        let workload = Workload::gsm8k_like();
        let mut lengths: Vec<usize> = workload.requests.iter().map(|request| request.prompt_tokens).collect();
        assert!(lengths.windows(2).filter(|pair| pair[0] < pair[1]).count() < 800, "they are shuffled");
        assert_eq!((lengths.len(), workload.requests[0].output_tokens), (1319, 256));
        lengths.sort_unstable();
        assert_eq!((lengths[0], lengths[659], lengths[1318]), (50, 88, 230));
        let mean = lengths.iter().sum::<usize>() as f64 / 1319.0;
        assert!((mean - 92.0).abs() < 0.5, "{mean}");
        assert_eq!(workload, Workload::gsm8k_like());
    }

    #[test]
    fn files_are_read_with_and_without_a_shared_prefix() {
        let workload =
            parse(r#"{"requests": [{"prompt_tokens": 3, "output_tokens": 2}], "description": "x"}"#).unwrap();
        assert_eq!((workload.name.as_str(), workload.shared_prefix_tokens), ("w", 0));
        assert_eq!(workload.requests, [RequestLengths { prompt_tokens: 3, output_tokens: 2 }]);
        let named =
            r#"{"name": "n", "shared_prefix_tokens": 9, "requests": [{"prompt_tokens": 1, "output_tokens": 1}]}"#;
        let workload = parse(named).unwrap();
        assert_eq!((workload.name.as_str(), workload.shared_prefix_tokens), ("n", 9));
    }

    #[test]
    fn a_bad_file_is_refused_with_its_place() {
        let good = r#"{"prompt_tokens": 1, "output_tokens": 1}"#;
        for (text, part) in [
            ("{\n\"requests\": [,]}".to_owned(), "line 2 column 14"),
            ("[]".to_owned(), "no object"),
            ("{}".to_owned(), "`requests` is missing"),
            (r#"{"requests": []}"#.to_owned(), "`requests` is empty"),
            (format!(r#"{{"requests": [{good}, 7]}}"#), "requests[1] is 7"),
            (format!(r#"{{"requests": [{good}, {{"prompt_tokens": 1}}]}}"#), "requests[1] has no `output_tokens`"),
            (
                r#"{"requests": [{"prompt_tokens": 0, "output_tokens": 1}]}"#.to_owned(),
                "requests[0].prompt_tokens is 0",
            ),
            (r#"{"requests": [{"prompt_tokens": 1, "output_tokens": 1.5}]}"#.to_owned(), "output_tokens is 1.5"),
            (
                r#"{"requests": [{"prompt_token": 1}]}"#.to_owned(),
                "requests[0]: unknown field `prompt_token`: is `prompt_tokens`",
            ),
            (format!(r#"{{"requests": [{good}], "shared_prefix_tokens": -1}}"#), "shared_prefix_tokens is -1"),
            (format!(r#"{{"requests": [{good}], "shared_prefix": 5}}"#), "is `shared_prefix_tokens` meant?"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(part) && error.contains("w.json") && error.contains("\nhint: "), "{text}: {error}");
        }
    }
}
