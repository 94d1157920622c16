//! A load test's figures at one level, as others give them.

use serde::{Deserialize, Serialize};

/// What was measured under so many users, or at a rate. `None` is not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadPoint {
    /// Users, each of whom waits for an answer; this or `rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<usize>,
    /// Requests a second, whether or not others are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Output tokens a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Answers a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// Seconds of the whole level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Milliseconds to the first token: mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_mean_ms: Option<f64>,
    /// Median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_p50_ms: Option<f64>,
    /// 99 % are no larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_p99_ms: Option<f64>,
    /// Milliseconds between tokens: mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl_mean_ms: Option<f64>,
    /// Median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl_p50_ms: Option<f64>,
    /// 99 % are no larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl_p99_ms: Option<f64>,
    /// Milliseconds to the last token: mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2e_mean_ms: Option<f64>,
    /// Median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2e_p50_ms: Option<f64>,
    /// 99 % are no larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2e_p99_ms: Option<f64>,
}

impl LoadPoint {
    /// Its figures: (name as in reports, unit, value).
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, &'static str, f64)> + use<> {
        let all = [
            ("output tokens/s", "", self.tokens_per_second),
            ("answers/s", "", self.requests_per_second),
            ("TTFT mean", "ms", self.ttft_mean_ms),
            ("TTFT 50 %", "ms", self.ttft_p50_ms),
            ("TTFT 99 %", "ms", self.ttft_p99_ms),
            ("ITL mean", "ms", self.itl_mean_ms),
            ("ITL 50 %", "ms", self.itl_p50_ms),
            ("ITL 99 %", "ms", self.itl_p99_ms),
            ("E2E mean", "ms", self.e2e_mean_ms),
            ("E2E 50 %", "ms", self.e2e_p50_ms),
            ("E2E 99 %", "ms", self.e2e_p99_ms),
            ("whole", "s", self.seconds),
        ];
        all.into_iter().filter_map(|(name, unit, value)| Some((name, unit, value?)))
    }

    /// What cannot be meant.
    pub(super) fn fault(&self) -> Option<String> {
        match (self.users, self.rate) {
            (Some(users), None) if users > 0 => {}
            (None, Some(rate)) if rate.is_finite() && rate > 0.0 => {}
            _ => return Some("has a point without `users` or `rate`, of which each has one, above 0".to_owned()),
        }
        let wrong = self.figures().find(|(_, _, value)| !(value.is_finite() && *value >= 0.0));
        wrong.map(|(name, _, value)| format!("has {value} as {name}: leave out what was not measured"))
    }
}
