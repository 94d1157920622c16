//! `evalsuite score`: completions made elsewhere become a run like any other.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{evalsuite, text};

/// What stands on stdout and on stderr of a command that ends with `code`.
fn says(folder: &Path, code: i32, arguments: &str) -> (String, String) {
    let mut command = evalsuite();
    command.current_dir(folder).env("HF_HUB_OFFLINE", "1").args(arguments.split_whitespace());
    let output = command.output().expect("the program starts");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments}: {out}{err}");
    (out, err)
}

fn json_of(folder: &Path, arguments: &str) -> Value {
    serde_json::from_str(&says(folder, 0, arguments).0).unwrap()
}

/// `base` is right on the first `right` of twelve questions, `small` on two less; the reference is a GSM8K answer or a value.
fn completions(folder: &Path, name: &str, right: usize) {
    let line = |variant: &str, n: usize, right: usize| {
        let said = if n < right { n * 10 } else { 7 };
        let mut row = json!({
            "id": format!("q{n}"), "question": format!("What is {n} times 10?"), "variant": variant,
            "completion": format!("Ten times {n}.\nThe answer is {said}."),
        });
        let (key, value) = if n.is_multiple_of(2) {
            ("answer", json!(format!("Work.\n#### {}", n * 10)))
        } else {
            ("reference", json!(n * 10))
        };
        row[key] = value;
        row.to_string() + "\n"
    };
    let rows = |variant: &'static str, right: usize| (0..12).map(move |n| line(variant, n, right));
    fs::write(folder.join(name), rows("base", right).chain(rows("small", right - 2)).collect::<String>()).unwrap();
}

fn world() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    completions(folder.path(), "both.jsonl", 10);
    folder
}

const SCORE: &str = "score both.jsonl --protocol gsm8k-cot-zeroshot";

fn accuracies(record: &Value, rule: &str) -> Vec<(String, u64, u64)> {
    let dtypes = record["dtypes"].as_array().unwrap();
    let of = |dtype: &Value| {
        let rules = dtype["rules"].as_array().unwrap();
        let rule = rules.iter().find(|one| one["rule"] == rule).unwrap_or_else(|| panic!("{rule}: {rules:?}"));
        let right = rule["accuracy"]["successes"].as_u64().unwrap();
        (dtype["dtype"].as_str().unwrap().to_owned(), right, rule["extracted"].as_u64().unwrap())
    };
    dtypes.iter().map(of).collect()
}

