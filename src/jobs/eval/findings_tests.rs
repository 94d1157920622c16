//! Each check on a run that is sound but for one thing, and silent on the sound run.

use std::path::Path;

use super::*;
use crate::engine::Finish;
use crate::jobs::eval::{Asked, Measured, StoredRun, summarise};
use crate::score::Extraction;

const RULES: [&str; 2] = ["numeric", "strict"];

/// A run of two variants that the tests make up, in the plan of a stored one.
struct Run {
    record: EvalRecord,
    completions: Vec<(VariantName, Vec<StoredCompletion>)>,
    samples: Vec<StoredSample>,
}

impl Run {
    /// `n` questions with different references, all answered right in both variants, one of them in other words.
    fn sound(n: usize) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/e113425/run");
        let stored = StoredRun::read(&folder).unwrap();
        let (line, question) = (stored.completions[0].1[0].clone(), stored.samples[0].clone());
        let completion = |sample: usize| StoredCompletion {
            sample,
            repeat: 0,
            prompt_sha256: format!("{sample:064}"),
            token_ids: Some((0..50).map(|place| (sample * 100 + place) as u32).collect()),
            text: format!("So it is {sample}.\n#### {sample}"),
            finish: Finish::EndOfSequence,
            scores: RULES.map(|rule| extraction(rule, Some(&sample.to_string()), true)).to_vec(),
            session: 0,
            ..line.clone()
        };
        let sample = |sample: usize| StoredSample { sample, answer: format!("#### {sample}"), ..question.clone() };
        let f32: Vec<StoredCompletion> = (0..n).map(completion).collect();
        let mut awq = f32.clone();
        "In other words".clone_into(&mut awq[0].text);
        let completions = stored.completions.iter().map(|(name, _)| name.clone()).zip([f32, awq]).collect();
        Self { record: stored.record, completions, samples: (0..n).map(sample).collect() }
    }

    fn change(mut self, variant: usize, change: impl FnMut(&mut StoredCompletion)) -> Self {
        self.completions[variant].1.iter_mut().for_each(change);
        self
    }

    fn both(self, mut change: impl FnMut(&mut StoredCompletion)) -> Self {
        self.change(0, &mut change).change(1, change)
    }

    fn findings(mut self) -> Vec<Finding> {
        let sessions: Vec<_> = self.record.dtypes.iter().map(|dtype| dtype.sessions.clone()).collect();
        let measured = self.completions.iter().zip(sessions).map(|((dtype, completions), sessions)| Measured {
            dtype: dtype.clone(),
            completions,
            sessions,
            failure: None,
        });
        let measured: Vec<Measured> = measured.collect();
        let asked = Asked::new(&self.record.plan, RULES.map(str::to_owned).to_vec(), &self.samples);
        self.record.dtypes = summarise(&measured, &asked);
        self.record.headline = Some("numeric".to_owned());
        findings(&Answers { record: &self.record, completions: &self.completions, samples: &self.samples })
    }
}

fn extraction(rule: &str, value: Option<&str>, correct: bool) -> Extraction {
    Extraction { rule: rule.to_owned(), value: value.map(str::to_owned), span: None, correct }
}

/// The one kind that is found, of these variants; every finding says value, threshold and a way out.
fn only(findings: &[Finding], kind: FindingKind) -> Vec<&Finding> {
    assert!(!findings.is_empty(), "nothing is found");
    for finding in findings {
        assert_eq!(finding.kind, kind, "{finding}");
        assert!(
            !finding.remedy.is_empty() && finding.value.is_finite() && finding.threshold.is_finite(),
            "{finding:?}"
        );
    }
    findings.iter().collect()
}

#[test]
fn a_sound_run_has_no_finding() {
    assert_eq!(Run::sound(120).findings(), []);
}

#[test]
fn more_than_one_answer_in_twenty_cut_is_found_and_one_in_twenty_is_not() {
    let cut = |most: usize| {
        Run::sound(100).change(1, move |one| {
            if one.sample < most {
                one.finish = Finish::Length;
            }
        })
    };
    assert_eq!(cut(5).findings(), []);
    let findings = cut(6).findings();
    let found = only(&findings, FindingKind::CutAnswers);
    assert_eq!((found.len(), found[0].value, found[0].threshold), (1, 0.06, 0.05));
    let text = found[0].to_string();
    assert!(text.starts_with("awq: 6 of 100 answers (6.0 %) were cut off"), "{text}");
    assert!(text.contains("6 of them with a value that numeric takes from the cut text"), "{text}");
}

