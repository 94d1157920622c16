//! Runs of tasks: what the run folder keeps of a task, and what `eval` makes of it from the command line.

use std::path::{Path, PathBuf};

use evalsuite::compare::{Comparison, Gate, Limits};
use evalsuite::golden::{RecipeSource, Store};
use evalsuite::hub::Hub;
use evalsuite::jobs::eval::{EvalInputs, EvalJob, EvalRecord, StoredRun, render, rescore, show_prompt};
use evalsuite::report::Format;
use evalsuite::task::{ChatUse, Dataset, DatasetSpec, Fewshot, Protocol, Task};
use serde_json::Value;

use crate::program::{evalsuite, text};
use crate::scripted::{evaluate, inputs, job, model};

const TASK: &str = r#"
title = "Tens"
description = "sums of the script"
licence = "our own"
protocol = "gsm8k-cot-zeroshot"
[source]
dataset = "rows.csv"
[columns]
question = "ask"
answer = "sum"
cluster = "page"
[reference]
rule = "whole"
type = "number"
not_a_number = "leave out"
"#;
/// The script answers `n + 100` and a 0: the first is right, the second no number, the third wrong, the fourth right.
const ROWS: &str = "page,ask,sum\n1,5 and some?,1050.0\n1,6 and some?,ten\n2,7 and some?,3\n2,8 and some?,\"1,080\"\n";

/// A folder with a task's file and its rows; both paths.
fn task_files() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (task, rows) = (folder.path().join("tens.toml"), folder.path().join("rows.csv"));
    std::fs::write(&task, TASK).unwrap();
    std::fs::write(&rows, ROWS).unwrap();
    (folder, task, rows)
}

/// A scripted job of the task, with what it reads.
fn task_job(task: &Path, rows: &Path, system: Option<&str>, out: PathBuf) -> (EvalJob, EvalInputs) {
    let task = Task::read(task, None).unwrap();
    let spec = DatasetSpec::of(&task, rows.to_str(), None);
    let dataset = Dataset::open_as(&task, &spec, &Hub::from_environment(true).unwrap(), |_| true).unwrap();
    let mut protocol = Protocol::open(&task.protocol).unwrap();
    protocol.chat = ChatUse::Never;
    protocol.system = system.map(str::to_owned);
    let inputs =
        EvalInputs::new(model(None), task.clone(), dataset, protocol, (Fewshot::None, None)).expect("they are sound");
    (EvalJob { task, dataset: spec, system: system.map(str::to_owned), ..job(out) }, inputs)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_run_keeps_its_task_and_counts_rows_that_cannot_be_scored_apart() {
    let (folder, task, rows) = task_files();
    let (job, inputs) = task_job(&task, &rows, None, folder.path().join("run"));
    let finished = evaluate(&job, &inputs).unwrap();
    let (record, report) = finished.results.unwrap();
    let planned = record.plan.task.clone().unwrap();
    assert_eq!((planned.name.as_str(), planned.title.as_str()), ("tens", "Tens"));
    assert_eq!((planned.file, planned.sha256), (task.to_str().map(str::to_owned), job.task.sha256.clone()));
    assert_eq!((record.plan.dataset.rows, record.plan.dataset.left_out, record.plan.dataset.chosen), (4, Some(1), 3));
    assert!(record.notes.iter().any(|note| note.contains("1 of 4 rows are left out")), "{:?}", record.notes);
    let numeric = record.dtypes[0].rules.iter().find(|rule| rule.rule == "numeric").unwrap();
    assert_eq!((record.dtypes[0].n, numeric.accuracy.unwrap().successes), (3, 2));
    assert!(report.starts_with("Tens: "), "{report}");
    let words = crate::program::flowing(&report);
    assert!(
        words.contains("problems Tens: rows.csv, split test: 3 of 4 rows; 1 without a number are left out"),
        "{report}"
    );
    assert!(render(&record, &Format::Markdown).unwrap().starts_with("# Tens: scripted"));

    let samples = std::fs::read_to_string(finished.folder.join("samples.jsonl")).unwrap();
    let samples: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let field = |name: &str| samples.iter().map(|sample| sample[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("sample"), [0, 2, 3]);
    assert_eq!(field("cluster"), ["1", "2", "2"]);
    assert_eq!(field("answer"), ["1050.0", "3", "1,080"]);
    assert_eq!(field("reference"), [Value::from("1050"), Value::Null, Value::from("1080")]);

    // Rescoring reads the same task, and only the same.
    let hub = Hub::from_environment(true).unwrap();
    let again = rescore(&finished.folder, "gsm8k-cot-zeroshot", &hub, None).unwrap().record;
    assert_eq!(again.dtypes[0].rules, record.dtypes[0].rules);
    assert_eq!(EvalRecord::read(&finished.folder.join("record.json")).unwrap(), record);
    std::fs::write(&task, TASK.replace("\"Tens\"", "\"Others\"")).unwrap();
    let message = rescore(&finished.folder, "gsm8k-cot-zeroshot", &hub, None).unwrap_err().to_string();
    assert!(message.contains("the task tens has changed since the run") && message.contains("\nhint: "), "{message}");
}

#[test]
fn a_run_of_gsm8k_looks_as_it_did_before_there_were_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let finished = evaluate(&job(folder.path().join("run")), &inputs()).unwrap();
    let plan = json(&finished.folder.join("plan.json"));
    assert!(plan.get("task").is_none() && plan["protocol"].get("system").is_none(), "{plan}");
    assert!(plan["dataset"].get("left_out").is_none(), "{plan}");
    let samples = std::fs::read_to_string(finished.folder.join("samples.jsonl")).unwrap();
    let first: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    let keys: Vec<&String> = first.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["sample", "question", "answer", "prompt", "crc32"]);
    assert!(finished.results.unwrap().1.starts_with("GSM8K: "));
}

