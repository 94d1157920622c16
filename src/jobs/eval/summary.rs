//! From journals to results: counting, and comparing with the reference.

use std::collections::HashMap;

use super::{DtypeRecord, Lengths, RuleRecord, ThoughtRecord};
use crate::engine::Finish;
use crate::record::{DeviceMemory, Outcome, Session, VariantName};
use crate::score::paired_ratio;
use crate::score::statistics::{paired, wilson};

/// All that a run folder says of one variant.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Which.
    pub dtype: VariantName,
    /// Its completions, in any order.
    pub outcomes: Vec<Outcome>,
    /// Its sessions.
    pub sessions: Vec<Session>,
    /// Why it did not finish, if it did not.
    pub failure: Option<String>,
}

/// Right or wrong by (sample, repeat).
type Verdicts = HashMap<(usize, usize), bool>;

/// Counts every variant and compares it with the reference, where that is among them. `rules` are the protocol's, in order.
pub fn summarise(measured: &[Measured], reference: Option<&VariantName>, rules: &[String]) -> Vec<DtypeRecord> {
    let reference = measured.iter().find(|one| Some(&one.dtype) == reference);
    let summary = |one| summarise_one(one, reference.filter(|reference| reference.dtype != one.dtype), rules);
    measured.iter().map(summary).collect()
}

fn summarise_one(measured: &Measured, reference: Option<&Measured>, rules: &[String]) -> DtypeRecord {
    let outcomes = &measured.outcomes;
    let output_tokens = total(outcomes, |outcome| outcome.output_tokens);
    let generate_seconds = generate_seconds(measured);
    DtypeRecord {
        dtype: measured.dtype.clone(),
        failure: measured.failure.clone(),
        n: outcomes.len(),
        answered: outcomes.iter().filter(|outcome| !outcome.text.trim().is_empty()).count(),
        cut: outcomes.iter().filter(|outcome| outcome.finish.is_cut()).count(),
        thoughts: thoughts(outcomes),
        rules: rules.iter().map(|rule| summarise_rule(rule, outcomes, reference)).collect(),
        lengths: lengths(outcomes, reference),
        prompt_tokens: total(outcomes, |outcome| outcome.prompt_tokens),
        output_tokens,
        generate_seconds,
        output_tokens_per_second: generate_seconds
            .zip(output_tokens)
            .map(|(seconds, output_tokens)| output_tokens as f64 / seconds),
        load_seconds: measured.sessions.first().map(|session| session.engine.load.total_seconds),
        peak_memory: measured.sessions.iter().filter_map(|session| session.peak_memory).max_by_key(|peak| peak.bytes),
        device_memory: measured
            .sessions
            .iter()
            .filter_map(|session| session.device_memory)
            .max_by_key(DeviceMemory::needed_bytes),
        sessions: measured.sessions.clone(),
    }
}

fn thoughts(outcomes: &[Outcome]) -> Option<ThoughtRecord> {
    let thoughts: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.thought.as_ref()).collect();
    let unfinished = outcomes.iter().filter(|outcome| outcome.finish == Finish::UnfinishedThought).count();
    (!thoughts.is_empty()).then(|| ThoughtRecord {
        completions: thoughts.len(),
        unfinished,
        tokens: thoughts.iter().map(|thought| thought.tokens.map(|tokens| tokens as u64)).sum(),
    })
}

/// What a reader must know of every variant's thoughts.
pub(super) fn thought_notes(dtypes: &[DtypeRecord]) -> Vec<String> {
    let note = |dtype: &DtypeRecord| {
        let thoughts = dtype.thoughts?;
        let tokens =
            thoughts.tokens.map(|tokens| format!(", {} tokens each on average", tokens / thoughts.completions as u64));
        let unfinished = match thoughts.unfinished {
            0 => String::new(),
            unfinished => format!("; {unfinished} of them never ended, which leaves no answer: raise `--max-tokens`"),
        };
        Some(format!(
            "{}: {} of {} completions hold a thought{}; thoughts are kept apart and not scored{unfinished}",
            dtype.dtype,
            thoughts.completions,
            dtype.n,
            tokens.unwrap_or_default()
        ))
    };
    dtypes.iter().filter_map(note).collect()
}

/// A total of tokens; unknown where one of them is.
fn total(outcomes: &[Outcome], tokens: impl Fn(&Outcome) -> Option<usize>) -> Option<u64> {
    outcomes.iter().map(|outcome| tokens(outcome).map(|tokens| tokens as u64)).sum()
}

fn summarise_rule(rule: &str, outcomes: &[Outcome], reference: Option<&Measured>) -> RuleRecord {
    let scores = || {
        let score = |outcome: &'_ Outcome| outcome.scores.iter().position(|score| score.rule == rule);
        outcomes.iter().filter_map(move |outcome| Some((outcome.finish.is_cut(), &outcome.scores[score(outcome)?])))
    };
    let correct = scores().filter(|(_, score)| score.correct).count();
    RuleRecord {
        rule: rule.to_owned(),
        extracted: scores().filter(|(_, score)| score.value.is_some()).count(),
        extracted_from_cut: scores().filter(|(cut, score)| *cut && score.value.is_some()).count(),
        correct_from_cut: scores().filter(|(cut, score)| *cut && score.correct).count(),
        accuracy: wilson(correct, outcomes.len()),
        against: reference.and_then(|reference| {
            let theirs = verdicts(rule, &reference.outcomes);
            let own = verdicts(rule, outcomes);
            let common = own.into_iter().filter_map(|(key, right)| Some((*theirs.get(&key)?, right)));
            let (reference, other): (Vec<bool>, Vec<bool>) = common.unzip();
            paired(&reference, &other)
        }),
    }
}

/// Output tokens, and their ratio to the reference's on the completions that both have.
fn lengths(outcomes: &[Outcome], reference: Option<&Measured>) -> Option<Lengths> {
    let tokens = total(outcomes, |outcome| outcome.output_tokens).filter(|_| !outcomes.is_empty())?;
    let ratio = reference.and_then(|reference| {
        let key = |outcome: &Outcome| (outcome.sample, outcome.repeat);
        let length = |outcome: &Outcome| Some((key(outcome), outcome.output_tokens? as f64));
        let theirs: HashMap<(usize, usize), f64> = reference.outcomes.iter().filter_map(length).collect();
        let mut pairs: Vec<((usize, usize), f64, f64)> = outcomes
            .iter()
            .filter_map(length)
            .filter_map(|(key, own)| theirs.get(&key).map(|theirs| (key, *theirs, own)))
            .collect();
        // The order of a sum decides its last bits, and completions come in any.
        pairs.sort_unstable_by_key(|pair| pair.0);
        paired_ratio(&pairs.iter().map(|(_, theirs, own)| (*theirs, *own)).collect::<Vec<_>>())
    });
    Some(Lengths { mean_output_tokens: tokens as f64 / outcomes.len() as f64, ratio })
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
