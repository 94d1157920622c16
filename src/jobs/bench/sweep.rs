//! The record of sweeps: which points were to be measured, which were left out and why, and every repetition of each.

use serde::{Deserialize, Serialize};

use super::lengths::Lengths;
use crate::record::{SweepAxis, SweepFigures};
use crate::score::Spread;

/// What the sweeps are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepPlan {
    /// The points that are measured, in their order.
    pub points: Vec<PlannedPoint>,
    /// Those that are not.
    pub left_out: Vec<LeftOut>,
    /// What runs before each point and is not counted.
    pub warm_up: String,
}

/// A point of a sweep: requests of one length that are submitted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPoint {
    /// Which sweep.
    pub sweep: SweepAxis,
    /// Where on its axis.
    pub at: usize,
    /// The requests.
    pub lengths: Lengths,
}

/// A point that is not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Which sweep.
    pub sweep: SweepAxis,
    /// Where on its axis.
    pub at: usize,
    /// Why.
    pub why: String,
}

/// What was measured at a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// Which.
    #[serde(flatten)]
    pub point: PlannedPoint,
    /// Every repetition, each with prompts of its own.
    pub runs: Vec<SweepRun>,
}

/// One repetition.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SweepRun {
    /// From submission until the last completion was emitted, by this program's clock.
    pub seconds: f64,
    /// Mean over the requests: from submission until the first token, by the engine's clock; `None` where answers came whole.
    pub first_token_seconds: Option<f64>,
    /// Mean over the requests: from submission until the last token, by the engine's clock.
    pub latency_seconds: f64,
    /// Tokens that all answers have, where that is not what was asked for; only of servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Requests that were not answered.
    #[serde(default, skip_serializing_if = "is_none")]
    pub failed: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
pub(super) const fn is_none(count: &usize) -> bool {
    *count == 0
}

impl PlannedPoint {
    /// Tokens that all requests generate.
    pub const fn output_tokens(&self) -> usize {
        self.lengths.requests * self.lengths.output_tokens
    }

    /// Whether it is the point that other programs' figures of the same name are of: `--requests` may have made it a smaller one.
    pub fn is_standard(&self) -> bool {
        self.lengths == standard(self.sweep, self.at)
    }
}

/// The requests of a point: 128 prompt and 64 output tokens, or 64 requests of as many prompt tokens as output tokens.
pub(super) const fn standard(sweep: SweepAxis, at: usize) -> Lengths {
    match sweep {
        SweepAxis::Batch | SweepAxis::Requests => Lengths { requests: at, prompt_tokens: 128, output_tokens: 64 },
        SweepAxis::Length => Lengths { requests: 64, prompt_tokens: at, output_tokens: at },
    }
}

impl SweepPoint {
    /// Tokens that a repetition gave.
    fn output_tokens(&self, run: &SweepRun) -> u64 {
        run.output_tokens.unwrap_or(self.point.output_tokens() as u64)
    }

    /// Whether it is the point that other programs' figures of the same name are of, and every request got what it asked for.
    pub fn is_standard(&self) -> bool {
        self.point.is_standard() && self.runs.iter().all(|run| run.output_tokens.is_none() && run.failed == 0)
    }

    /// Requests of all repetitions that were not answered.
    pub fn failed(&self) -> usize {
        self.runs.iter().map(|run| run.failed).sum()
    }

    /// Output tokens / seconds from submission to the last completion.
    pub fn tokens_per_second(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().map(|run| self.output_tokens(run) as f64 / run.seconds))
    }

    /// Seconds from submission to the last completion.
    pub fn seconds(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().map(|run| run.seconds))
    }

    /// A request's milliseconds to its first token, the mean over the requests.
    pub fn ttft_milliseconds(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| Some(run.first_token_seconds? * 1e3)))
    }

    /// A request's seconds to its last token, the mean over the requests.
    pub fn latency_seconds(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().map(|run| run.latency_seconds))
    }
}

/// Medians of the points that others measure too.
pub(super) fn figures(points: &[SweepPoint]) -> SweepFigures {
    let mut figures = SweepFigures::new();
    for measured in points.iter().filter(|measured| measured.is_standard()) {
        if let Some(spread) = measured.tokens_per_second() {
            figures.entry(measured.point.sweep).or_default().insert(measured.point.at, spread.median);
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(sweep: SweepAxis, at: usize, lengths: Lengths, seconds: &[f64]) -> SweepPoint {
        let run = |seconds: &f64| SweepRun {
            seconds: *seconds,
            first_token_seconds: Some(0.25),
            latency_seconds: 2.0,
            output_tokens: None,
            failed: 0,
        };
        SweepPoint { point: PlannedPoint { sweep, at, lengths }, runs: seconds.iter().map(run).collect() }
    }

    #[test]
    fn a_point_s_speed_is_its_output_tokens_by_the_whole_time() {
        let point = measured(SweepAxis::Batch, 4, standard(SweepAxis::Batch, 4), &[2.0, 1.0, 4.0]);
        let speed = point.tokens_per_second().unwrap();
        assert_eq!((speed.median, speed.minimum, speed.maximum, speed.n), (128.0, 64.0, 256.0, 3));
        assert_eq!(point.seconds().unwrap().median, 2.0);
        assert_eq!((point.ttft_milliseconds().unwrap().mean, point.latency_seconds().unwrap().mean), (250.0, 2.0));
    }

    #[test]
    fn only_points_that_others_measure_too_are_figures_for_them() {
        let length = |requests: usize| Lengths { requests, prompt_tokens: 32, output_tokens: 32 };
        let mut failing = measured(SweepAxis::Batch, 4, standard(SweepAxis::Batch, 4), &[2.0, 2.0]);
        failing.runs[1].failed = 1;
        let mut short = measured(SweepAxis::Batch, 2, standard(SweepAxis::Batch, 2), &[2.0]);
        short.runs[0].output_tokens = Some(100);
        // The rate is of what came.
        assert_eq!((short.tokens_per_second().unwrap().median, failing.failed()), (50.0, 1));
        let points = [
            measured(SweepAxis::Length, 32, length(64), &[2.0]),
            measured(SweepAxis::Length, 64, length(8), &[2.0]),
            measured(SweepAxis::Requests, 10, standard(SweepAxis::Requests, 10), &[]),
            failing,
            short,
        ];
        let figures = figures(&points);
        assert_eq!(figures.len(), 1);
        assert_eq!(figures[&SweepAxis::Length].iter().collect::<Vec<_>>(), [(&32, &1024.0)]);
    }
}
