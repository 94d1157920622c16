//! Looks for what is implausible about a run's results: each check holds a value against a threshold and says what to do.

use std::collections::{HashMap, hash_map::Entry};

use super::{DtypeRecord, Endings, EvalRecord, Finding, FindingKind, Reader, endings};
use crate::record::{StoredCompletion, StoredSample, VariantName, engines_of, in_both, several_engines as in_words};
use crate::report::words::{percent, points, thousands};
use crate::score::{Answer, has_loop};

/// Share of answers that were cut off.
const MOST_CUT: f64 = 0.05;
/// Share of answers in which the headline rule finds a value.
const LEAST_EXTRACTED: f64 = 0.9;
/// Difference of accuracy between two rules on the same answers.
const MOST_BETWEEN_RULES: f64 = 0.05;
/// Samples from which on two precisions are expected to differ in some answer.
const SAMPLES_THAT_DIFFER: usize = 100;
/// Samples from which on shares of them say something.
const ENOUGH: usize = 20;
/// Mean output tokens as a multiple of the reference's, or its inverse.
const MOST_LENGTH_RATIO: f64 = 1.25;
/// Share of questions that have the most frequent reference answer.
const MOST_SAME_REFERENCE: f64 = 0.2;
/// Share of different questions that get the same answer, word for word.
const MOST_SAME_ANSWERS: f64 = 0.05;
/// Share of the machine's processors that other programs used.
const MOST_BUSY: f64 = 0.1;
/// Share of the time until the last answer was written that the generating time leaves out.
const MOST_UNCOUNTED: f64 = 0.02;
/// Less than this is a sync of the disk, in seconds.
const LEAST_UNCOUNTED_SECONDS: f64 = 0.1;

/// What a run's results are.
#[derive(Debug, Clone, Copy)]
pub struct Answers<'a> {
    /// Counts, plan, headline rule; what it says of findings is not read.
    pub record: &'a EvalRecord,
    /// The completions of each variant.
    pub completions: &'a [(VariantName, Vec<StoredCompletion>)],
    /// The questions; none in folders of before they were kept.
    pub samples: &'a [StoredSample],
}

impl<'a> Answers<'a> {
    fn of(&self, variant: &VariantName) -> &'a [StoredCompletion] {
        self.completions.iter().find(|(own, _)| own == variant).map_or(&[], |(_, completions)| completions)
    }

    fn measured(&self) -> impl Iterator<Item = &'a DtypeRecord> {
        self.record.dtypes.iter().filter(|dtype| dtype.n > 0)
    }

    /// Every variant that is compared with the reference, and the reference.
    fn compared(&self) -> Vec<(&'a DtypeRecord, &'a DtypeRecord)> {
        let reference = self.record.plan.reference();
        let reference = self.measured().find(|dtype| Some(&dtype.dtype) == reference.as_ref());
        let others = |reference: &'a DtypeRecord| self.measured().filter(move |other| other.dtype != reference.dtype);
        reference.map_or_else(Vec::new, |reference| others(reference).map(|other| (other, reference)).collect())
    }

    /// How often the most frequent value of the reference stands among the questions asked: (value, times, questions).
    fn most_frequent_reference(&self) -> Option<(String, usize, usize)> {
        let value = |sample: &StoredSample| {
            sample.reference.clone().unwrap_or_else(|| Answer::from(&sample.answer).value.to_owned())
        };
        most_frequent(self.samples.iter().map(value)).map(|(value, times)| (value, times, self.samples.len()))
    }
}

type Check = fn(&Answers) -> Vec<Finding>;

/// Every check, in the order in which a reader should know.
const CHECKS: [Check; 13] = [
    no_ground_truth,
    several_engines,
    few_extracted,
    cut_answers,
    rules_apart,
    guessing_level,
    no_answer_differs,
    loops,
    lengths_apart,
    repeated_reference,
    repeated_answers,
    busy_machine,
    uncounted_time,
];

/// Everything implausible about a run.
pub fn findings(answers: &Answers) -> Vec<Finding> {
    CHECKS.iter().flat_map(|check| check(answers)).collect()
}

fn no_ground_truth(answers: &Answers) -> Vec<Finding> {
    let target = &answers.record.plan.target;
    let f32 = answers.record.dtypes.iter().find(|dtype| dtype.dtype == crate::engine::Precision::F32);
    let is_reference = target.reference.is_none();
    let quantized = f32.filter(|_| target.model.quantized && is_reference);
    let finding = |f32: &DtypeRecord| Finding {
        kind: FindingKind::NoGroundTruth,
        variant: Some(f32.dtype.clone()),
        what: format!(
            "the weights are stored as {}, so this is arithmetic on quantised weights and not the ground truth",
            target.model.stored_as.as_deref().unwrap_or("a quantised format")
        ),
        value: 1.0,
        threshold: 0.0,
        remedy: "give the full-precision model as `--model`, and this one as `--awq` or `--variant`".to_owned(),
    };
    quantized.map(finding).into_iter().collect()
}

