//! From measured requests to figures: distributions, rates, what came a second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LevelPlan, RequestRecord, Slo};
use crate::score::quantile;

/// A distribution; percentiles are interpolated linearly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Values.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub sd: f64,
    /// The median.
    pub p50: f64,
    /// 90 % are no larger.
    pub p90: f64,
    /// 95 % are no larger.
    pub p95: f64,
    /// 99 % are no larger.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Distribution {
    /// `None` of no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let max = *values.last()?;
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
        let at = |share: f64| quantile(&values, share).unwrap_or(max);
        Some(Self { n, mean, sd, p50: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99), max })
    }
}

/// What came of a level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelFigures {
    /// Requests that were sent.
    pub sent: usize,
    /// Requests that were answered.
    pub completed: usize,
    /// Failures by cause.
    pub failed: BTreeMap<String, usize>,
    /// From the first request's sending to the last answer's end, seconds.
    pub seconds: f64,
    /// Answers a second.
    pub requests_per_second: f64,
    /// Output tokens of all answers a second; `None` where they are not counted.
    pub output_tokens_per_second: Option<f64>,
    /// Prompt tokens of all answers a second; `None` where they are not counted.
    pub prompt_tokens_per_second: Option<f64>,
    /// Answers a second that kept every limit; `None` without limits.
    pub goodput: Option<f64>,
    /// Time to the first token, seconds.
    pub ttft: Option<Distribution>,
    /// (latency − TTFT) / (output tokens − 1) of each request, seconds.
    pub itl: Option<Distribution>,
    /// Sent to last token, seconds.
    pub e2e: Option<Distribution>,
    /// Output tokens of an answer.
    pub output_tokens: Option<Distribution>,
    /// How much later than planned requests were sent, seconds; `None` in a closed loop, which plans nothing.
    pub lag: Option<Distribution>,
    /// Requests in flight at most.
    pub most_in_flight: usize,
    /// Answers whose length is not what was asked for, where lengths are exact.
    pub wrong_lengths: usize,
}

/// One second of a level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Requests sent in it.
    pub sent: usize,
    /// Answers that ended in it.
    pub completed: usize,
    /// Failures in it.
    pub failed: usize,
    /// Requests in flight at its end.
    pub in_flight: usize,
}

impl LevelFigures {
    /// Of a level's requests.
    pub fn of(plan: &LevelPlan, requests: &[RequestRecord], slo: &Slo) -> Self {
        let answered: Vec<&RequestRecord> = requests.iter().filter(|one| one.error.is_none()).collect();
        let mut failed = BTreeMap::new();
        for cause in requests.iter().filter_map(|one| one.cause.as_ref()) {
            *failed.entry(cause.clone()).or_default() += 1;
        }
        let begin = requests.iter().map(|one| one.sent_seconds).fold(f64::INFINITY, f64::min);
        let end = requests.iter().map(RequestRecord::ended_seconds).fold(0.0, f64::max);
        let seconds = if requests.is_empty() { 0.0 } else { end - begin };
        let a_second = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
        let tokens = |of: fn(&RequestRecord) -> Option<usize>| {
            let all: Option<Vec<usize>> = answered.iter().map(|one| of(one)).collect();
            all.filter(|all| !all.is_empty()).map(|all| a_second(all.iter().sum::<usize>() as f64))
        };
        let of =
            |value: fn(&RequestRecord) -> Option<f64>| Distribution::of(answered.iter().filter_map(|one| value(one)));
        Self {
            sent: requests.len(),
            completed: answered.len(),
            failed,
            seconds,
            requests_per_second: a_second(answered.len() as f64),
            output_tokens_per_second: tokens(|one| one.output_tokens),
            prompt_tokens_per_second: tokens(|one| one.prompt_tokens),
            goodput: (!slo.is_none()).then(|| a_second(answered.iter().filter(|one| slo.is_kept(one)).count() as f64)),
            ttft: of(|one| one.ttft_seconds),
            itl: of(RequestRecord::itl_seconds),
            e2e: of(|one| one.latency_seconds),
            output_tokens: of(|one| one.output_tokens.map(|tokens| tokens as f64)),
            lag: if plan.is_open() { Distribution::of(requests.iter().map(|one| one.lag_seconds)) } else { None },
            most_in_flight: most_in_flight(requests),
            wrong_lengths: answered.iter().filter(|one| one.is_of_another_length()).count(),
        }
    }
}

/// Every beginning and every end, in order; of one moment the ends first.
fn changes(requests: &[RequestRecord]) -> Vec<(f64, i64)> {
    let mut changes: Vec<(f64, i64)> =
        requests.iter().flat_map(|one| [(one.sent_seconds, 1), (one.ended_seconds(), -1)]).collect();
    changes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    changes
}

fn most_in_flight(requests: &[RequestRecord]) -> usize {
    let (mut now, mut most) = (0_i64, 0_i64);
    for (_, change) in changes(requests) {
        now += change;
        most = most.max(now);
    }
    most as usize
}

