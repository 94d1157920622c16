//! From journals to results: counting, and comparing with f32.

use std::collections::HashMap;

use super::{DtypeRecord, RuleRecord};
use crate::engine::Dtype;
use crate::record::{Outcome, Session};
use crate::score::statistics::{paired, wilson};

/// All that a run folder says of one precision.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Which.
    pub dtype: Dtype,
    /// Its completions, in any order.
    pub outcomes: Vec<Outcome>,
    /// Its sessions.
    pub sessions: Vec<Session>,
    /// Why it did not finish, if it did not.
    pub failure: Option<String>,
}

/// Right or wrong by (sample, repeat).
type Verdicts = HashMap<(usize, usize), bool>;

/// Counts every precision and compares it with f32, where f32 is among them. `rules` are the protocol's, in order.
pub fn summarise(measured: &[Measured], rules: &[String]) -> Vec<DtypeRecord> {
    let reference = measured.iter().find(|one| one.dtype == Dtype::F32);
    measured.iter().map(|one| summarise_one(one, reference.filter(|f32| f32.dtype != one.dtype), rules)).collect()
}

fn summarise_one(measured: &Measured, reference: Option<&Measured>, rules: &[String]) -> DtypeRecord {
    let outcomes = &measured.outcomes;
    let output_tokens = outcomes.iter().map(|outcome| outcome.output_tokens as u64).sum();
    let generate_seconds = generate_seconds(measured);
    DtypeRecord {
        dtype: measured.dtype,
        failure: measured.failure.clone(),
        n: outcomes.len(),
        answered: outcomes.iter().filter(|outcome| !outcome.text.trim().is_empty()).count(),
        cut: outcomes.iter().filter(|outcome| outcome.finish.is_cut()).count(),
        rules: rules.iter().map(|rule| summarise_rule(rule, outcomes, reference)).collect(),
        prompt_tokens: outcomes.iter().map(|outcome| outcome.prompt_tokens as u64).sum(),
        output_tokens,
        generate_seconds,
        output_tokens_per_second: generate_seconds.map(|seconds| output_tokens as f64 / seconds),
        load_seconds: measured.sessions.first().map(|session| session.engine.load.total_seconds),
        peak_memory: measured.sessions.iter().filter_map(|session| session.peak_memory).max_by_key(|peak| peak.bytes),
        sessions: measured.sessions.clone(),
    }
}

fn summarise_rule(rule: &str, outcomes: &[Outcome], reference: Option<&Measured>) -> RuleRecord {
    let scores = || outcomes.iter().filter_map(|outcome| outcome.scores.iter().find(|score| score.rule == rule));
    let correct = scores().filter(|score| score.correct).count();
    RuleRecord {
        rule: rule.to_owned(),
        extracted: scores().filter(|score| score.value.is_some()).count(),
        accuracy: wilson(correct, outcomes.len()),
        against_f32: reference.and_then(|reference| {
            let theirs = verdicts(rule, &reference.outcomes);
            let mut common: Vec<((usize, usize), bool, bool)> = verdicts(rule, outcomes)
                .into_iter()
                .filter_map(|(key, right)| theirs.get(&key).map(|reference| (key, *reference, right)))
                .collect();
            // The bootstrap draws by position, so the order must not hang on a hash map.
            common.sort_unstable();
            let reference: Vec<bool> = common.iter().map(|(_, reference, _)| *reference).collect();
            let other: Vec<bool> = common.iter().map(|(_, _, other)| *other).collect();
            paired(&reference, &other)
        }),
    }
}

fn verdicts(rule: &str, outcomes: &[Outcome]) -> Verdicts {
    outcomes
        .iter()
        .filter_map(|outcome| {
            let score = outcome.scores.iter().find(|score| score.rule == rule)?;
            Some(((outcome.sample, outcome.repeat), score.correct))
        })
        .collect()
}

/// A session that was killed counts until its last answer; tokens of answers never finished count nowhere.
fn generate_seconds(measured: &Measured) -> Option<f64> {
    let last_answer = |index: usize| {
        let times = measured.outcomes.iter().filter(|outcome| outcome.session == index);
        times.map(|outcome| outcome.at_seconds).fold(0.0, f64::max)
    };
    let seconds: f64 = measured
        .sessions
        .iter()
        .enumerate()
        .map(|(index, session)| session.generate_seconds.unwrap_or_else(|| last_answer(index)))
        .sum();
    (seconds > 0.0 && !measured.outcomes.is_empty()).then_some(seconds)
}