#[test]
fn a_run_goes_on_under_the_same_task_and_system_message_alone() {
    let (folder, task, rows) = task_files();
    let out = folder.path().join("run");
    let (begun, inputs) = task_job(&task, &rows, Some("Be brief."), out.clone());
    let finished = evaluate(&begun, &inputs).unwrap();
    assert_eq!(finished.results.unwrap().0.plan.protocol.system.as_deref(), Some("Be brief."));
    let samples = std::fs::read_to_string(out.join("samples.jsonl")).unwrap();
    assert!(samples.contains("\"prompt\":\"Be brief.\\n\\nQ: 5 and some?"), "{samples}");
    evaluate(&EvalJob { resume: true, ..begun }, &inputs).unwrap();
    let (other, inputs) = task_job(&task, &rows, None, out.clone());
    let message = evaluate(&EvalJob { resume: true, ..other }, &inputs).unwrap_err().to_string();
    assert!(message.contains("protocol.system: was Be brief., is none"), "{message}");
    std::fs::write(&task, TASK.replace("\"our own\"", "\"MIT\"")).unwrap();
    let (other, inputs) = task_job(&task, &rows, Some("Be brief."), out);
    let message = evaluate(&EvalJob { resume: true, ..other }, &inputs).unwrap_err().to_string();
    assert!(message.contains("task.sha256: was "), "{message}");
}

#[test]
fn runs_of_two_tasks_on_the_same_rows_are_held_against_each_other_by_nothing() {
    let (folder, task, rows) = task_files();
    let run = |out: &str| {
        let (job, inputs) = task_job(&task, &rows, None, folder.path().join(out));
        StoredRun::read(&evaluate(&job, &inputs).unwrap().folder).unwrap()
    };
    let (first, same) = (run("first"), run("same"));
    std::fs::write(&task, TASK.replace("title = \"Tens\"", "title = \"Others\"")).unwrap();
    let other = run("other");
    assert!(Gate::new(std::slice::from_ref(&same), &first, Limits::default()).unwrap().passed);
    let message = Gate::new(std::slice::from_ref(&other), &first, Limits::default()).unwrap_err().to_string();
    assert!(message.contains("its task is Others, the baseline's Tens") && message.contains("\nhint: "), "{message}");
    // Their f16 columns have a reference of their own each, and none has the other's.
    let command = vec!["evalsuite".to_owned()];
    let pairs = |runs: &[StoredRun]| Comparison::new(runs, Vec::new(), None, command.clone()).pairs.len();
    let alone = pairs(std::slice::from_ref(&first));
    assert_eq!(pairs(&[first.clone(), other]), 2 * alone);
    assert!(pairs(&[first, same]) > 2 * alone);
}

