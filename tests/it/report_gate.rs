//! `--baseline`: a run against a stored one.

use std::path::Path;
use std::process::Output;

use crate::comparisons::render;
use crate::program::{evalsuite, text};
use evalsuite::compare::{Comparison, Gate, GateSubject, Limits};
use evalsuite::engine::Dtype;
use evalsuite::jobs::eval::StoredRun;
use evalsuite::report::Templates;

use crate::report_runs::{counted_anew, large_run, scripted_run, write_run};

fn program(arguments: &[&str]) -> Output {
    evalsuite().args(arguments).output().expect("the program starts")
}

fn said(output: &Output) -> String {
    text(&output.stderr)
}

/// A run of 240 rows and one whose f16 lost this many more of them.
fn baseline_and_worse(scratch: &Path, lost: usize) -> (StoredRun, StoredRun) {
    let baseline = large_run(scratch, 240);
    let mut worse = baseline.clone();
    worse.path = scratch.join("worse");
    let f16 = worse.completions.iter_mut().find(|(dtype, _)| *dtype == Dtype::F16).unwrap();
    let right = f16.1.iter_mut().filter(|one| one.scores[0].correct).take(lost);
    for one in right {
        one.scores[0].correct = false;
        one.token_ids.as_mut().unwrap()[0] = 77;
    }
    let worse = counted_anew(worse);
    write_run(&worse, &scratch.join("worse"));
    (baseline, worse)
}

fn gate(run: &StoredRun, baseline: &StoredRun, limits: Limits) -> Gate {
    Gate::new(std::slice::from_ref(run), baseline, limits).unwrap()
}

#[test]
fn a_run_is_as_good_as_itself_however_few_its_questions() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scripted_run(&scratch.path().join("run"));
    let gate = gate(&run, &run, Limits { margin_points: 0.0, min_speed_ratio: None });
    assert!(gate.passed && gate.checks.len() == 2 && gate.notes.is_empty(), "{gate:?}");
    assert!(gate.checks[0].message.contains("token for token"));
}

#[test]
fn the_precision_that_lost_is_named_with_how_much() {
    let scratch = tempfile::tempdir().unwrap();
    let (baseline, worse) = baseline_and_worse(scratch.path(), 12);
    let gate = gate(&worse, &baseline, Limits::default());
    let failed: Vec<&str> = gate.failures().collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    // 12 of 240; Tango's interval by tests/data/make_tango.py for (12, 0, 240): [-8.5, -2.5] or so, checked to a tenth below.
    assert!(failed[0].starts_with("f16: accuracy -5.0 points on 240 questions (12 lost, 0 gained)"), "{failed:?}");
    assert!(failed[0].contains("below the margin of -2.0"), "{failed:?}");
    let check = gate.checks.iter().find(|check| !check.passed).unwrap();
    assert_eq!(check.dtype, Dtype::F16);
    assert_eq!((check.subject, check.paired.unwrap().lost), (GateSubject::Accuracy, 12));
    let (low, high) = check.interval.unwrap();
    assert!(low < -0.05 && high > -0.05 && low > -0.10 && high < -0.02, "{low} {high}");
    assert!(self::gate(&worse, &baseline, Limits { margin_points: 10.0, min_speed_ratio: None }).passed);
}

#[test]
fn one_lost_of_240_is_within_a_margin_of_three_points_and_not_of_two() {
    // Tango's lower end for (1, 0, 240) is -2.32 points (src/score/noninferiority.rs).
    let scratch = tempfile::tempdir().unwrap();
    let (baseline, worse) = baseline_and_worse(scratch.path(), 1);
    assert!(gate(&worse, &baseline, Limits { margin_points: 2.33, min_speed_ratio: None }).passed);
    assert!(!gate(&worse, &baseline, Limits { margin_points: 2.32, min_speed_ratio: None }).passed);
}