fn several_engines(answers: &Answers) -> Vec<Finding> {
    let finding = |dtype: &DtypeRecord| {
        let completions = answers.of(&dtype.dtype);
        in_words(&dtype.sessions, completions).map(|mixed| Finding {
            kind: FindingKind::SeveralEngines,
            variant: Some(dtype.dtype.clone()),
            what: format!("{mixed}, which do not compute alike"),
            value: engines_of(&dtype.sessions, completions).len() as f64,
            threshold: 1.0,
            remedy: "what differs between variants may be the engine's doing; run it again on one".to_owned(),
        })
    };
    answers.measured().filter_map(finding).collect()
}

fn cut_answers(answers: &Answers) -> Vec<Finding> {
    let finding = |dtype: &DtypeRecord| {
        let share = dtype.cut as f64 / dtype.n as f64;
        let marked = dtype.rule(answers.record.headline()).map_or(0, |rule| rule.extracted_from_cut);
        (share > MOST_CUT).then(|| Finding {
            kind: FindingKind::CutAnswers,
            variant: Some(dtype.dtype.clone()),
            what: format!(
                "{} of {} answers ({} %) were cut off by the limit of {} tokens or the context, {} of them with a value that {} takes from \
                 the cut text",
                thousands(dtype.cut as u64),
                thousands(dtype.n as u64),
                percent(share),
                answers.record.plan.generation.max_tokens,
                thousands(marked as u64),
                answers.record.headline()
            ),
            value: share,
            threshold: MOST_CUT,
            remedy: "raise `--max-tokens`; `evalsuite show RUN --cut` shows them".to_owned(),
        })
    };
    answers.measured().filter_map(finding).collect()
}

fn few_extracted(answers: &Answers) -> Vec<Finding> {
    let finding = |dtype: &DtypeRecord| {
        let rule = dtype.rule(answers.record.headline())?;
        let share = rule.extracted as f64 / dtype.n as f64;
        let told = |share: f64| {
            let endings = endings(answers.of(&dtype.dtype), &rule.rule);
            Finding {
                kind: FindingKind::FewExtracted,
                variant: Some(dtype.dtype.clone()),
                what: format!(
                    "{} finds a value in {} of {} answers ({} %); {}",
                    rule.rule,
                    thousands(rule.extracted as u64),
                    thousands(dtype.n as u64),
                    percent(share),
                    endings.in_words().unwrap_or_default()
                ),
                value: share,
                threshold: LEAST_EXTRACTED,
                remedy: way_to_read(&endings),
            }
        };
        (share < LEAST_EXTRACTED).then(|| told(share))
    };
    answers.measured().filter_map(finding).collect()
}

fn way_to_read(endings: &Endings) -> String {
    let of_protocol =
        |reader: &Reader| Some(format!("`evalsuite rescore RUN --protocol {}`", reader.protocol.as_ref()?));
    match (&endings.own, endings.built_in.as_ref().and_then(of_protocol)) {
        (Some(own), _) => format!("give `--rule {}`", own.rule),
        (None, Some(rescore)) => format!("give {rescore}"),
        (None, None) => "read such answers with `evalsuite show RUN --wrong`".to_owned(),
    }
}

/// Of the variant where two rules lie furthest apart.
fn rules_apart(answers: &Answers) -> Vec<Finding> {
    let of = |dtype: &'_ DtypeRecord| {
        let mut rules: Vec<(f64, String)> =
            dtype.rules.iter().filter_map(|rule| Some((rule.accuracy?.value, rule.rule.clone()))).collect();
        rules.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (lowest, highest) = (rules.first()?.clone(), rules.last()?.clone());
        Some((highest.0 - lowest.0, dtype.dtype.clone(), lowest, highest))
    };
    let furthest = answers.measured().filter_map(of).max_by(|a, b| a.0.total_cmp(&b.0));
    let finding = |(apart, variant, low, high): (f64, VariantName, (f64, String), (f64, String))| Finding {
        kind: FindingKind::RulesApart,
        what: format!(
            "by {} {} % are right, by {} {} %{}",
            high.1,
            percent(high.0),
            low.1,
            percent(low.0),
            disagreement(answers.of(&variant), &high.1, &low.1)
        ),
        variant: Some(variant),
        value: apart,
        threshold: MOST_BETWEEN_RULES,
        remedy: "read such answers with `evalsuite show RUN --wrong`, and choose the rule with `--rule`".to_owned(),
    };
    furthest.filter(|furthest| furthest.0 > MOST_BETWEEN_RULES).map(finding).into_iter().collect()
}

