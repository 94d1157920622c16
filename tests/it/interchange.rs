//! Runs in other tools' formats, and theirs as runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{evalsuite, mistake, text};
use crate::serve_clients::{python_with, run};

/// What stands on stdout and on stderr of a command that ends well.
fn says(folder: &Path, arguments: &str) -> (String, String) {
    let output =
        evalsuite().current_dir(folder).args(arguments.split_whitespace()).output().expect("the program starts");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments}: {out}{err}");
    (out, err)
}

fn refused(folder: &Path, arguments: &str) -> String {
    mistake(&evalsuite().current_dir(folder).args(arguments.split_whitespace()).output().unwrap())
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A run of two variants, `greedy`, and one of repeats, `sampled`.
static WORLD: LazyLock<TempDir> = LazyLock::new(|| {
    let world = tempfile::tempdir().unwrap();
    let common = "gsm8k --engine cpu --dtype f32,awq --quiet";
    says(world.path(), &format!("{common} --limit 24 --out greedy"));
    says(world.path(), &format!("{common} --limit 5 --repeats 3 --temperature 0.9 --out sampled"));
    world
});

/// Right answers of n by variant and rule, as the run's record has them.
fn accuracies(run: &Path) -> Vec<(String, String, u64, u64)> {
    let record = read(&run.join("record.json"));
    let mut all = Vec::new();
    for dtype in record["dtypes"].as_array().unwrap() {
        for rule in dtype["rules"].as_array().unwrap() {
            let accuracy = &rule["accuracy"];
            let words = [&dtype["dtype"], &rule["rule"]].map(|word| word.as_str().unwrap().to_owned());
            let [variant, rule] = words;
            all.push((variant, rule, accuracy["successes"].as_u64().unwrap(), accuracy["n"].as_u64().unwrap()));
        }
    }
    all
}

fn exported(run: &str, format: &str) -> (TempDir, PathBuf) {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("there");
    let run = WORLD.path().join(run).display().to_string();
    let err = says(out.path(), &format!("export {run} --format {format} --out {}", path.display())).1;
    assert!(err.contains("written: "), "{err}");
    (out, path)
}

#[test]
fn json_lines_have_every_answer_with_its_question_and_scores() {
    for run in ["greedy", "sampled"] {
        let folder = WORLD.path().join(run);
        let lines = says(WORLD.path(), &format!("export {run}")).0;
        let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let answers: Vec<Value> = fs::read_to_string(folder.join("answers.jsonl"))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(rows.len(), answers.len());
        for (row, answer) in rows.iter().zip(&answers) {
            for (own, theirs) in [("variant", "dtype"), ("sample", "sample"), ("repeat", "repeat"), ("text", "text")] {
                assert_eq!(row[own], answer[theirs], "{own}");
            }
            assert_eq!((&row["token_ids"], &row["finish"]), (&answer["token_ids"], &answer["finish"]));
            for score in answer["scores"].as_array().unwrap() {
                let own = &row["scores"][score["rule"].as_str().unwrap()];
                assert_eq!(
                    (&own["value"], &own["span"], &own["correct"]),
                    (&score["value"], &score["span"], &score["correct"])
                );
            }
            let whole = row["answer"].as_str().unwrap();
            assert!(whole.ends_with(&format!("#### {}", row["reference"].as_str().unwrap())), "{row}");
            assert!(row["prompt"].as_str().unwrap().contains(row["question"].as_str().unwrap()));
            assert!(row["total_seconds"].as_f64().unwrap() > 0.0);
        }
        let document: Value =
            serde_json::from_str(&says(WORLD.path(), &format!("export {run} --format json")).0).unwrap();
        assert_eq!((&document["kind"], &document["format"]), (&json!("export"), &json!(1)));
        assert_eq!(document["answers"], json!(rows));
    }
    // In a file they are the same, each line whole.
    let (_out, path) = exported("greedy", "jsonl");
    assert_eq!(fs::read_to_string(path).unwrap(), says(WORLD.path(), "export greedy").0);
}

fn cell(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Str(text) => json!(text),
        Field::Long(number) => json!(number),
        Field::Int(number) => json!(number),
        Field::Double(number) => json!(number),
        Field::Bool(flag) => json!(flag),
        Field::ListInternal(list) => list.elements().iter().map(cell).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn parquet_has_the_same_in_columns() {
    let lines = says(WORLD.path(), "export sampled").0;
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (_out, path) = exported("sampled", "parquet");
    let file = SerializedFileReader::new(Bytes::from(fs::read(path).unwrap())).unwrap();
    let read: Vec<_> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!((read.len(), rows.len()), (30, 30));
    for (read, row) in read.iter().zip(&rows) {
        let mut columns = read.get_column_iter().map(|(name, field)| (name.as_str(), cell(field)));
        for (name, value) in row.as_object().unwrap().iter().filter(|(name, _)| *name != "scores") {
            assert_eq!(columns.next(), Some((name.as_str(), value.clone())));
        }
        for (rule, score) in row["scores"].as_object().unwrap() {
            for field in ["value", "correct"] {
                assert_eq!(columns.next(), Some((format!("{rule}_{field}").as_str(), score[field].clone())));
            }
        }
        assert_eq!(columns.next(), None);
    }
}

/// The accuracies that a tool told, of a variant whose folder or file's name has `_VARIANT.` or ends in `-VARIANT`.
fn assert_told(told: &str, run: &str) {
    let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    for (variant, rule, right, n) in accuracies(&WORLD.path().join(run)) {
        let is_own = |name: &str| name.ends_with(&format!("-{variant}")) || name.contains(&format!("_{variant}."));
        let (_, own) = told.as_object().unwrap().iter().find(|(name, _)| is_own(name)).unwrap();
        let accuracy = own[&rule].as_f64().unwrap();
        assert!((accuracy - right as f64 / n as f64).abs() < 1e-12, "{run} {variant} {rule}: {accuracy}");
    }
}

#[test]
fn the_harness_reads_what_is_exported_for_it() {
    let Some(python) = python_with("lm_eval") else { return };
    for name in ["greedy", "sampled"] {
        let (_out, path) = exported(name, "lm-eval");
        assert_told(&run(&python, "lm_eval_export.py", &[&path.display().to_string()]), name);
    }
}

#[test]
fn inspect_reads_what_is_exported_for_it() {
    let Some(python) = python_with("inspect_ai") else { return };
    for name in ["greedy", "sampled"] {
        let (_out, path) = exported(name, "inspect");
        assert_told(&run(&python, "inspect_export.py", &[&path.display().to_string()]), name);
    }
}

#[test]
fn exports_without_a_place_are_named_after_the_run_and_are_the_same_every_time() {
    let here = tempfile::tempdir().unwrap();
    let run = WORLD.path().join("greedy").display().to_string();
    for (format, name) in [("lm-eval", "greedy-lm-eval"), ("inspect", "greedy-inspect"), ("parquet", "greedy.parquet")]
    {
        let files = |err: &str| {
            let paths = err.lines().filter_map(|line| line.strip_prefix("written: "));
            paths.map(|path| (path.to_owned(), fs::read(here.path().join(path)).unwrap())).collect::<Vec<_>>()
        };
        let first = files(&says(here.path(), &format!("export {run} --format {format}")).1);
        assert!(here.path().join(name).exists() && !first.is_empty(), "{name}");
        assert_eq!(files(&says(here.path(), &format!("export {run} --format {format}")).1), first, "{format}");
    }
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let world = WORLD.path();
    let error = refused(world, "export greedy --format lm_eval");
    assert!(error.contains("lm_eval") && error.contains("lm-eval"), "{error}");
    assert!(refused(world, "export nowhere").contains("the run nowhere is not there"));
    let error = refused(world, "export greedy --format parquet --out greedy/plan.json/x");
    assert!(error.contains("cannot write greedy/plan.json/x"), "{error}");
}
