//! Nothing lost: whatever commit e113425 wrote (`tests/data/e113425`, made by its `make.sh`) is read by this program, and says
//! what it said there. A table may get columns, blanks and words that it did not have; its figures stay, and their order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use evalsuite::files::sha256;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{evalsuite, text};

const ROWS: [&str; 4] = ["--samples", "0,1,3,7,44,140", "--dtype", "f32,awq"];

fn stored(name: &str) -> PathBuf {
    crate::data("e113425").join(name)
}

fn stored_text(name: &str) -> String {
    fs::read_to_string(stored(name)).unwrap()
}

/// A folder to work in with copies of `names`: reading a run takes its lock, and rescoring writes into it.
fn world(names: &[&str]) -> TempDir {
    let world = tempfile::tempdir().unwrap();
    for name in names {
        copy(&stored(name), &world.path().join(name));
    }
    world
}

pub(crate) fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// On the CPU, as the stored runs were: on a machine with a GPU the default engine is another, whose last bits are its own.
fn program(world: &TempDir, arguments: &[&str]) -> Output {
    evalsuite()
        .env("CUDA_VISIBLE_DEVICES", "")
        .current_dir(world.path())
        .env("HF_HUB_OFFLINE", "1")
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// What a command says that succeeds.
fn said(world: &TempDir, arguments: &[&str]) -> String {
    let output = program(world, arguments);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// Holds every line of figures of an old table against a new one: its words stand in one line there, in their order. The first
/// line is left out, which names the program's version.
#[track_caller]
fn holds_figures(new: &str, old: &str) {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = new.lines().map(words).collect();
    let figures = |line: &&str| line.contains(|c: char| c.is_ascii_digit());
    let mut held = 0;
    for line in old.lines().skip(1).filter(figures) {
        let wanted = words(line);
        let within = |line: &Vec<String>| {
            let mut rest = line.iter();
            wanted.iter().all(|word| rest.any(|other| other == word))
        };
        assert!(lines.iter().any(within), "lost: {line}\nof what e113425 said; now:\n{new}");
        held += 1;
    }
    assert!(held > 5, "a table without figures proves nothing:\n{old}");
}

/// Holds every figure of an old table of an evaluation against a new one, where it may stand in another column: what people come for
/// stands first now. Intervals of differences are left out, which were drawn; `holds_values` holds the rest exactly.
#[track_caller]
fn holds_evaluation(new: &str, old: &str) {
    let figure = |word: &&str| word.contains(|c: char| c.is_ascii_digit()) && !word.contains(['[', ']']);
    let bare = |word: &str| word.trim_matches([',', ';', '.', '(', ')', ':']).to_owned();
    let there: Vec<String> = new.split(|c: char| c.is_whitespace() || c == '-').map(bare).collect();
    let whole: Vec<String> = new.split_whitespace().map(bare).collect();
    let figures: Vec<String> = old.lines().skip(1).flat_map(str::split_whitespace).filter(figure).map(bare).collect();
    assert!(figures.len() > 30, "a table without figures proves nothing:\n{old}");
    for figure in figures {
        assert!(there.contains(&figure) || whole.contains(&figure), "lost: {figure}\nof\n{old}\nnow:\n{new}");
    }
}

/// Holds every key and value of an old document against a new one, which may have more keys.
#[track_caller]
fn holds_values(new: &str, old: &str) {
    fn walk(new: &Value, old: &Value, path: &str) {
        match (new, old) {
            (Value::Object(new), Value::Object(old)) => {
                // When a report was made, by which command and by which version, is its own.
                let own = |key: &str| path.is_empty() && ["made", "command", "evalsuite"].contains(&key);
                // Format 2 of a record: Tango's interval in the place of one that was drawn, and a verdict by it.
                let raised = |key: &str| {
                    ["difference_low", "difference_high"].contains(&key)
                        || path.is_empty() && ["format", "verdict"].contains(&key)
                };
                for (key, value) in old.iter().filter(|(key, _)| !own(key) && !raised(key)) {
                    let Some(found) = new.get(key) else { panic!("{path}.{key} is lost") };
                    walk(found, value, &format!("{path}.{key}"));
                }
            }
            (Value::Array(new), Value::Array(old)) => {
                assert_eq!(new.len(), old.len(), "{path}");
                for (index, (new, old)) in new.iter().zip(old).enumerate() {
                    walk(new, old, &format!("{path}[{index}]"));
                }
            }
            _ => assert_eq!(new, old, "{path}"),
        }
    }
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    walk(&parse(new), &parse(old), "");
}

#[test]
fn e113425_s_run_shows_what_it_showed() {
    let world = world(&["run"]);
    holds_evaluation(&said(&world, &["show", "run"]), &stored_text("run.txt"));
    holds_values(&said(&world, &["show", "run", "--format", "json"]), &stored_text("run.show.json"));
}

#[test]
fn e113425_s_run_and_rows_measured_elsewhere_report_what_they_did() {
    let world = world(&["run", "vs.json"]);
    holds_evaluation(&said(&world, &["report", "run", "--vs", "vs.json"]), &stored_text("report.txt"));
    holds_values(&said(&world, &["report", "run", "--format", "json"]), &stored_text("report.json"));
    // A line a sample and precision: columns may be added, the old ones say the same.
    let rows = |text: &str| -> Vec<BTreeMap<String, String>> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        reader.deserialize().collect::<Result<_, _>>().unwrap()
    };
    let (new, old) = (rows(&said(&world, &["report", "run", "--format", "csv"])), rows(&stored_text("report.csv")));
    assert_eq!((new.len(), old.len()), (12, 12), "six rows in two precisions");
    for (new, old) in new.iter().zip(&old) {
        for (column, value) in old {
            assert_eq!(new.get(column), Some(value), "{column} of {old:?}");
        }
    }
    for (format, part) in [
        ("markdown", "| other-engine 2.1 |"),
        ("html", "other-engine 2.1"),
        ("junit", "<testsuites"),
        ("github", "::notice title=evalsuite::awq is neither shown to be worse than f32"),
    ] {
        let report = said(&world, &["report", "run", "--vs", "vs.json", "--format", format]);
        assert!(report.contains(part), "{format}: {report}");
    }
}

#[test]
fn e113425_s_run_is_a_baseline() {
    let world = world(&["run"]);
    assert!(said(&world, &["report", "run", "--baseline", "run"]).contains("every answer"), "token for token the same");
    // The same answers generated anew pass; what a run is held against is told on stderr, beside its table.
    let new = [&["gsm8k", "--engine", "cpu", "--out", "new", "--baseline", "run"][..], &ROWS].concat();
    let output = program(&world, &new);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    for dtype in ["f32", "awq"] {
        let passed = format!("baseline: {dtype}: every answer is the baseline's, token for token, on 6 questions");
        assert!(told.contains(&passed), "{told}");
    }
}

#[test]
fn e113425_s_run_is_rescored() {
    let world = world(&["run"]);
    // The protocol has another headline since, and a version for it.
    let rescored = stored_text("rescore.txt").replace("direct (version 1)", "direct (version 2)");
    holds_evaluation(&said(&world, &["rescore", "run", "--protocol", "direct"]), &rescored);
    // The one that was rescored then is read as well.
    holds_evaluation(
        &said(&world, &["show", stored("run/rescore-direct.json").to_str().unwrap()]),
        &stored_text("rescore.txt"),
    );
}

#[test]
fn e113425_s_interrupted_run_is_resumed_to_the_same_bytes() {
    let world = world(&["interrupted"]);
    let begun = stored_text("interrupted/f32/journal.jsonl");
    let whole: Vec<&str> = begun.lines().take(2).collect();
    assert!(!begun.ends_with('\n') && begun.lines().count() == 3, "two whole lines and a torn one");
    let resume = [&["gsm8k", "--batch", "1", "--threads", "1", "--out", "interrupted", "--resume"][..], &ROWS].concat();
    said(&world, &resume);
    let read = |name: &str| fs::read_to_string(world.path().join("interrupted").join(name)).unwrap();
    assert_eq!(read("answers.jsonl"), stored_text("run/answers.jsonl"), "as the run that was not interrupted");
    let journal = read("f32/journal.jsonl");
    assert_eq!(journal.lines().take(2).collect::<Vec<_>>(), whole, "what was there stays");
    assert_eq!(journal.lines().count(), 6);
    let record: Value = serde_json::from_str(&read("record.json")).unwrap();
    let sessions = |dtype: usize| record["dtypes"][dtype]["sessions"].as_array().unwrap().len();
    assert_eq!((sessions(0), sessions(1)), (2, 1), "f32 had begun, awq had not");
}

#[test]
fn e113425_s_interrupted_run_knows_its_command() {
    let world = world(&["interrupted"]);
    said(&world, &["resume", "interrupted"]);
    assert_eq!(
        fs::read_to_string(world.path().join("interrupted/answers.jsonl")).unwrap(),
        stored_text("run/answers.jsonl")
    );
}

#[test]
fn e113425_s_quality_records_show_what_they_showed() {
    let world = world(&["quality", "import.json"]);
    holds_figures(&said(&world, &["show", "quality"]), &stored_text("quality.txt"));
    holds_figures(&said(&world, &["show", "import.json"]), &stored_text("import.txt"));
    assert!(said(&world, &["show", "quality", "--format", "html"]).contains("</html>"));
    // Begun then, finished now: everything is there, so that no engine is needed.
    let again = ["quality", "--only", "bread,checksum", "--dtype", "f32,awq", "--out", "quality", "--resume"];
    // Computed anew, the interval takes the checks of one answer together: 4 of 2 answers with 3 and 1 are worth 4 / 2.5.
    holds_figures(&said(&world, &again), &stored_text("quality.txt").replace("[0.0, 49.0]", "[0.0, 70.6]"));
}

#[test]
fn e113425_s_perplexity_record_shows_what_it_showed() {
    let world = world(&["perplexity.json"]);
    holds_figures(&said(&world, &["show", "perplexity.json"]), &stored_text("perplexity.txt"));
}

#[test]
fn e113425_s_bench_record_shows_what_it_showed() {
    let world = world(&["bench.json"]);
    holds_figures(&said(&world, &["show", "bench.json"]), &stored_text("bench.txt"));
}

#[test]
fn e113425_s_workloads_and_peers_are_taken_by_bench() {
    let world = world(&["run", "workload.json", "peers.json", "bench.json"]);
    let bench = |arguments: &[&str]| {
        let all = [&["bench", "--engine", "cpu", "--dtype", "f32,awq", "--repeats", "1"][..], arguments].concat();
        said(&world, &all)
    };
    let table = bench(&["--only", "workload", "--workload", "workload.json"]);
    assert!(table.contains("three lengths: 3 requests, 112 prompt and 18 output tokens"), "{table}");
    // The lengths of a stored run: its first precision's.
    let answers = stored_text("run/answers.jsonl");
    let answers = answers.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let f32: Vec<Value> = answers.filter(|answer| answer["dtype"] == "f32").collect();
    let prompts: u64 = f32.iter().map(|answer| answer["prompt_tokens"].as_u64().unwrap()).sum();
    let outputs: usize = f32.iter().map(|answer| answer["token_ids"].as_array().unwrap().len()).sum();
    let table = bench(&["--only", "workload", "--workload", "run"]);
    assert!(table.contains(&format!("6 requests, {prompts} prompt and {outputs} output tokens")), "{table}");
    let table = bench(&["--only", "load,single", "--vs", "peers.json"]);
    let row = |engine: &str, figures: &[&str]| {
        let is_row = |line: &&str| line.contains(engine) && figures.iter().all(|figure| line.contains(figure));
        assert!(table.lines().any(|line| is_row(&line)), "{engine} {figures:?}:\n{table}");
    };
    row("other-engine 2.1", &["1.25", "1.31"]);
    row("other-engine 2.1", &["6.13", "653"]);
    row("other-engine 2.1", &["2.57"]);
    assert!(table.contains("a machine of this example; 2026-11-30"), "{table}");
    // A record of e113425 stands beside what is measured now.
    let loads = bench(&["--only", "load", "--vs", "bench.json"]);
    for dtype in ["f32", "awq"] {
        let theirs = loads.lines().filter(|line| line.starts_with(dtype) && line.contains("evalsuite cpu 0.1"));
        assert_eq!(theirs.count(), 1, "{dtype} of the record:\n{loads}");
    }
}

#[test]
fn e113425_s_golden_files_hold_in_every_tier() {
    let world = world(&["golden"]);
    // The extractor `numeric` has got a version since: a rule that changed is red even where no output does.
    let output = program(&world, &["golden", "check"]);
    let checked = text(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{checked}");
    for line in [
        "changed   gsm8k bundled f32: rule numeric of protocol stepwise changed; no output of 3 differs",
        "changed   gsm8k bundled awq: rule numeric of protocol stepwise changed; no output of 3 differs",
        "was the extractor numeric, is the extractor numeric, version 2",
        "ok        quality bundled f32: 2 outputs, tier answer",
        "ok        quality bundled awq: 2 outputs, tier answer",
        "golden: 2 of 4 do not hold: gsm8k bundled f32, gsm8k bundled awq",
    ] {
        assert!(checked.contains(line), "{line}:\n{checked}");
    }
    let listed = said(&world, &["golden", "list"]);
    for line in ["gsm8k bundled f32: 3 outputs, tier tokens", "gsm8k bundled awq: 3 outputs, tier statistical"] {
        assert!(listed.contains(line), "{line}:\n{listed}");
    }
    assert_eq!(listed.lines().filter(|line| line.starts_with("ok")).count(), 2, "{listed}");
    // Taking the same outputs anew changes none of them.
    said(&world, &["golden", "accept", "--suite", "gsm8k", "--dtype", "f32"]);
    let file = "golden/gsm8k/bundled/f32.json";
    let golden = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let anew = golden(&fs::read_to_string(world.path().join(file)).unwrap());
    let raised = ("\"the extractor numeric\"", "\"the extractor numeric, version 2\"");
    let old = golden(&stored_text(file).replace(raised.0, raised.1));
    assert_eq!(anew["outputs"].as_array().unwrap().len(), 3);
    for part in ["suite", "model", "dtype", "tier", "recipe", "inputs", "outputs"] {
        holds_values(&anew[part].to_string(), &old[part].to_string());
    }
}

#[test]
fn e113425_s_run_becomes_golden_and_is_held() {
    let world = world(&["run"]);
    said(&world, &["golden", "accept", "--run", "run"]);
    let held = said(&world, &["golden", "check", "--run", "run"]);
    assert!(held.contains("golden: all 2 hold"), "{held}");
    let held = said(&world, &["golden", "check", "--suite", "gsm8k"]);
    assert!(held.contains("golden: all 2 hold"), "generated anew: {held}");
}

/// SHA-256 of golden files of commit e113425 (`git show e113425:NAME | sha256sum`); the bundled model was another then.
const COMMITTED: [(&str, &str); 2] = [
    ("quality/SmolLM2-135M-Instruct.Q4_1/f16.json", "403c5883b5b5bd4a9d904eb75e27b155f148d65ad18ea5393592814e7186f805"),
    ("quality/SmolLM2-135M-Instruct.Q4_1/f32.json", "c16b61e647f9a33b6fc23e7e8ef5488d47639bc19fbe31ac6c7cc58b79a4733e"),
];

#[test]
fn committed_golden_files_are_those_of_e113425() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for (name, hash) in COMMITTED {
        assert_eq!(sha256(&fs::read(golden.join(name)).unwrap()), hash, "golden/{name} has changed");
    }
}

/// The answers of `evalsuite gsm8k`, as commit e113425 gives them with the present bundled model, problems and prompt in place of its
/// own (`tests/data/e113425/README.md`), in every precision.
const DEFAULT_ANSWERS: &str = "865e1cf957bd4ef8c27165bb6aff168d1300be10c26a3950683a102229228a7c";

#[test]
fn the_default_run_gives_the_answers_of_e113425() {
    let world = world(&[]);
    said(&world, &["gsm8k", "--out", "run"]);
    let answers = fs::read_to_string(world.path().join("run/answers.jsonl")).unwrap();
    assert_eq!(answers.lines().count(), 4 * 240);
    assert_eq!(sha256(answers.as_bytes()), DEFAULT_ANSWERS);
    let record: Value = serde_json::from_slice(&fs::read(world.path().join("run/record.json")).unwrap()).unwrap();
    assert_eq!(record["answers_sha256"], DEFAULT_ANSWERS);
}

/// Of each kind of record that version 0.2.0 writes, one.
#[test]
fn what_0_2_0_wrote_is_shown_and_reported() {
    let names = ["run", "quality", "perplexity.json", "bench.json", "load.json", "determinism.json", "blame.json"];
    let world = tempfile::tempdir().unwrap();
    for name in names {
        copy(&crate::data("v0.2.0").join(name), &world.path().join(name));
        let shown: Value = serde_json::from_str(&said(&world, &["show", name, "--format", "json"])).unwrap();
        assert!(shown.as_object().is_some_and(|shown| shown.len() > 3), "{name}: {shown}");
        assert!(said(&world, &["report", name]).lines().count() > 3, "{name}");
    }
    let whole = fs::read_to_string(world.path().join("run/answers.jsonl")).unwrap();
    assert!(said(&world, &["rescore", "run", "--protocol", "direct"]).contains("numeric"));
    // What it was in the middle of is gone on with.
    let journal = world.path().join("run/f32/journal.jsonl");
    let begun = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, begun.lines().next().unwrap().to_owned() + "\n").unwrap();
    fs::remove_file(world.path().join("run/record.json")).unwrap();
    said(&world, &["resume", "run"]);
    assert_eq!(fs::read_to_string(world.path().join("run/answers.jsonl")).unwrap(), whole);
}
