//! From journals to results: counting, and comparing with the reference.

use std::collections::BTreeMap;

use super::cost::{Spent, cost};
use super::{ClusterKey, Clusters, DtypeRecord, EvalPlan, Lengths, RuleRecord, ThoughtRecord};
use crate::engine::{CountedBy, Finish};
use crate::record::{DeviceMemory, Session, StoredCompletion, StoredSample, VariantName, in_both};
use crate::score::{Repeats, Vote, clustered_paired, clustered_ratio, clustered_wilson, repeats};

/// All that a run folder says of one variant.
#[derive(Debug, Clone)]
pub struct Measured<'a> {
    /// Which.
    pub dtype: VariantName,
    /// Its completions, in any order.
    pub completions: &'a [StoredCompletion],
    /// Its sessions.
    pub sessions: Vec<Session>,
    /// Why it did not finish, if it did not.
    pub failure: Option<String>,
}

/// The reference, and the answers that it and a variant have: (the reference's, the variant's).
type Against<'a> = (&'a Measured<'a>, Vec<(&'a StoredCompletion, &'a StoredCompletion)>);

/// How a run asked, as far as results depend on it.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    reference: Option<VariantName>,
    rules: Vec<String>,
    clusters: Clusters<'a>,
    repeats: usize,
}

impl<'a> Asked<'a> {
    /// By the plan; `rules` are the protocol's, in order, and `samples` say which answers belong together.
    pub fn new(plan: &EvalPlan, rules: Vec<String>, samples: &'a [StoredSample]) -> Self {
        Self { reference: plan.reference(), rules, clusters: Clusters::new(samples), repeats: plan.generation.repeats }
    }
}

/// Counts every variant and compares it with the reference, where that is among them.
pub fn summarise(measured: &[Measured], asked: &Asked) -> Vec<DtypeRecord> {
    let reference = measured.iter().find(|one| Some(&one.dtype) == asked.reference.as_ref());
    let summary = |one| summarise_one(one, reference.filter(|reference| reference.dtype != one.dtype), asked);
    measured.iter().map(summary).collect()
}

fn summarise_one(measured: &Measured, reference: Option<&Measured>, asked: &Asked) -> DtypeRecord {
    let completions = measured.completions;
    let output_tokens = total(completions, StoredCompletion::output_tokens);
    let generate_seconds = generate_seconds(measured);
    let reference: Option<Against> =
        reference.map(|reference| (reference, in_both(reference.completions, measured.completions)));
    let reference = reference.as_ref();
    DtypeRecord {
        dtype: measured.dtype.clone(),
        failure: measured.failure.clone(),
        n: completions.len(),
        answered: completions.iter().filter(|completion| !completion.text.trim().is_empty()).count(),
        cut: completions.iter().filter(|completion| completion.finish.is_cut()).count(),
        thoughts: thoughts(completions),
        counted: counted(&measured.dtype, completions),
        rules: asked.rules.iter().map(|rule| summarise_rule(rule, measured, reference, asked)).collect(),
        lengths: lengths(completions, reference, &asked.clusters),
        prompt_tokens: total(completions, |completion| completion.prompt_tokens),
        output_tokens,
        generate_seconds,
        output_tokens_per_second: generate_seconds
            .zip(output_tokens)
            .map(|(seconds, output_tokens)| output_tokens as f64 / seconds),
        joules: joules(measured),
        // An endpoint was loaded long before.
        load_seconds: measured
            .sessions
            .first()
            .filter(|session| session.engine.dtype.is_some())
            .map(|session| session.engine.load.total_seconds),
        peak_memory: measured.sessions.iter().filter_map(|session| session.peak_memory).max_by_key(|peak| peak.bytes),
        device_memory: measured
            .sessions
            .iter()
            .filter_map(|session| session.device_memory)
            .max_by_key(DeviceMemory::needed_bytes),
        sessions: measured.sessions.clone(),
    }
}