#[test]
fn completions_made_elsewhere_are_scored_by_every_rule_and_row() {
    let world = world();
    let scored = json_of(world.path(), &format!("{SCORE} --model other/model --out run --format json"));
    assert_eq!((&scored["kind"], &scored["format"], &scored["folder"]), (&json!("score"), &json!(1), &json!("run")));
    for rule in ["strict", "flexible"] {
        let expected = [("base".to_owned(), 10, 12), ("small".to_owned(), 8, 12)];
        assert_eq!(accuracies(&scored["record"], rule), expected, "{rule}");
    }
    let rows = scored["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 24);
    let row = rows.iter().find(|row| row["variant"] == "small" && row["id"] == "q9").unwrap();
    assert_eq!((&row["sample"], &row["repeat"], &row["reference"]), (&json!(9), &json!(0), &json!("90")));
    let strict = row["scores"].as_array().unwrap().iter().find(|score| score["rule"] == "strict").unwrap();
    assert_eq!((&strict["value"], &strict["correct"]), (&json!("7"), &json!(false)));
    let span = strict["span"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap() as usize).collect::<Vec<_>>();
    let completion = "Ten times 9.\nThe answer is 7.";
    assert!(completion[span[0]..span[1]].contains('7'), "{span:?}");
    // Nothing that was not measured is a number.
    let base = &scored["record"]["dtypes"][0];
    for figure in ["output_tokens", "prompt_tokens", "generate_seconds", "output_tokens_per_second", "load_seconds"] {
        assert_eq!(base[figure], Value::Null, "{figure}");
    }
    assert_eq!((&base["peak_memory"], &base["sessions"]), (&Value::Null, &json!([])));
    assert_eq!(scored["record"]["plan"]["model"]["name"], "other/model");
}

#[test]
fn scored_completions_are_a_run_like_any_other() {
    let world = world();
    let (table, err) = says(world.path(), 0, &format!("{SCORE} --out run"));
    assert!(err.contains("made elsewhere") && err.contains("run folder: run"), "{err}");
    assert!(table.contains("n/a") && table.contains("the rules of gsm8k-cot-zeroshot"), "{table}");
    assert!(!table.contains("at most 0 tokens") && !table.contains("greedy"), "{table}");
    assert_eq!(says(world.path(), 0, "show run").0, table);
    assert_eq!(says(world.path(), 0, "resume run").0, table);

    let report = json_of(world.path(), "report run --format json");
    assert_eq!(report["rows"][1]["reference"], 0, "the first variant is the reference");
    assert_eq!((&report["pairs"][0]["lost"], &report["pairs"][0]["gained"]), (&json!(2), &json!(0)));
    assert_eq!((&report["rows"][0]["cut"], &report["rows"][0]["tokens_per_second"]), (&Value::Null, &Value::Null));
    for format in ["terminal", "markdown", "html", "csv", "junit", "github"] {
        assert!(!says(world.path(), 0, &format!("report run --format {format}")).0.is_empty(), "{format}");
    }
    let csv = says(world.path(), 0, "report run --format csv").0;
    assert!(csv.lines().nth(1).unwrap().contains("unknown"), "{csv}");

    // The same questions answered worse fail the gate; speed cannot pass one.
    completions(world.path(), "both.jsonl", 4);
    says(world.path(), 0, &format!("{SCORE} --out worse"));
    // By their texts, for their tokens are not known.
    let out = says(world.path(), 0, "report run --baseline run").0;
    assert!(out.contains("every answer is the baseline's, text for text, on 12 questions"), "{out}");
    let (_, err) = says(world.path(), 1, "report worse --baseline run");
    assert!(err.contains("6 lost, 0 gained"), "{err}");
    says(world.path(), 1, "report run --baseline run --min-speed-ratio 0.5");

    // Other rules make another run of it, from the folder alone.
    fs::remove_file(world.path().join("both.jsonl")).unwrap();
    let (out, err) = says(world.path(), 0, "rescore run --protocol direct --format json");
    assert!(err.contains("completions made elsewhere, scored by the rules of direct"), "{err}");
    let record: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(accuracies(&record, "numeric"), [("base".to_owned(), 10, 12), ("small".to_owned(), 8, 12)]);
    assert_eq!(record["generated_under"], Value::Null);
    says(world.path(), 0, "report run-rescored-direct");

    // What nothing here can make again is no golden file, and nothing is resumed.
    let (_, err) = says(world.path(), 2, "golden accept --run run --golden kept");
    assert!(err.contains("made elsewhere"), "{err}");
    fs::remove_file(world.path().join("run/record.json")).unwrap();
    let (_, err) = says(world.path(), 2, "resume run");
    assert!(err.contains("made elsewhere: there is nothing to run"), "{err}");
}

#[test]
fn a_file_that_lacks_completions_says_so_and_bad_ones_are_refused() {
    let world = world();
    let text = fs::read_to_string(world.path().join("both.jsonl")).unwrap();
    let short: String = text.split_inclusive('\n').take(23).collect();
    fs::write(world.path().join("short.jsonl"), &short).unwrap();
    let (_, err) = says(world.path(), 0, "score short.jsonl --protocol direct --out short");
    assert!(err.contains("small has 11 of 12 completions"), "{err}");
    let (_, err) = says(world.path(), 2, "resume short");
    assert!(err.contains("made elsewhere"), "{err}");

    fs::write(world.path().join("bad.jsonl"), text.replacen("\"completion\"", "\"completon\"", 1)).unwrap();
    let (_, err) = says(world.path(), 2, "score bad.jsonl --protocol direct --out bad");
    assert!(err.contains("bad.jsonl:1: `completion` is missing") && err.contains("hint: "), "{err}");
    assert!(!world.path().join("bad").exists(), "nothing is left of what was refused");
    let (_, err) = says(world.path(), 2, "score none.jsonl --protocol direct");
    assert!(err.contains("cannot read the completions in none.jsonl"), "{err}");
    let (_, err) = says(world.path(), 2, &format!("{SCORE} --reference f23"));
    assert!(err.contains("--reference f23: the file has no such variant"), "{err}");
    let (_, err) = says(world.path(), 2, "score both.jsonl --protocol drect");
    assert!(err.contains("did you mean `direct`"), "{err}");
}

#[test]
fn the_reference_is_f32_the_first_or_the_one_that_is_named() {
    let world = world();
    let reference = |flags: &str, out: &str| {
        says(world.path(), 0, &format!("{SCORE} {flags} --out {out}"));
        json_of(world.path(), &format!("report {out} --format json"))["reference"].clone()
    };
    assert_eq!(reference("", "a"), "base");
    assert_eq!(reference("--reference small", "b"), "small");
    let text = fs::read_to_string(world.path().join("both.jsonl")).unwrap();
    fs::write(world.path().join("both.jsonl"), text.replace("\"small\"", "\"f32\"")).unwrap();
    assert_eq!(reference("", "c"), "f32");
}

#[test]
fn an_id_that_comes_again_is_a_repeat_of_its_question() {
    let world = tempfile::tempdir().unwrap();
    let row = |id: usize, said: usize| {
        json!({"id": id, "question": format!("What is {id}?"), "reference": id, "completion": format!("The answer is {said}.")})
            .to_string()
            + "\n"
    };
    let rows: String = (0..4).flat_map(|id| [row(id, id), row(id, 9)]).collect();
    fs::write(world.path().join("both.jsonl"), rows).unwrap();
    let scored = json_of(world.path(), &format!("{SCORE} --out run --format json"));
    assert_eq!(scored["record"]["plan"]["generation"]["repeats"], 2);
    assert_eq!(scored["record"]["plan"]["dataset"]["chosen"], 4);
    assert_eq!((&scored["record"]["complete"], &scored["record"]["dtypes"][0]["n"]), (&json!(true), &json!(8)));
    assert_eq!(accuracies(&scored["record"], "strict"), [("completions".to_owned(), 4, 8)]);
    let repeats: Vec<u64> =
        scored["rows"].as_array().unwrap().iter().map(|row| row["repeat"].as_u64().unwrap()).collect();
    assert_eq!(repeats, [0, 1, 0, 1, 0, 1, 0, 1]);
}

#[test]
fn another_rule_may_decide_and_a_misspelt_one_is_named() {
    let world = world();
    let record =
        |flags: &str| json_of(world.path(), &format!("{SCORE} {flags} --format json"))["record"]["headline"].clone();
    assert_eq!(record("--out a"), "strict");
    assert_eq!(record("--out b --rule numeric"), "numeric");
    let (_, said) = says(world.path(), 2, &format!("{SCORE} --out c --rule strct"));
    assert!(said.contains("unknown rule `strct`") && said.contains("did you mean `strict`"), "{said}");
    assert!(!world.path().join("c").exists());
}

/// A reference in words made every answer wrong, and nothing said why.
#[test]
fn references_that_no_number_can_equal_are_noted() {
    let world = world();
    let row = |reference: &str| {
        format!("{{\"question\": \"q {reference}\", \"reference\": \"{reference}\", \"completion\": \"It is 5.\"}}\n")
    };
    fs::write(world.path().join("both.jsonl"), [row("5"), row("five"), row("V"), row("1/2")].concat()).unwrap();
    let (_, said) = says(world.path(), 0, &format!("{SCORE} --rule numeric --out a"));
    let wanted =
        "2 of 4 references are no number to the rule numeric, the first \"five\": no answer to them can be right";
    assert!(said.contains(wanted), "{said}");
    fs::write(world.path().join("both.jsonl"), row("5")).unwrap();
    assert!(!says(world.path(), 0, &format!("{SCORE} --rule numeric --out b")).1.contains("no number to the rule"));
}

/// A disk that was full left a folder behind that refused the command once there was room.
#[test]
fn a_scoring_that_found_no_room_leaves_nothing_in_the_way() {
    let world = world();
    let row = |id: usize| {
        format!("{{\"question\": \"question {id}\", \"reference\": \"4\", \"completion\": \"It is 4.\"}}\n")
    };
    fs::write(world.path().join("both.jsonl"), (0..400).map(row).collect::<String>()).unwrap();
    // Files of at most 8 kB: plan and samples begin, and something after them finds no room.
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$@\"";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_evalsuite")]).args(SCORE.split(' ')).args(["--out", "run"]);
    let output = shell.current_dir(world.path()).output().expect("sh starts");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("cannot write") && said.contains("raise `ulimit -f`") && !said.contains("full"), "{said}");
    assert!(!world.path().join("run").exists());
    says(world.path(), 0, &format!("{SCORE} --out run"));
}
