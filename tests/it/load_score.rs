//! Questions under load (`load --score`), by the program itself, on a stub and on our own engine.

use std::path::Path;

use evalsuite::jobs::eval::EvalRecord;
use evalsuite::jobs::load::{LevelPlan, LoadRecord};
use serde_json::json;

use crate::mock_server::{MockServer, Step, json as answer_json, models, stream};
use crate::program::run;

/// Ten questions; the answer is 7, of the last one 8.
fn write_questions(folder: &Path) {
    let row = |child: usize| {
        let answer = if child == 9 { "#### 8" } else { "#### 7" };
        json!({"question": format!("How many apples has child {child}?"), "answer": answer}).to_string()
    };
    std::fs::write(folder.join("q.jsonl"), (0..10).map(row).collect::<Vec<_>>().join("\n")).unwrap();
}

/// Says 7, and under load 8 to children 1, 2 and 9, nothing to child 3, and 7 to child 4 after a while.
fn server() -> MockServer {
    MockServer::start(|asked| {
        if asked.route == "GET /v1/models" {
            return models("m");
        }
        // One request learns what the server takes, ten are the idle run.
        let under_load = asked.before > 10;
        let prompt = asked.body["messages"].to_string();
        let is = |child: usize| under_load && prompt.contains(&format!("child {child}?"));
        if is(3) {
            return answer_json(503, &json!({"error": "busy"}));
        }
        let said = if is(1) || is(2) || is(9) { "#### 8" } else { "#### 7" };
        let wait = if is(4) { vec![Step::Wait(1500)] } else { Vec::new() };
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": "stop"}]});
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}});
        [wait, stream(&[format!("data: {chunk}\n\ndata: {usage}\n\ndata: [DONE]\n\n").as_bytes()])].concat()
    })
}

#[test]
fn answers_under_load_are_scored_and_paired_with_the_idle_run() {
    let (server, scratch) = (server(), tempfile::tempdir().unwrap());
    write_questions(scratch.path());
    let address = server.address();
    let arguments = ["load", "--endpoint", &address, "--score", "gsm8k", "--dataset", "q.jsonl", "--users", "4"];
    let more = ["--warm-up", "0", "--slo", "e2e=1s", "--out", "l.json"];
    let (code, out, err) = run(scratch.path(), &[&arguments[..], &more].concat());
    assert_eq!(code, Some(3), "a request failed: {out}{err}");
    let record = LoadRecord::read(&scratch.path().join("l.json")).unwrap().unwrap();
    assert_eq!(record.plan.levels, [LevelPlan::Users { users: 1 }, LevelPlan::Users { users: 4 }]);
    assert_eq!(server.asked("POST /v1/chat/completions").len(), 21);
    let [idle, level] = &record.variants[0].levels[..] else { panic!("two levels") };
    let score = idle.score.as_ref().unwrap();
    let accuracy = score.accuracy.unwrap();
    assert_eq!((score.answered, accuracy.successes, score.extracted, score.against_idle), (10, 9, 10, None));
    assert!((score.right_per_second * idle.figures.seconds - 9.0).abs() < 1e-9);
    let score = level.score.as_ref().unwrap();
    let accuracy = score.accuracy.unwrap();
    assert_eq!((score.answered, accuracy.successes, accuracy.n, score.cut), (9, 7, 9, 0));
    let paired = score.against_idle.unwrap();
    assert_eq!((paired.both_right, paired.lost, paired.gained, paired.both_wrong), (6, 2, 1, 0));
    // Child 4's answer is right, and too late.
    assert!((score.right_per_second * level.figures.seconds - 6.0).abs() < 1e-9, "{score:?}");
    assert_eq!(level.requests.iter().filter(|one| one.score.is_none()).count(), 1);
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let row = |part: &str| out.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {out}"));
    let words: Vec<&str> = row("-11.1").split_whitespace().collect();
    assert_eq!(words, ["endpoint", "4", "users", "-11.1", "[-48.8,", "+30.2]", "2", "1", "1.000"]);
    let words: Vec<&str> = row("77.8").split_whitespace().collect();
    assert_eq!(words[..7], ["endpoint", "4", "users", "9", "9", "0", "77.8"]);
    assert!(out.lines().any(|line| line.starts_with("endpoint  idle") && line.contains("90.0")), "{out}");
    assert!(out.contains("the 10 questions of q.jsonl (gsm8k, test), each once"), "{out}");
    let (code, markdown, _) = run(scratch.path(), &["show", "l.json", "--format", "markdown"]);
    assert!(code == Some(0) && markdown.contains("| [-48.8, +30.2] | 2 | 1 | 1.000 |"), "{markdown}");
}

#[test]
fn an_idle_run_of_our_own_engine_is_what_an_evaluation_is() {
    let scratch = tempfile::tempdir().unwrap();
    let common = ["--dtype", "f32", "--limit", "8"];
    let evaluated = run(scratch.path(), &[&["gsm8k", "--out", "run"][..], &common].concat());
    assert_eq!(evaluated.0, Some(0), "{}", evaluated.2);
    let record = EvalRecord::read(&scratch.path().join("run/record.json")).unwrap();
    let right = record.dtypes[0].rules.iter().find(|rule| rule.rule == record.headline()).unwrap();
    let (code, out, err) = run(
        scratch.path(),
        &[&["load", "--score", "gsm8k", "--users", "1,4", "--out", "l.json"][..], &common].concat(),
    );
    assert_eq!(code, Some(0), "{out}{err}");
    let record = LoadRecord::read(&scratch.path().join("l.json")).unwrap().unwrap();
    let levels = &record.variants[0].levels;
    assert_eq!(levels.len(), 2, "one user is the idle run already");
    for level in levels {
        let score = level.score.as_ref().unwrap();
        assert_eq!(score.accuracy.map(|it| (it.successes, it.n)), right.accuracy.map(|it| (it.successes, it.n)));
    }
    let paired = levels[1].score.as_ref().unwrap().against_idle.unwrap();
    assert_eq!((paired.lost, paired.gained, paired.n()), (0, 0, 8));
}

#[test]
fn what_is_no_task_or_no_question_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (&["--score", "gsm9k"][..], "gsm9k"),
        (&["--score", "gsm8k", "--requests", "9"], "cannot be used with"),
        (&["--limit", "9"], "--score"),
        (&["--score", "gsm8k", "--protocol", "gsm9k-cot"], "gsm9k-cot"),
        (&["--score", "gsm8k", "--limit", "0"], "--limit"),
    ] {
        let (code, _, err) = run(scratch.path(), &[&["load"], arguments].concat());
        assert!(code == Some(2) && err.contains(part), "{arguments:?}: {err}");
    }
}