fn thoughts(completions: &[StoredCompletion]) -> Option<ThoughtRecord> {
    let thoughts: Vec<_> = completions.iter().filter_map(|completion| completion.thought.as_ref()).collect();
    let unfinished = completions.iter().filter(|completion| completion.finish == Finish::UnfinishedThought).count();
    (!thoughts.is_empty()).then(|| ThoughtRecord {
        completions: thoughts.len(),
        unfinished,
        tokens: thoughts.iter().map(|thought| thought.tokens.map(|tokens| tokens as u64)).sum(),
    })
}

/// Who counted the tokens of a variant whose engine is a server.
fn counted(variant: &VariantName, completions: &[StoredCompletion]) -> Option<String> {
    let by = |who: Option<CountedBy>| completions.iter().filter(|one| one.counted_by == who).count();
    let counts = [
        (by(Some(CountedBy::Ids)), "by their ids"),
        (by(Some(CountedBy::Usage)), "by the server's usage"),
        (by(Some(CountedBy::Tokenizer)), "by the model's tokenizer on the text"),
    ];
    let told: Vec<(usize, &str)> = counts.into_iter().filter(|(count, _)| *count > 0).collect();
    match told[..] {
        [] => None,
        [(count, how)] if count == completions.len() => Some(format!("{variant}: output tokens are counted {how}")),
        _ => {
            let words = told.iter().map(|(count, how)| format!("{count} {how}")).collect::<Vec<_>>().join(", ");
            Some(format!("{variant}: output tokens of {} answers are counted: {words}", completions.len()))
        }
    }
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
fn total(completions: &[StoredCompletion], tokens: impl Fn(&StoredCompletion) -> Option<usize>) -> Option<u64> {
    completions.iter().map(|completion| tokens(completion).map(|tokens| tokens as u64)).sum()
}

fn summarise_rule(rule: &str, measured: &Measured, reference: Option<&Against>, asked: &Asked) -> RuleRecord {
    let completions = measured.completions;
    let scores = || {
        let score = |completion: &'_ StoredCompletion| completion.scores.iter().position(|score| score.rule == rule);
        completions
            .iter()
            .filter_map(move |completion| Some((completion.finish.is_cut(), &completion.scores[score(completion)?])))
    };
    let right = completions.iter().map(|one| (asked.clusters.of(one.sample), one.is_right(rule) == Some(true)));
    let right: Vec<(ClusterKey, bool)> = right.collect();
    RuleRecord {
        rule: rule.to_owned(),
        extracted: scores().filter(|(_, score)| score.value.is_some()).count(),
        extracted_from_cut: scores().filter(|(cut, score)| *cut && score.value.is_some()).count(),
        correct_from_cut: scores().filter(|(cut, score)| *cut && score.correct).count(),
        accuracy: clustered_wilson(&right),
        against: reference.and_then(|(_, pairs)| {
            let verdicts = pairs
                .iter()
                .filter_map(|(was, is)| Some((asked.clusters.of(is.sample), was.is_right(rule)?, is.is_right(rule)?)));
            clustered_paired(&verdicts.collect::<Vec<_>>())
        }),
        repeats: repeats_of(rule, completions, asked.repeats),
        cost: cost(
            rule,
            spent(measured),
            reference.map(|(reference, pairs)| (spent(reference), &pairs[..])),
            &asked.clusters,
        ),
    }
}

fn repeats_of(rule: &str, completions: &[StoredCompletion], asked: usize) -> Option<Repeats> {
    let mut questions: BTreeMap<usize, Vec<(usize, Vote)>> = BTreeMap::new();
    for completion in completions {
        let score = completion.scores.iter().find(|score| score.rule == rule);
        let vote = Vote {
            value: score.and_then(|score| score.value.as_deref()),
            correct: score.is_some_and(|score| score.correct),
        };
        questions.entry(completion.sample).or_default().push((completion.repeat, vote));
    }
    let mut questions: Vec<Vec<(usize, Vote)>> = questions.into_values().collect();
    for votes in &mut questions {
        votes.sort_unstable_by_key(|(repeat, _)| *repeat);
    }
    let votes = questions.iter().map(|votes| votes.iter().map(|(_, vote)| *vote).collect());
    repeats(&votes.collect::<Vec<Vec<Vote>>>(), asked)
}

/// Output tokens, and their ratio to the reference's on the completions that both have; those that belong together are one pair.
fn lengths(completions: &[StoredCompletion], reference: Option<&Against>, clusters: &Clusters) -> Option<Lengths> {
    let tokens = total(completions, StoredCompletion::output_tokens).filter(|_| !completions.is_empty())?;
    let ratio = reference.and_then(|(_, pairs)| {
        clustered_ratio(pairs.iter().filter_map(|(theirs, own)| {
            Some((clusters.of(own.sample), [theirs.output_tokens()? as f64, own.output_tokens()? as f64]))
        }))
    });
    Some(Lengths { mean_output_tokens: tokens as f64 / completions.len() as f64, ratio })
}

/// Joules of all of a variant's sessions; unknown where one does not say.
fn joules(measured: &Measured) -> Option<f64> {
    let all = measured.sessions.iter().map(|session| session.joules);
    all.sum::<Option<f64>>().filter(|joules| *joules > 0.0)
}

fn spent<'a>(measured: &Measured<'a>) -> Spent<'a> {
    Spent { completions: measured.completions, seconds: generate_seconds(measured), joules: joules(measured) }
}