#[test]
fn a_headline_rule_that_finds_little_is_found_and_the_rule_that_reads_more_is_named() {
    let without = |most: usize| {
        Run::sound(100).change(0, move |one| {
            if one.sample < most {
                // Still right by the other rule, so that the rules lie apart as well from six on.
                one.scores[0] = extraction("numeric", None, false);
            }
        })
    };
    assert!(without(10).findings().iter().all(|finding| finding.kind != FindingKind::FewExtracted));
    let findings = without(11).findings();
    let found: Vec<_> = findings.iter().filter(|one| one.kind == FindingKind::FewExtracted).collect();
    assert_eq!((found.len(), found[0].value), (1, 0.89));
    let text = found[0].to_string();
    assert!(text.contains("numeric finds a value in 89 of 100") && text.contains("give `--rule strict`"), "{text}");
}

#[test]
fn rules_more_than_five_points_apart_are_found_with_an_example() {
    let apart = |most: usize| {
        Run::sound(100).both(move |one| {
            if (10..10 + most).contains(&one.sample) {
                one.scores[1] = extraction("strict", Some("7"), false);
            }
        })
    };
    assert_eq!(apart(4).findings(), []);
    let findings = apart(6).findings();
    let found = only(&findings, FindingKind::RulesApart);
    assert_eq!(found.len(), 1, "told once for the run");
    let text = found[0].to_string();
    assert!(text.contains("by numeric 100.0 % are right, by strict 94.0 %"), "{text}");
    assert!(text.contains("sample 10: numeric takes \"10\", strict \"7\""), "{text}");
}

#[test]
fn an_accuracy_that_guessing_reaches_is_found() {
    let right = |most: usize| {
        let mut run = Run::sound(100).both(move |one| {
            let right = one.sample < most;
            one.scores = RULES.map(|rule| extraction(rule, Some("1"), right)).to_vec();
        });
        // Answering 7 every time would be right three times.
        (50..53).for_each(|sample| "#### 7".clone_into(&mut run.samples[sample].answer));
        (7..8).for_each(|sample| "#### 1000".clone_into(&mut run.samples[sample].answer));
        run
    };
    assert_eq!(right(4).findings(), []);
    let findings = right(3).findings();
    let found = only(&findings, FindingKind::GuessingLevel);
    assert_eq!((found.len(), found[0].value, found[0].threshold), (2, 0.03, 0.03));
    assert!(found[0].to_string().contains("answering \"7\" every time"), "{}", found[0]);
}

#[test]
fn two_precisions_without_a_different_answer_are_found_from_a_hundred_on() {
    let same = |n: usize| Run::sound(n).both(|one| one.text = format!("#### {}", one.sample));
    assert_eq!(same(99).findings(), []);
    let findings = same(100).findings();
    let found = only(&findings, FindingKind::NoAnswerDiffers);
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().starts_with("awq: none of 100 answers differs from f32's"), "{}", found[0]);
}

#[test]
fn one_answer_that_loops_is_found_by_tokens_or_by_words() {
    let tokens = Run::sound(100).change(1, |one| {
        if one.sample == 42 {
            one.token_ids = Some((0..20).cycle().take(60).collect());
        }
    });
    let findings = tokens.findings();
    let found = only(&findings, FindingKind::Loops);
    assert!(found[0].to_string().starts_with("awq: 1 of 100 answers repeat"), "{}", found[0]);
    assert!(found[0].what.contains("sample 42"), "{}", found[0]);
    // It used to name a command, which shows the bundled model's prompt.
    assert!(found[0].remedy.ends_with("the same command with `--show-prompt 42`"), "{}", found[0]);
    let words = Run::sound(100).both(|one| one.token_ids = None).change(0, |one| {
        if one.sample == 7 {
            one.text = "again and ".repeat(30);
        }
    });
    assert!(only(&words.findings(), FindingKind::Loops)[0].what.contains("sample 7"));
}

#[test]
fn answers_much_longer_or_shorter_than_the_reference_s_are_found() {
    let of_length = |length: usize| {
        Run::sound(100).change(1, move |one| {
            one.token_ids = Some((0..length).map(|place| (one.sample * 100 + place) as u32).collect());
        })
    };
    assert_eq!(of_length(62).findings(), [], "1.24 times as long");
    let findings = of_length(64).findings();
    let found = only(&findings, FindingKind::LengthsApart);
    assert_eq!((found.len(), found[0].value, found[0].threshold), (1, 1.28, 1.25));
    assert!((only(&of_length(30).findings(), FindingKind::LengthsApart)[0].threshold - 0.8).abs() < 1e-12);
}

#[test]
fn a_reference_that_many_questions_share_is_found() {
    let shared = |most: usize| {
        let mut run = Run::sound(100);
        run.samples.iter_mut().take(most).for_each(|sample| "#### 18".clone_into(&mut sample.answer));
        // One sample of the sound run has this reference already.
        run
    };
    assert_eq!(shared(20).findings(), []);
    let findings = shared(21).findings();
    let found = only(&findings, FindingKind::RepeatedReference);
    assert_eq!((found.len(), &found[0].variant, found[0].value), (1, &None, 0.21));
}