/// An example of what two rules make of the same answer.
fn disagreement(completions: &[StoredCompletion], right: &str, wrong: &str) -> String {
    let example = completions.iter().find_map(|one| {
        let of = |name: &str| one.scores.iter().find(|score| score.rule == name);
        let (right, wrong) = (of(right)?, of(wrong)?);
        (right.correct && !wrong.correct).then_some((one.sample, right, wrong))
    });
    let value =
        |value: &Option<String>| value.as_ref().map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"));
    example.map_or_else(String::new, |(sample, right, wrong)| {
        format!(
            " (sample {sample}: {} takes {}, {} {})",
            right.rule,
            value(&right.value),
            wrong.rule,
            value(&wrong.value)
        )
    })
}

fn guessing_level(answers: &Answers) -> Vec<Finding> {
    let Some((value, times, questions)) = answers.most_frequent_reference() else { return Vec::new() };
    if questions < ENOUGH {
        return Vec::new();
    }
    let guess = times as f64 / questions as f64;
    let finding = |dtype: &DtypeRecord| {
        let accuracy = dtype.rule(answers.record.headline())?.accuracy?;
        (accuracy.value <= guess).then(|| Finding {
            kind: FindingKind::GuessingLevel,
            variant: Some(dtype.dtype.clone()),
            what: format!(
                "{} % are right, which is not above the {} % that answering {value:?} every time would give",
                percent(accuracy.value),
                percent(guess)
            ),
            value: accuracy.value,
            threshold: guess,
            remedy: "at this level accuracy compares nothing: take another protocol or an easier task, or `evalsuite perplexity`"
                .to_owned(),
        })
    };
    answers.measured().filter_map(finding).collect()
}

fn no_answer_differs(answers: &Answers) -> Vec<Finding> {
    let finding = |(other, reference): (&DtypeRecord, &DtypeRecord)| {
        let common = in_both(answers.of(&reference.dtype), answers.of(&other.dtype));
        (common.len() >= SAMPLES_THAT_DIFFER && common.iter().all(|(was, is)| was.text == is.text)).then(|| Finding {
            kind: FindingKind::NoAnswerDiffers,
            variant: Some(other.dtype.clone()),
            what: format!(
                "none of {} answers differs from {}'s",
                thousands(common.len() as u64),
                reference.dtype
            ),
            value: common.len() as f64,
            threshold: SAMPLES_THAT_DIFFER as f64,
            remedy: "plausible for a small model in half precision; else check that two precisions ran: `evalsuite perplexity` measures \
                     smaller differences"
                .to_owned(),
        })
    };
    answers.compared().into_iter().filter_map(finding).collect()
}

fn loops(answers: &Answers) -> Vec<Finding> {
    let finding = |dtype: &DtypeRecord| {
        let completions = answers.of(&dtype.dtype);
        let looping: Vec<usize> = completions.iter().filter(|one| loops_in(one)).map(|one| one.sample).collect();
        let example = looping.first()?;
        Some(Finding {
            kind: FindingKind::Loops,
            variant: Some(dtype.dtype.clone()),
            what: format!(
                "{} of {} answers repeat the same 20 tokens three times (sample {example} is one)",
                thousands(looping.len() as u64),
                thousands(completions.len() as u64)
            ),
            value: looping.len() as f64,
            threshold: 0.0,
            remedy: format!(
                "look whether the template and the stops are the model's own: the same command with `--show-prompt {example}`"
            ),
        })
    };
    answers.measured().filter_map(finding).collect()
}

/// By tokens; where these are not known, by words.
fn loops_in(completion: &StoredCompletion) -> bool {
    match &completion.token_ids {
        Some(tokens) => has_loop(tokens),
        None => has_loop(&completion.text.split_whitespace().collect::<Vec<_>>()),
    }
}

fn lengths_apart(answers: &Answers) -> Vec<Finding> {
    let finding = |(other, reference): (&DtypeRecord, &DtypeRecord)| {
        let ratio = other.lengths?.ratio?;
        let apart = (ratio.value > MOST_LENGTH_RATIO && ratio.low > 1.0)
            || (ratio.value < 1.0 / MOST_LENGTH_RATIO && ratio.high < 1.0);
        apart.then(|| Finding {
            kind: FindingKind::LengthsApart,
            variant: Some(other.dtype.clone()),
            what: format!(
                "answers are {:.2} times as long as {}'s, 95 % interval [{:.2}, {:.2}]",
                ratio.value, reference.dtype, ratio.low, ratio.high
            ),
            value: ratio.value,
            threshold: if ratio.value > 1.0 { MOST_LENGTH_RATIO } else { 1.0 / MOST_LENGTH_RATIO },
            remedy: "count the time an answer takes, not tokens/s alone; longer answers also meet the limit of tokens sooner".to_owned(),
        })
    };
    answers.compared().into_iter().filter_map(finding).collect()
}

