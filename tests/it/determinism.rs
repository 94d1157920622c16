//! `evalsuite determinism`: what moves though nothing is changed, on the bundled model and on a server that is not to be relied on; and the
//! floor beside the differences of runs.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use evalsuite::compare::NoiseFloors;
use evalsuite::jobs::eval::StoredRun;
use serde_json::{Value, json};

use crate::mock_server::{Asked, MockServer, Step, json as answer_json, models, whole};
use crate::program::{evalsuite, mistake, text};

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = evalsuite().current_dir(folder).args(arguments).output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn an_engine_of_ours_moves_nothing_and_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let arguments = ["determinism", "--engine", "cpu", "--dtype", "f32,f16", "--limit", "9", "--max-tokens", "12"];
    let (code, table, said) = run(folder, &[&arguments[..], &["--out", "floor.json"]].concat());
    assert_eq!(code, Some(0), "{said}");
    for variant in ["f32", "f16"] {
        let sentence = format!(
            "{variant}: nothing moves: 9 answers are the same token for token at batch 1, 8, 9, twice, in any order; of others 29.9 % at \
             most would (95 %)"
        );
        assert!(flowing(&table).contains(&sentence), "{table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    for command in ["show", "report"] {
        for format in ["terminal", "markdown", "json"] {
            let (code, shown, said) = run(folder, &[command, "floor.json", "--format", format]);
            assert_eq!(code, Some(0), "{said}");
            let is_whole = if format == "json" {
                shown.contains("\"determinism_format\": 1")
            } else {
                shown.contains("nothing moves")
            };
            assert!(is_whole, "{command} {format}: {shown}");
        }
    }
    let record = read(&folder.join("floor.json"));
    let arms = record["variants"][1]["arms"].as_array().unwrap();
    let passes: Vec<(u64, bool)> =
        arms.iter().map(|arm| (arm["batch"].as_u64().unwrap(), arm["shuffled"].as_bool().unwrap())).collect();
    assert_eq!(passes, [(1, true), (8, false), (8, true), (9, false), (9, true)]);
    for arm in arms {
        assert_eq!(
            (&arm["moved"], &arm["answers"], &arm["tokens_moved"]["value"]),
            (&json!([]), &json!(9), &json!(0.0))
        );
    }

    // A difference beside a floor of nothing is above it; another model's floor is refused.
    let (code, _, said) =
        run(folder, &["gsm8k", "--engine", "cpu", "--dtype", "f32,f16", "--limit", "9", "--out", "run"]);
    assert_eq!(code, Some(0), "{said}");
    for format in ["terminal", "markdown", "html"] {
        let (code, shown, said) = run(folder, &["report", "run", "--noise", "floor.json", "--format", format]);
        assert_eq!(code, Some(0), "{said}");
        assert!(flowing(&shown).contains("above the noise floor of 0.0 % [0.0, 29.9]"), "{format}: {shown}");
    }
    let floors = NoiseFloors::read(&folder.join("floor.json")).unwrap();
    let mut stored = StoredRun::read(&folder.join("run")).unwrap();
    floors.check(&stored).unwrap();
    stored.record.plan.target.model.sha256 = Some("00".repeat(32));
    let refused = floors.check(&stored).unwrap_err().to_string();
    assert!(refused.contains("the noise floor of bundled") && refused.contains("hint: "), "{refused}");
}

#[test]
fn mistakes_about_floors_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let refused = |arguments: &str| {
        let words = arguments.split_whitespace();
        mistake(&evalsuite().current_dir(scratch.path()).args(words).output().unwrap())
    };
    assert!(refused("determinism --limit 1").contains("one prompt has no batch"));
    assert!(refused("determinism --limit 0").contains("--limit 0"));
    assert!(refused("determinism --out there/floor.json").contains("there is no folder there"));
    assert!(refused("gsm8k --noise floor.json").contains("--noise is of no use without --baseline"));
    let made = evalsuite()
        .current_dir(scratch.path())
        .args(["gsm8k", "--dtype", "f32", "--limit", "2", "--out", "run"])
        .output();
    assert!(made.unwrap().status.success());
    assert!(refused("report run --noise floor.json").contains("floor.json: there is no such file"));
    assert!(refused("report run --noise run/record.json").contains("not a record of `evalsuite determinism`"));
}