#[test]
fn speed_is_held_to_its_ratio() {
    let scratch = tempfile::tempdir().unwrap();
    let baseline = large_run(scratch.path(), 20);
    let mut slower = baseline.clone();
    for record in &mut slower.record.dtypes {
        record.output_tokens_per_second = record.output_tokens_per_second.map(|speed| speed * 0.85);
    }
    let with = |ratio| Limits { margin_points: 2.0, min_speed_ratio: Some(ratio) };
    assert!(gate(&slower, &baseline, with(0.84)).passed);
    let failed = gate(&slower, &baseline, with(0.86));
    let messages: Vec<&str> = failed.failures().collect();
    assert_eq!(messages.len(), 3, "every precision was slower: {messages:?}");
    assert!(messages[0].contains("a ratio of 0.850, below 0.86"), "{messages:?}");
    slower.record.dtypes[0].output_tokens_per_second = None;
    assert!(gate(&slower, &baseline, with(0.1)).failures().any(|message| message.contains("no speed was measured")));
}

#[test]
fn strangers_are_refused_and_differences_named() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scripted_run(&scratch.path().join("run"));
    let refused = |change: &dyn Fn(&mut StoredRun)| {
        let mut other = run.clone();
        change(&mut other);
        Gate::new(std::slice::from_ref(&other), &run, Limits::default()).unwrap_err().to_string()
    };
    let message = refused(&|other| other.record.plan.dataset.sha256 = "ab".repeat(32));
    assert!(
        message.contains("its dataset is scripted (sha256 abab") && message.contains("hint: run both on"),
        "{message}"
    );
    let message = refused(&|other| other.record.plan.protocol.sha256 = "cd".repeat(32));
    assert!(message.contains("its protocol is gsm8k-cot-zeroshot (sha256 cdcd"), "{message}");
    let message = refused(&|other| other.record.dtypes.clear());
    assert!(message.contains("share no precision"), "{message}");
    let message = refused(&|other| {
        for (_, completions) in &mut other.completions {
            for one in completions {
                one.sample += 100;
            }
        }
    });
    assert!(message.contains("share no question"), "{message}");

    let mut other = run.clone();
    other.record.plan.target.model.sha256 = Some("ef".repeat(32));
    other.record.machine.cpu = "Another CPU".to_owned();
    other.record.dtypes[1].dtype = Dtype::Awq.into();
    let notes = gate(&other, &run, Limits::default()).notes.join("\n");
    for part in ["model.sha256: was 5c5c", "machine: was ", "awq: not in the baseline", "f16: only in the baseline"] {
        assert!(notes.contains(part), "{part} is not in {notes}");
    }
}

#[test]
fn a_precision_that_did_not_finish_fails() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scripted_run(&scratch.path().join("run"));
    let mut failed = run.clone();
    failed.record.dtypes[1].failure = Some("out of memory\nhint: none".to_owned());
    let gate = gate(&failed, &run, Limits::default());
    assert_eq!(gate.failures().collect::<Vec<_>>(), ["f16: did not finish: out of memory"]);
}

#[test]
fn every_format_says_that_the_gate_failed() {
    let scratch = tempfile::tempdir().unwrap();
    let (baseline, worse) = baseline_and_worse(scratch.path(), 30);
    let gate = gate(&worse, &baseline, Limits::default());
    let runs = [worse];
    let comparison = Comparison::new(&runs, Vec::new(), Some(gate), Vec::new());
    let of = |format| render(&comparison, &runs, format, &Templates::bundled()).unwrap();
    for (format, part) in [
        ("terminal", "FAIL  f16: accuracy -12.5 points"),
        ("markdown", "| **FAIL** | f16: accuracy -12.5 points"),
        ("html", "<li class=\"fail\"><b>fail</b> f16: accuracy -12.5 points"),
        ("github", "::error title=accuracy gate::f16: accuracy -12.5 points"),
        ("json", "\"passed\": false"),
        ("junit", "<failure message=\"f16: accuracy -12.5 points"),
    ] {
        assert!(of(format).contains(part), "{part} is not in {}", of(format));
    }
    let junit = quick_junit::Report::deserialize_from_str(&of("junit")).unwrap();
    assert_eq!((junit.failures, junit.tests), (1, 3 * 240 + 3 + 3 + comparison.notes.len()));
    assert!(comparison.verdict.starts_with("FAIL, 1 of 3 checks: "), "{}", comparison.verdict);
}