/// A level second by second.
pub fn timeline(requests: &[RequestRecord]) -> Vec<Second> {
    let last = requests.iter().map(RequestRecord::ended_seconds).fold(0.0, f64::max);
    let mut seconds = vec![Second::default(); if requests.is_empty() { 0 } else { last as usize + 1 }];
    for one in requests {
        seconds[one.sent_seconds as usize].sent += 1;
        let ended = &mut seconds[one.ended_seconds() as usize];
        if one.error.is_none() { ended.completed += 1 } else { ended.failed += 1 }
    }
    let mut in_flight = 0;
    for second in &mut seconds {
        in_flight = (in_flight + second.sent).saturating_sub(second.completed + second.failed);
        second.in_flight = in_flight;
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::load::Arrivals;

    fn request(sent: f64, ttft: f64, latency: f64, tokens: usize) -> RequestRecord {
        RequestRecord {
            sent_seconds: sent,
            ttft_seconds: Some(ttft),
            latency_seconds: Some(latency),
            prompt_tokens: Some(10),
            output_tokens: Some(tokens),
            ..RequestRecord::default()
        }
    }

    #[test]
    fn figures_are_those_of_hand() {
        let failed = RequestRecord {
            sent_seconds: 1.5,
            failed_after_seconds: Some(2.0),
            error: Some("timeout: x".to_owned()),
            cause: Some("timeout".to_owned()),
            ..RequestRecord::default()
        };
        let requests = [request(0.5, 0.1, 1.1, 11), request(1.0, 0.3, 2.3, 21), failed];
        let plan = LevelPlan::Users { users: 2 };
        let slo = Slo::parse("ttft=200ms").unwrap();
        let figures = LevelFigures::of(&plan, &requests, &slo);
        assert_eq!((figures.sent, figures.completed, figures.most_in_flight), (3, 2, 3));
        assert_eq!(figures.failed, BTreeMap::from([("timeout".to_owned(), 1)]));
        // From 0.5 s to 3.5 s, when the failure ended.
        assert!((figures.seconds - 3.0).abs() < 1e-12);
        assert!((figures.requests_per_second - 2.0 / 3.0).abs() < 1e-12);
        assert!((figures.output_tokens_per_second.unwrap() - 32.0 / 3.0).abs() < 1e-12);
        assert!((figures.prompt_tokens_per_second.unwrap() - 20.0 / 3.0).abs() < 1e-12);
        assert!((figures.goodput.unwrap() - 1.0 / 3.0).abs() < 1e-12);
        let itl = figures.itl.unwrap();
        assert!((itl.mean - 0.1).abs() < 1e-12 && itl.n == 2, "{itl:?}");
        let ttft = figures.ttft.unwrap();
        assert!((ttft.mean - 0.2).abs() < 1e-12 && (ttft.p90 - 0.28).abs() < 1e-12 && (ttft.max - 0.3).abs() < 1e-12);
        assert_eq!(figures.lag, None);
        let seconds = timeline(&requests);
        assert_eq!(seconds.iter().map(|one| one.sent).collect::<Vec<_>>(), [1, 2, 0, 0]);
        assert_eq!(
            seconds.iter().map(|one| (one.completed, one.failed)).collect::<Vec<_>>(),
            [(0, 0), (1, 0), (0, 0), (1, 1)]
        );
        assert_eq!(seconds.iter().map(|one| one.in_flight).collect::<Vec<_>>(), [1, 2, 2, 0]);
    }

    #[test]
    fn percentiles_are_those_of_a_ruler() {
        let ruler = Distribution::of((0..=100).rev().map(f64::from)).unwrap();
        assert_eq!((ruler.p50, ruler.p90, ruler.p95, ruler.p99, ruler.max), (50.0, 90.0, 95.0, 99.0, 100.0));
        assert_eq!((ruler.n, ruler.mean), (101, 50.0));
        let three = Distribution::of([1.0, 2.0, 3.0]).unwrap();
        assert_eq!((three.sd, Distribution::of([4.0]).unwrap().sd), (1.0, 0.0));
        assert_eq!(Distribution::of([]), None);
    }

    #[test]
    fn a_token_alone_has_no_gap_and_an_end_makes_room_for_a_beginning() {
        let plan = LevelPlan::Users { users: 1 };
        let requests = [request(0.0, 0.5, 1.0, 1), request(1.0, 0.5, 1.0, 2), request(2.0, 0.5, 1.0, 3)];
        let figures = LevelFigures::of(&plan, &requests, &Slo::default());
        let itl = figures.itl.unwrap();
        assert_eq!((itl.n, itl.max, itl.p50), (2, 0.5, 0.375));
        assert_eq!((figures.most_in_flight, figures.e2e.unwrap().n), (1, 3));
    }

    #[test]
    fn what_nobody_counts_has_no_rate_and_lengths_are_checked() {
        let unknown = RequestRecord { output_tokens: None, ..request(0.0, 0.1, 1.0, 1) };
        let short = RequestRecord { asked_tokens: Some(8), ..request(0.0, 0.1, 1.0, 7) };
        let plan = LevelPlan::Rate { rate: 1.0, arrivals: Arrivals::Poisson };
        let figures = LevelFigures::of(&plan, &[unknown, short], &Slo::default());
        assert_eq!((figures.output_tokens_per_second, figures.goodput), (None, None));
        assert_eq!((figures.wrong_lengths, figures.lag.unwrap().n), (1, 2));
        let none = LevelFigures::of(&plan, &[], &Slo::default());
        assert_eq!((none.seconds, none.completed, none.ttft), (0.0, 0, None));
        assert!(timeline(&[]).is_empty());
    }
}