#[test]
fn a_prompt_of_a_task_is_shown_with_its_reference_value() {
    let (folder, task, rows) = task_files();
    let (job, inputs) = task_job(&task, &rows, None, folder.path().join("run"));
    let shown = show_prompt(&inputs, &job, 0).unwrap().to_string();
    assert!(shown.contains("reference answer: \"1050.0\"\nreference value: \"1050\"\n"), "{shown}");
    let message = show_prompt(&inputs, &job, 1).unwrap_err().to_string();
    assert!(message.contains("sample 1 is left out"), "{message}");
}

fn output_of(folder: &Path, words: &[&str]) -> (i32, String, String) {
    let output = evalsuite().current_dir(folder).args(words).output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn eval_runs_a_task_of_ones_own_and_gsm8k_is_eval_gsm8k() {
    let (folder, ..) = task_files();
    let short = ["--dtype", "f32", "--engine", "cpu", "--max-tokens", "4", "--limit", "2", "--threads", "2"];
    let eval = |words: &[&str]| output_of(folder.path(), &[words, &short[..]].concat());
    let (code, stdout, stderr) =
        eval(&["eval", "--task", "tens.toml", "--protocol", "direct", "--system", "Be brief."]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("Tens: ") && stderr.contains("note: 1 of 4 rows are left out"), "{stdout}{stderr}");
    let runs = |part: &str| {
        let mut found: Vec<PathBuf> =
            std::fs::read_dir(folder.path().join("runs")).unwrap().map(|e| e.unwrap().path()).collect();
        found.retain(|path| path.to_string_lossy().ends_with(part));
        found
    };
    let [run] = &runs("-bundled-tens-direct")[..] else { panic!("{:?}", runs("")) };
    assert_eq!(json(&run.join("plan.json"))["task"]["title"], "Tens");
    assert_eq!(json(&run.join("plan.json"))["protocol"]["system"], "Be brief.");
    // Golden files know gsm8k and quality.
    let message = evalsuite::golden::candidates(
        run,
        evalsuite::golden::Origin { recipe: RecipeSource::Command(&[]), protocol: None },
    );
    assert!(message.unwrap_err().to_string().contains("is a run of the task tens"));
    assert!(Store::new(&folder.path().join("golden")).entries().unwrap().is_empty());

    let mut plans = [&["gsm8k"][..], &["eval", "gsm8k"]].map(|words| {
        let (code, stdout, stderr) = eval(&[words, &["--out", words[0]]].concat());
        assert!(code == 0 && stdout.starts_with("GSM8K: "), "{stderr}");
        let mut plan = json(&folder.path().join(words[0]).join("plan.json"));
        plan["started"] = Value::Null;
        plan["crc32"] = Value::Null;
        plan
    });
    assert_eq!(plans[1]["command"][1], "eval");
    for plan in &mut plans {
        plan["command"] = Value::Null;
    }
    assert_eq!(plans[0], plans[1]);
    let answers = ["gsm8k", "eval"].map(|run| std::fs::read(folder.path().join(run).join("answers.jsonl")).unwrap());
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn what_eval_is_told_of_a_task_is_checked() {
    let (folder, ..) = task_files();
    let mistake = |words: &[&str]| {
        let (code, stdout, stderr) = output_of(folder.path(), words);
        assert!(code == 2 && stdout.is_empty() && stderr.contains("hint: "), "{words:?}: {code} {stdout} {stderr}");
        stderr
    };
    assert!(mistake(&["eval"]).contains("TASK"));
    assert!(mistake(&["eval", "svmap"]).contains("did you mean `svamp`"));
    assert!(mistake(&["eval", "mgsm"]).contains("mgsm-bn"));
    assert!(mistake(&["eval", "--task", "none.toml"]).contains("cannot read the task file none.toml"));
    assert!(mistake(&["eval", "svamp", "--task", "tens.toml"]).contains("is not the task of"));
    assert!(mistake(&["eval", "svamp", "--dataset", "rows.csv"]).contains("has no column `Body`"));
}
