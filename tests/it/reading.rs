//! `evalsuite show RUN --sample, --wrong, --flipped, --cut` on a run that an earlier version wrote, by the program itself.

use std::path::{Path, PathBuf};

use evalsuite::engine::Finish;
use evalsuite::jobs::eval::StoredRun;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{evalsuite, text};
use crate::report_runs::{counted_anew, write_run};

fn stored() -> PathBuf {
    crate::data("e113425").join("run")
}

/// stdout and stderr of `show RUN …`, which must end with `code`.
fn show(run: &Path, code: i32, arguments: &str) -> (String, String) {
    let output = evalsuite().arg("show").arg(run).args(arguments.split_whitespace()).output().expect("it starts");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments}: {out}{err}");
    assert!(!err.contains("panicked") && (code != 2 || err.contains("hint: ")), "{arguments}: {err}");
    (out, err)
}

/// The stored run, in which awq has lost sample 0: its answer is cut behind another value.
fn damaged() -> TempDir {
    let mut run = StoredRun::read(&stored()).unwrap();
    let (_, awq) = &mut run.completions[1];
    let lost = awq.iter_mut().find(|one| one.sample == 0).unwrap();
    "They cost 5 * 5 = 20.\nSo she".clone_into(&mut lost.text);
    lost.finish = Finish::Length;
    for score in &mut lost.scores {
        (score.value, score.span, score.correct) = (Some("20".to_owned()), Some([18, 20]), false);
    }
    let folder = tempfile::tempdir().unwrap();
    write_run(&counted_anew(run), &folder.path().join("run"));
    folder
}

#[test]
fn a_sample_is_read_with_both_answers_and_what_each_rule_took() {
    let (out, _) = show(&stored(), 0, "--sample 3");
    for part in [
        "Sample 3\n",
        "Yusuf had $172 and spent $166",
        "reference: 6\n",
        "f32: right, 29 tokens\n",
        "  #### «6»\n",
        "- numeric, strict, flexible took 6 (line 2, column 6): right\n",
        "awq: wrong where f32 is right, 29 tokens\n",
        "  Yusuf keeps 172 - 166 = $<<172-166=▸7>>7.\n  #### «7»\n",
        "- numeric, strict, flexible took 7 (line 2, column 6): wrong\n",
    ] {
        assert!(out.contains(part), "{part}\nis not in\n{out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let (two, _) = show(&stored(), 0, "--sample 44 --sample 0-1,3");
    let headings: Vec<&str> = two.lines().filter(|line| line.starts_with("Sample ")).collect();
    assert_eq!(headings, ["Sample 0", "Sample 1", "Sample 3", "Sample 44"]);
}

#[test]
fn wrong_flipped_and_cut_answers_are_found_in_every_format() {
    let run = damaged();
    let rows = |arguments: &str| -> Vec<u64> {
        let (out, _) = show(&run.path().join("run"), 0, &format!("{arguments} --format json"));
        let json: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((json["kind"].as_str(), json["format"].as_u64()), (Some("reading"), Some(1)));
        json["samples"].as_array().unwrap().iter().map(|sample| sample["sample"].as_u64().unwrap()).collect()
    };
    assert_eq!(rows("--wrong"), [0, 3, 140]);
    assert_eq!(rows("--wrong --limit 2"), [0, 3]);
    assert_eq!(rows("--flipped awq"), [0, 3]);
    assert_eq!(rows("--cut"), [0]);
    assert_eq!(rows("--cut --sample 7"), [0_u64; 0]);
    let (out, _) = show(&run.path().join("run"), 0, "--flipped awq");
    assert!(out.contains("awq: wrong where f32 is right, 26 tokens, cut (length)\n"), "{out}");
    let one_line = crate::program::flowing(&out);
    assert!(one_line.contains("took 20 (line 1, column 19), from a cut answer: wrong"), "{out}");
    let (markdown, _) = show(&run.path().join("run"), 0, "--wrong --limit 1 --format markdown");
    assert!(markdown.contains("## Sample 0\n") && markdown.contains("```text\nThey cost ▸5 * 5 = «20»"), "{markdown}");
    assert!(markdown.contains("2 more are not shown: `--limit 3` shows all."), "{markdown}");
}

#[test]
fn a_choice_of_nothing_is_said_and_is_no_failure() {
    for (arguments, why) in [
        ("--cut", "cut"),
        ("--flipped awq --wrong --sample 7", "awq differs from f32 by numeric, awq wrong by numeric"),
    ] {
        let (out, err) = show(&stored(), 0, arguments);
        assert_eq!(out, "");
        assert!(err.contains("note: no answer of ") && err.contains(why), "{err}");
    }
    let (out, err) = show(&stored(), 0, "--cut --format json");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["selected"], 0);
    assert!(err.contains("no answer of"), "{err}");
}

#[test]
fn what_cannot_be_shown_is_refused() {
    for (arguments, part) in [
        ("--sample 2", "no answer to sample 2"),
        ("--sample 7-3", "did you mean `3-7`?"),
        ("--flipped awk", "did you mean `awq`?"),
        ("--flipped f32", "nothing flips in it"),
        ("--wrong --rule strikt", "did you mean `strict`?"),
        ("--wrong --limit 0", "--limit 0 asks for nothing"),
        ("--wrong --format html", "there is no template reading.html"),
    ] {
        let (out, err) = show(&stored(), 2, arguments);
        assert!(out.is_empty() && err.contains(part), "{arguments}: {out}{err}");
    }
    for (run, part) in [
        ("run/record.json", "is not a folder"),
        ("quality", "the record of a quality run"),
        ("interrupted", "has not finished"),
        ("nowhere", "is not there"),
    ] {
        let (_, err) = show(&crate::data("e113425").join(run), 2, "--wrong");
        assert!(err.contains(part), "{run}: {err}");
    }
    let output = evalsuite().args(["show", "run", "--limit", "3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("required arguments were not provided"), "{}", text(&output.stderr));
}