#[test]
fn the_same_answer_to_different_questions_is_found() {
    let repeated = |most: usize| {
        Run::sound(100).change(0, move |one| {
            if one.sample < most {
                "I cannot say.".clone_into(&mut one.text);
            }
        })
    };
    assert_eq!(repeated(6).findings(), [], "five follow the first");
    let findings = repeated(7).findings();
    assert_eq!(only(&findings, FindingKind::RepeatedAnswers)[0].value, 0.06);
    let empty = Run::sound(100).change(0, |one| one.text.clear());
    assert!(empty.findings().iter().all(|finding| finding.kind != FindingKind::RepeatedAnswers));
}

#[test]
fn a_busy_machine_and_time_that_is_not_counted_are_found() {
    let mut busy = Run::sound(100);
    busy.record.dtypes[1].sessions[0].others_busy = Some(0.11);
    assert_eq!(only(&busy.findings(), FindingKind::BusyMachine)[0].value, 0.11);
    let mut idle = Run::sound(100);
    idle.record.dtypes[1].sessions[0].others_busy = Some(0.1);
    assert_eq!(idle.findings(), []);

    let timed = |counted: f64, wall: f64| {
        let mut run = Run::sound(100);
        run.record.dtypes[0].sessions[0].generate_seconds = Some(counted);
        run.record.dtypes[0].sessions[0].written_seconds = Some(wall);
        run.findings()
    };
    let findings = timed(9.7, 10.0);
    let text = only(&findings, FindingKind::UncountedTime)[0].to_string();
    assert!(text.contains("counts 9.70 s") && text.contains("after 10.00 s"), "{text}");
    assert_eq!(timed(9.85, 10.0), [], "1.5 %");
    assert_eq!(timed(0.5, 0.55), [], "one sync of the disk");
}

#[test]
fn f32_on_quantised_weights_is_no_ground_truth() {
    let mut run = Run::sound(100);
    run.record.plan.target.model.quantized = true;
    let findings = run.findings();
    let found = only(&findings, FindingKind::NoGroundTruth);
    assert_eq!(found[0].variant.as_ref().map(VariantName::as_str), Some("f32"));
}

#[test]
fn the_variant_whose_rules_lie_furthest_apart_is_named() {
    let wrong_by_strict = |most: usize| {
        move |one: &mut StoredCompletion| {
            if one.sample < most {
                one.scores[1] = extraction("strict", Some("7000"), false);
            }
        }
    };
    let findings = Run::sound(100).change(0, wrong_by_strict(4)).change(1, wrong_by_strict(8)).findings();
    let found = only(&findings, FindingKind::RulesApart);
    assert_eq!(found[0].variant.as_ref().map(VariantName::as_str), Some("awq"));
}

#[test]
fn one_long_answer_makes_no_variant_s_answers_longer() {
    // The mean is 1.39 times the reference's, and its interval reaches from 0.6 to 2.2; or 0.72 times.
    for variant in [1, 0] {
        let run = Run::sound(100).change(variant, |one| {
            if one.sample == 3 {
                one.token_ids = Some((0..2000).collect());
            }
        });
        assert_eq!(run.findings(), []);
    }
}

#[test]
fn answers_of_later_repeats_are_none_of_different_questions() {
    let mut run = Run::sound(100);
    for (_, completions) in &mut run.completions {
        let again =
            |one: &StoredCompletion| StoredCompletion { repeat: 1, text: "Once more.".to_owned(), ..one.clone() };
        let repeats: Vec<_> = completions.iter().map(again).collect();
        completions.extend(repeats);
    }
    assert_eq!(run.findings(), []);
}

#[test]
fn of_several_sessions_the_busiest_and_the_sum_of_their_times_count() {
    let with = |first: &dyn Fn(&mut crate::record::Session), second: &dyn Fn(&mut crate::record::Session)| {
        let mut run = Run::sound(100);
        let sessions = &mut run.record.dtypes[1].sessions;
        sessions.push(sessions[0].clone());
        first(&mut sessions[0]);
        second(&mut sessions[1]);
        run.findings()
    };
    let findings = with(&|one| one.others_busy = Some(0.5), &|one| one.others_busy = Some(0.05));
    assert_eq!(only(&findings, FindingKind::BusyMachine)[0].value, 0.5);
    let timed = |counted: f64, wall: f64| {
        move |one: &mut crate::record::Session| {
            (one.generate_seconds, one.written_seconds) = (Some(counted), Some(wall));
        }
    };
    let findings = with(&timed(9.0, 10.0), &timed(10.0, 10.0));
    let found = only(&findings, FindingKind::UncountedTime);
    assert!((found[0].value - 0.05).abs() < 1e-12, "{}", found[0]);
}
