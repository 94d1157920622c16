//! One row, and what cannot be meant by one.

use serde::Deserialize;

use crate::record::{LoadPoint, SweepAxis, SweepFigures};

/// The precision of a row whose file does not tell it.
pub const UNKNOWN: &str = "unknown";

/// One engine in one precision, as the module's documentation says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the module's table says what each is, and in which unit")]
pub struct ElsewhereRow {
    pub engine: String,
    #[serde(alias = "dtype")]
    pub precision: String,
    #[serde(alias = "shape")]
    pub model: Option<String>,
    pub device: Option<String>,
    pub source: Option<String>,
    pub note: Option<String>,
    #[serde(alias = "load_s")]
    pub load_seconds: Option<f64>,
    #[serde(alias = "load_first_token_s")]
    pub load_first_token_seconds: Option<f64>,
    #[serde(alias = "b1_ttft_ms")]
    pub ttft_milliseconds: Option<f64>,
    #[serde(alias = "b1_decode_tok_s")]
    pub decode_tokens_per_second: Option<f64>,
    #[serde(alias = "req500_128_64_tok_s")]
    pub concurrent_tokens_per_second: Option<f64>,
    #[serde(alias = "gsm8k_shape_s")]
    pub workload_seconds: Option<f64>,
    #[serde(alias = "gsm8k_shape_tok_s")]
    pub tokens_per_second: Option<f64>,
    #[serde(default)]
    pub sweeps: SweepFigures,
    #[serde(default)]
    pub load: Vec<LoadPoint>,
    pub accuracy_percent: Option<f64>,
    pub n: Option<usize>,
    pub peak_memory_bytes: Option<u64>,
}

impl ElsewhereRow {
    /// Every point of every sweep.
    pub(super) fn sweep_points(&self) -> impl Iterator<Item = (SweepAxis, usize, f64)> {
        self.sweeps.iter().flat_map(|(axis, points)| points.iter().map(|(point, figure)| (*axis, *point, *figure)))
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let words =
            [("engine", Some(&self.engine)), ("precision", Some(&self.precision)), ("source", self.source.as_ref())];
        for (key, word) in words {
            if word.is_some_and(|word| word.trim().is_empty()) {
                return Err((key, "is empty".to_owned()));
            }
        }
        let figures = [
            ("load_seconds", self.load_seconds),
            ("load_first_token_seconds", self.load_first_token_seconds),
            ("ttft_milliseconds", self.ttft_milliseconds),
            ("decode_tokens_per_second", self.decode_tokens_per_second),
            ("concurrent_tokens_per_second", self.concurrent_tokens_per_second),
            ("workload_seconds", self.workload_seconds),
            ("tokens_per_second", self.tokens_per_second),
        ];
        for (key, figure) in figures {
            if let Some(figure) = figure.filter(|figure| !(figure.is_finite() && *figure >= 0.0)) {
                return Err((key, format!("{figure} is out of range: leave out what was not measured")));
            }
        }
        for (axis, point, figure) in self.sweep_points() {
            if point == 0 || !(figure.is_finite() && figure > 0.0) {
                return Err((
                    "sweeps",
                    format!("has {figure} at {} {point}: leave out what was not measured", axis.name()),
                ));
            }
        }
        if let Some(fault) = self.load.iter().find_map(LoadPoint::fault) {
            return Err(("load", fault));
        }
        match (self.accuracy_percent, self.n) {
            (Some(percent), _) if !(0.0..=100.0).contains(&percent) => {
                Err(("accuracy_percent", format!("{percent} is out of range")))
            }
            (Some(_), None | Some(0)) => {
                Err(("accuracy_percent", "without n, the number of questions behind it".to_owned()))
            }
            _ => Ok(()),
        }
    }
}