fn repeated_reference(answers: &Answers) -> Vec<Finding> {
    let frequent = answers.most_frequent_reference().filter(|(_, _, questions)| *questions >= ENOUGH);
    let finding = |(value, times, questions): (String, usize, usize)| {
        let share = times as f64 / questions as f64;
        (share > MOST_SAME_REFERENCE).then(|| Finding {
            kind: FindingKind::RepeatedReference,
            variant: None,
            what: format!(
                "{} of {} questions ({} %) have the same reference answer, {value:?}",
                thousands(times as u64),
                thousands(questions as u64),
                percent(share)
            ),
            value: share,
            threshold: MOST_SAME_REFERENCE,
            remedy: "check the column that the task reads as reference, and the dataset for doubles".to_owned(),
        })
    };
    frequent.and_then(finding).into_iter().collect()
}

fn repeated_answers(answers: &Answers) -> Vec<Finding> {
    let finding = |dtype: &DtypeRecord| {
        let first: Vec<&StoredCompletion> = answers.of(&dtype.dtype).iter().filter(|one| one.repeat == 0).collect();
        let mut seen: HashMap<&str, &str> = HashMap::new();
        let mut again = 0;
        for one in &first {
            match seen.entry(one.text.trim()) {
                // Empty answers are counted as not answered.
                Entry::Occupied(prompt) if *prompt.get() != one.prompt_sha256 && !prompt.key().is_empty() => again += 1,
                Entry::Occupied(_) => (),
                Entry::Vacant(place) => {
                    place.insert(&one.prompt_sha256);
                }
            }
        }
        let share = again as f64 / first.len() as f64;
        (first.len() >= ENOUGH && share > MOST_SAME_ANSWERS).then(|| Finding {
            kind: FindingKind::RepeatedAnswers,
            variant: Some(dtype.dtype.clone()),
            what: format!(
                "{} of {} questions ({} %) got an answer that a different question got before, word for word",
                thousands(again as u64),
                thousands(first.len() as u64),
                percent(share)
            ),
            value: share,
            threshold: MOST_SAME_ANSWERS,
            remedy: "look whether the question reaches the model: the same command with `--show-prompt 0`".to_owned(),
        })
    };
    answers.measured().filter_map(finding).collect()
}

fn busy_machine(answers: &Answers) -> Vec<Finding> {
    let finding = |dtype: &DtypeRecord| {
        let sessions = dtype.sessions.iter().filter_map(|session| session.others_busy);
        let busiest = sessions.max_by(f64::total_cmp)?;
        (busiest > MOST_BUSY).then(|| Finding {
            kind: FindingKind::BusyMachine,
            variant: Some(dtype.dtype.clone()),
            what: format!("other programs used {} % of the machine's processors while it ran", percent(busiest)),
            value: busiest,
            threshold: MOST_BUSY,
            remedy: "its load time and tokens/s may be too low: measure again on an idle machine".to_owned(),
        })
    };
    answers.measured().filter_map(finding).collect()
}

fn uncounted_time(answers: &Answers) -> Vec<Finding> {
    let finding = |dtype: &DtypeRecord| {
        let of = |times: (Option<f64>, Option<f64>)| times.0.zip(times.1);
        let known = dtype.sessions.iter().filter_map(|session| of((session.generate_seconds, session.written_seconds)));
        let (counted, wall) = known.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let left_out = wall - counted;
        (left_out > LEAST_UNCOUNTED_SECONDS && left_out > MOST_UNCOUNTED * wall).then(|| Finding {
            kind: FindingKind::UncountedTime,
            variant: Some(dtype.dtype.clone()),
            what: format!(
                "tokens/s counts {counted:.2} s of generating, but the last answer was written after {wall:.2} s ({} % more)",
                points(left_out / counted).trim_start_matches('+')
            ),
            value: left_out / wall,
            threshold: MOST_UNCOUNTED,
            remedy: "write `--out` to a faster disk; judge the whole by the longer time".to_owned(),
        })
    };
    answers.measured().filter_map(finding).collect()
}

/// The most frequent value and how often it stands; of several the least.
fn most_frequent(values: impl Iterator<Item = String>) -> Option<(String, usize)> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)))
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