#[test]
fn exit_codes_follow_the_gate() {
    let scratch = tempfile::tempdir().unwrap();
    baseline_and_worse(scratch.path(), 30);
    let (baseline, worse) = (scratch.path().join("large"), scratch.path().join("worse"));
    let (baseline, worse) = (baseline.to_str().unwrap(), worse.to_str().unwrap());
    let output = program(&["report", worse, "--baseline", baseline]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("error: f16: accuracy -12.5 points"), "{}", said(&output));
    assert_eq!(program(&["report", worse, "--baseline", baseline, "--margin", "20"]).status.code(), Some(0));
    assert_eq!(program(&["report", baseline, "--baseline", baseline]).status.code(), Some(0));
    for (flags, part) in [
        (&["--baseline", baseline, "--margin", "-1"][..], "--margin -1"),
        (&["--baseline", baseline, "--margin", "NaN"], "--margin NaN"),
        (&["--baseline", baseline, "--min-speed-ratio", "0"], "--min-speed-ratio 0"),
        (&["--baseline", "/no/such/run"], "/no/such/run is not there"),
        (&["--margin", "3"], "--baseline"),
    ] {
        let output = program(&[&["report", worse], flags].concat());
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(said(&output).contains(part), "{}", said(&output));
    }
}

#[test]
fn gsm8k_ends_with_the_gate() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let run = |out: &str, more: &[&str]| {
        let fixed = ["gsm8k", "--limit", "2", "--dtype", "f32", "--out", out];
        program(&[&fixed[..], more].concat())
    };
    let output = run(&folder("first"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = run(&folder("second"), &["--baseline", &folder("first"), "--min-speed-ratio", "0.001"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("baseline: f32: every answer is the baseline's"), "{}", said(&output));
    let output = run(&folder("third"), &["--baseline", &folder("first"), "--min-speed-ratio", "1000000"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("error: f32: ") && said(&output).contains("below 1000000"), "{}", said(&output));
    let output = run(&folder("fourth"), &["--baseline", "/no/such/run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!Path::new(&folder("fourth")).exists(), "a baseline that is not there is known before anything runs");
}

#[test]
fn a_baseline_that_cannot_match_is_refused_before_anything_runs() {
    let scratch = tempfile::tempdir().unwrap();
    let (run, out) = (scratch.path().join("run"), scratch.path().join("out"));
    scripted_run(&run);
    let (run, folder) = (run.to_str().unwrap(), out.to_str().unwrap());
    let common = ["gsm8k", "--engine", "cpu", "--baseline", run, "--out", folder];
    for (flags, why) in [
        (&["--dtype", "f32"][..], "its protocol is stepwise, the baseline's gsm8k-cot-zeroshot"),
        (&["--dtype", "int8", "--protocol", "gsm8k-cot-zeroshot"], "they share no precision"),
    ] {
        let output = program(&[&common[..], flags].concat());
        let message = said(&output);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {message}");
        assert!(message.contains(why) && message.contains("hint: "), "{flags:?}: {message}");
        assert!(!out.exists(), "{flags:?}");
    }
}

#[test]
fn prompts_that_are_not_the_baseline_s_are_noted() {
    let scratch = tempfile::tempdir().unwrap();
    let baseline = scripted_run(&scratch.path().join("run"));
    let notes = |change: &dyn Fn(&mut evalsuite::record::StoredCompletion)| {
        let mut run = baseline.clone();
        run.completions.iter_mut().for_each(|(_, completions)| completions[1..3].iter_mut().for_each(change));
        gate(&run, &baseline, Limits::default()).notes
    };
    assert_eq!(notes(&|_| ()), Vec::<String>::new());
    let tokens = notes(&|one| one.prompt_ids_sha256 = Some("00".repeat(32)));
    assert_eq!(tokens, ["prompts: 2 of 5 have the baseline's text and other tokens: another tokenizer"]);
    assert_eq!(notes(&|one| one.prompt_ids_sha256 = None), Vec::<String>::new(), "what is unknown is no difference");
    let texts = notes(&|one| one.prompt_sha256 = "00".repeat(32));
    assert_eq!(texts, ["prompts: 2 of 5 have another text than the baseline's"]);
}