/// A session that was killed counts until its last answer; tokens of answers never finished count nowhere.
fn generate_seconds(measured: &Measured) -> Option<f64> {
    let last_answer = |index: usize| {
        let times = measured.completions.iter().filter(|completion| completion.session == index);
        times.map(|completion| completion.at_seconds).fold(0.0, f64::max)
    };
    let seconds: f64 = measured
        .sessions
        .iter()
        .enumerate()
        .map(|(index, session)| session.generate_seconds.unwrap_or_else(|| last_answer(index)))
        .sum();
    (seconds > 0.0 && !measured.completions.is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::jobs::eval::StoredRun;

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
    }

    /// Six samples in f32 and awq, of which three are right in both but for one that awq loses.
    fn stored() -> StoredRun {
        let mut run = crate::jobs::eval::reading::tests::stored();
        // awq loses sample 0 by the rule `numeric`.
        let lost = run.completions[1].1.iter_mut().find(|one| one.sample == 0).unwrap();
        lost.scores[0].correct = false;
        run
    }

    fn measured(run: &StoredRun) -> Vec<Measured<'_>> {
        let one = |place: usize| {
            let (dtype, completions) = &run.completions[place];
            Measured { dtype: dtype.clone(), completions, sessions: Vec::new(), failure: None }
        };
        (0..run.completions.len()).map(one).collect()
    }

    fn summary(run: &StoredRun) -> Vec<DtypeRecord> {
        summarise(&measured(run), &Asked::new(&run.record.plan, vec!["numeric".to_owned()], &run.samples))
    }

    #[test]
    fn answers_given_twice_alike_are_as_sure_as_given_once() {
        let once = summary(&stored());
        let mut run = stored();
        run.record.plan.generation.repeats = 2;
        for (_, completions) in &mut run.completions {
            let again: Vec<_> = completions.iter().map(|one| StoredCompletion { repeat: 1, ..one.clone() }).collect();
            completions.extend(again);
        }
        let twice = summary(&run);
        for (once, twice) in once.iter().zip(&twice) {
            assert_eq!((once.n, twice.n), (6, 12));
            let (one, two) = (once.rules[0].accuracy.unwrap(), twice.rules[0].accuracy.unwrap());
            assert_eq!((one.clustering, two.clustering.map(|one| one.clusters)), (None, Some(6)));
            assert_eq!(two.successes, 2 * one.successes);
            close(two.low, one.low);
            close(two.high, one.high);
            let repeats = twice.rules[0].repeats.as_ref().unwrap();
            assert_eq!((repeats.questions, repeats.standard_deviation, once.rules[0].repeats.clone()), (6, 0.0, None));
            close(repeats.pass_at[1].value, one.value);
        }
        let (one, two) = (once[1].rules[0].against.unwrap(), twice[1].rules[0].against.unwrap());
        assert_eq!((one.lost, two.lost, two.n()), (1, 2, 12));
        close(two.difference_low, one.difference_low);
        close(two.difference_high, one.difference_high);
        let ratio = |records: &[DtypeRecord]| records[1].lengths.unwrap().ratio.unwrap();
        close(ratio(&twice).low, ratio(&once).low);
        close(ratio(&twice).value, ratio(&once).value);
    }

    #[test]
    fn repeats_stand_in_their_order_and_a_silent_rule_votes_for_nothing() {
        let mut run = stored();
        run.record.plan.generation.repeats = 2;
        let (_, completions) = &mut run.completions[0];
        // The second answers stand first in the journal but for sample 0, and are wrong but for sample 7.
        let mut all: Vec<_> = completions.iter().map(|one| StoredCompletion { repeat: 1, ..one.clone() }).collect();
        for one in &mut all {
            one.scores[0].correct = one.sample == 7;
            one.scores[0].value = Some("18".to_owned()).filter(|_| one.sample == 7);
        }
        let (behind, mut all): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.sample == 0);
        all.append(completions);
        all.extend(behind);
        *completions = all;
        let repeats = summary(&run)[0].rules[0].repeats.clone().unwrap();
        close(repeats.highest, 0.5);
        close(repeats.lowest, 1.0 / 6.0);
        close(repeats.pass_at[1].value, 4.0 / 6.0);
        // Samples 0, 1 and 3: one vote, and it is right; 7: one right of two; 44 and 140: one wrong vote.
        close(repeats.majority, 3.5 / 6.0);
    }

    #[test]
    fn the_lengths_of_repeats_are_summed_before_they_are_compared() {
        let mut run = stored();
        for (variant, completions) in &mut run.completions {
            let times = if variant.as_str() == "awq" { 2 } else { 1 };
            let again = |one: &StoredCompletion| {
                let tokens = one.token_ids.as_ref().map(|tokens| vec![1; tokens.len() * times]);
                StoredCompletion { repeat: 1, token_ids: tokens, ..one.clone() }
            };
            let first: Vec<_> = completions
                .iter()
                .cloned()
                .map(|one| StoredCompletion { token_ids: Some(vec![1; 10]), ..one })
                .collect();
            *completions = first.iter().map(again).chain(first.iter().cloned()).collect();
        }
        // 10 and 20 tokens beside 10 and 10.
        close(summary(&run)[1].lengths.unwrap().ratio.unwrap().value, 1.5);
    }

    #[test]
    fn the_first_session_s_load_and_the_thoughts_that_never_end_are_counted() {
        let mut run = stored();
        let sessions: Vec<Session> = [1.5, 0.25]
            .map(|seconds| {
                let mut session = run.record.dtypes[0].sessions[0].clone();
                session.engine.load.total_seconds = seconds;
                session
            })
            .to_vec();
        let thought = || Some(crate::record::StoredThought { tokens: Some(4), text: String::new() });
        for (place, one) in run.completions[0].1.iter_mut().enumerate().take(3) {
            one.thought = thought();
            if place < 2 {
                one.finish = Finish::UnfinishedThought;
            }
        }
        let mut all = measured(&run);
        all[0].sessions = sessions;
        let asked = Asked::new(&run.record.plan, vec!["numeric".to_owned()], &run.samples);
        let record = summarise(&all, &asked).remove(0);
        assert_eq!(record.load_seconds, Some(1.5));
        assert_eq!(record.thoughts, Some(ThoughtRecord { completions: 3, unfinished: 2, tokens: Some(12) }));
        let note = thought_notes(&[record]).remove(0);
        assert!(note.contains("3 of 6 completions hold a thought, 4 tokens each on average"), "{note}");
        assert!(note.contains("; 2 of them never ended"), "{note}");
    }

    #[test]
    fn questions_of_one_cluster_are_taken_together() {
        let mut run = stored();
        for sample in Arc::make_mut(&mut run.samples) {
            sample.cluster = Some(if sample.sample < 7 { "easy" } else { "hard" }.to_owned());
        }
        let records = summary(&run);
        let accuracy = records[0].rules[0].accuracy.unwrap();
        let clustering = accuracy.clustering.unwrap();
        assert_eq!((clustering.clusters, clustering.design_effect), (2, 3.0), "all easy ones are right, no hard one");
        assert_eq!(records[1].rules[0].against.unwrap().clustering.unwrap().clusters, 2);
        assert_eq!(records[0].rules[0].repeats, None, "a cluster is no repeat");
    }
}