const ROWS: usize = 9;
/// How many rows a server answers otherwise from now on.
static WRONG: AtomicUsize = AtomicUsize::new(0);
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Right the first time that it is asked all rows; from then on wrong on rows 3 and 5, or on the first `WRONG` rows.
fn unsteady(asked: &Asked) -> Vec<Step> {
    match asked.route.as_str() {
        "GET /v1/models" => models("m"),
        "POST /v1/chat/completions" => {
            let before = ASKED.fetch_add(1, Ordering::Relaxed);
            let row =
                (0..ROWS).find(|row| asked.body["messages"].to_string().contains(&format!("Row {row}?"))).unwrap();
            let is_wrong = match WRONG.load(Ordering::Relaxed) {
                0 => before >= ROWS && [3, 5].contains(&row),
                wrong => row < wrong,
            };
            let value = if is_wrong { 8 } else { 7 };
            answer_json(
                200,
                &json!({
                    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": format!("#### {value}")}}],
                    "usage": {"prompt_tokens": 9, "completion_tokens": 3},
                }),
            )
        }
        _ => whole(404, "text/plain", "", "no such route"),
    }
}

#[test]
fn a_server_that_moves_has_a_floor_and_gates_name_what_lies_below_it() {
    let (server, scratch) = (MockServer::start(unsteady), tempfile::tempdir().unwrap());
    let (address, folder) = (server.address(), scratch.path());
    let rows: Vec<String> =
        (0..ROWS).map(|row| json!({"question": format!("Row {row}?"), "answer": "#### 7"}).to_string()).collect();
    std::fs::write(folder.join("rows.jsonl"), rows.join("\n")).unwrap();
    let asking = ["--endpoint", &address, "--no-stream", "--dataset", "rows.jsonl"];
    let (code, table, said) = run(folder, &[&["determinism", "--out", "floor.json"], &asking[..]].concat());
    assert_eq!(code, Some(1), "something moved: {table}{said}");
    let sentence = "endpoint: the noise floor: 22.2 % [6.3, 54.7] of 9 answers move with the batch (1, 8, 9) and the order, 22.2 % [6.3, \
                    54.7] become right or wrong, and accuracy moves by up to 22.2 points";
    assert!(flowing(&table).contains(sentence), "{table}");
    assert!(flowing(&table).contains("moved in any pass, by row: endpoint: 3, 5"), "{table}");
    let record = read(&folder.join("floor.json"));
    for arm in record["variants"][0]["arms"].as_array().unwrap() {
        let moved: Vec<&Value> = arm["moved"].as_array().unwrap().iter().map(|one| &one["sample"]).collect();
        assert_eq!((moved, &arm["lost"], &arm["gained"]), (vec![&json!(3), &json!(5)], &json!(2), &json!(0)));
        assert!(arm["tokens_moved"].is_null(), "the server tells none");
    }

    // One flip of nine is below the floor, six are above it; a gate names the first and decides neither by it.
    let wrong = |rows: usize| {
        WRONG.store(rows, Ordering::Relaxed);
        let name = format!("wrong-{rows}");
        let (code, _, said) = run(folder, &[&["gsm8k", "--out", &name], &asking[..]].concat());
        assert_eq!(code, Some(0), "{said}");
        name
    };
    let (one, seven) = (wrong(1), wrong(7));
    let gate = |run_of: &str, more: &[&str]| {
        let arguments = ["report", run_of, "--baseline", &one, "--noise", "floor.json"];
        let (code, shown, said) = run(folder, &[&arguments[..], more].concat());
        (code, flowing(&shown) + &said)
    };
    let (code, said) = gate(&seven, &[]);
    assert!(code == Some(1) && !said.contains("cannot be told from noise"), "{said}");
    let two = wrong(2);
    let (code, said) = gate(&two, &[]);
    assert_eq!(code, Some(1), "{said}");
    let named =
        "1 of 9 answers flip (11.1 %), which cannot be told from noise: 22.2 % [6.3, 54.7] flip with nothing changed";
    assert!(said.contains(named), "{said}");
    let (code, said) = gate(&two, &["--margin", "60"]);
    assert!(code == Some(0) && said.contains(named), "{said}");
}
