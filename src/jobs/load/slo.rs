//! Limits that an answer has to keep to be of use: `ttft=200ms,itl=20ms,e2e=5s`.

use serde::{Deserialize, Serialize};

use super::RequestRecord;
use crate::fault::Fault;

/// Limits in seconds; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// Time to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft: Option<f64>,
    /// Mean time between tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub itl: Option<f64>,
    /// The whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e: Option<f64>,
}

const HINT: &str = "give limits such as `ttft=200ms,itl=20ms,e2e=5s`, each once, in ms or s";

impl Slo {
    /// Reads limits.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut slo = Self::default();
        for limit in text.split(',') {
            let refuse = |why: &str| Fault::new(format!("--slo {text}: {why}"), HINT);
            let (name, value) =
                limit.split_once('=').ok_or_else(|| refuse(&format!("there is no `=` in `{limit}`")))?;
            let place = match name.trim() {
                "ttft" => &mut slo.ttft,
                "itl" | "tpot" => &mut slo.itl,
                "e2e" | "e2el" => &mut slo.e2e,
                other => return Err(refuse(&format!("there is no limit `{other}`"))),
            };
            let seconds = seconds(value.trim()).ok_or_else(|| refuse(&format!("`{value}` is no time above 0")))?;
            if place.replace(seconds).is_some() {
                return Err(refuse(&format!("`{}` stands there twice", name.trim())));
            }
        }
        Ok(slo)
    }

    /// Whether there is no limit.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an answer keeps every limit. What was not measured keeps none; a single token has no gap to be too long.
    pub fn is_kept(&self, request: &RequestRecord) -> bool {
        let within = |limit: Option<f64>, value: Option<f64>| {
            limit.is_none_or(|limit| value.is_some_and(|value| value <= limit))
        };
        let single = request.output_tokens == Some(1);
        request.error.is_none()
            && within(self.ttft, request.ttft_seconds)
            && (single || within(self.itl, request.itl_seconds()))
            && within(self.e2e, request.latency_seconds)
    }
}

impl std::fmt::Display for Slo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let limits = [("TTFT", self.ttft), ("ITL", self.itl), ("E2E", self.e2e)];
        let words = limits.iter().filter_map(|(name, limit)| Some(format!("{name} {} ms", limit.as_ref()? * 1e3)));
        f.write_str(&words.collect::<Vec<_>>().join(", "))
    }
}

fn seconds(text: &str) -> Option<f64> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s')?, 1.0),
    };
    number
        .trim()
        .parse::<f64>()
        .ok()
        .map(|number| number * unit)
        .filter(|seconds| seconds.is_finite() && *seconds > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_or_refused() {
        let slo = Slo::parse("ttft=200ms, itl=0.02s,e2e=5s").unwrap();
        assert_eq!((slo.ttft, slo.itl, slo.e2e), (Some(0.2), Some(0.02), Some(5.0)));
        assert_eq!(slo.to_string(), "TTFT 200 ms, ITL 20 ms, E2E 5000 ms");
        for text in ["", "ttft", "ttft=200", "ttft=-1s", "ttft=xs", "tft=1s", "ttft=1s,ttft=2s", "e2e=infs"] {
            assert!(Slo::parse(text).unwrap_err().to_string().contains("hint: "), "{text}");
        }
    }

    #[test]
    fn an_answer_keeps_every_limit_or_counts_for_nothing() {
        let slo = Slo::parse("ttft=200ms,itl=20ms").unwrap();
        let good = RequestRecord {
            ttft_seconds: Some(0.2),
            latency_seconds: Some(0.4),
            output_tokens: Some(11),
            ..RequestRecord::default()
        };
        assert!(slo.is_kept(&good));
        assert!(!slo.is_kept(&RequestRecord { ttft_seconds: Some(0.21), ..good.clone() }));
        assert!(!slo.is_kept(&RequestRecord { latency_seconds: Some(0.42), ..good.clone() }));
        assert!(!slo.is_kept(&RequestRecord { error: Some("timeout".to_owned()), ..good.clone() }));
        assert!(!slo.is_kept(&RequestRecord { output_tokens: None, ..good.clone() }));
        let whole = Slo::parse("e2e=400ms").unwrap();
        assert!(whole.is_kept(&good));
        assert!(!whole.is_kept(&RequestRecord { latency_seconds: Some(0.42), ..good.clone() }));
        assert!(slo.is_kept(&RequestRecord { output_tokens: Some(1), ..good }));
    }
}
