//! Runs in other tools' formats, and theirs as runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::data;
use crate::program::{refused, says};
use crate::serve_clients::{python_with, run};

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The JSON value of each line.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A run of two variants, `greedy`, and one of repeats, `sampled`.
static WORLD: LazyLock<TempDir> = LazyLock::new(|| {
    let world = tempfile::tempdir().unwrap();
    let common = "gsm8k --engine cpu --dtype f32,awq --quiet";
    says(world.path(), 0, &format!("{common} --limit 24 --out greedy"));
    says(world.path(), 0, &format!("{common} --limit 5 --repeats 3 --temperature 0.9 --out sampled"));
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
    let err = says(out.path(), 0, &format!("export {run} --format {format} --out {}", path.display())).1;
    assert!(err.contains("written: "), "{err}");
    (out, path)
}

#[test]
fn json_lines_have_every_answer_with_its_question_and_scores() {
    for run in ["greedy", "sampled"] {
        let folder = WORLD.path().join(run);
        let rows = lines(&says(WORLD.path(), 0, &format!("export {run}")).0);
        let answers = answers(&folder);
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
            serde_json::from_str(&says(WORLD.path(), 0, &format!("export {run} --format json")).0).unwrap();
        assert_eq!((&document["kind"], &document["format"]), (&json!("export"), &json!(1)));
        assert_eq!(document["answers"], json!(rows));
    }
    // In a file they are the same, each line whole.
    let (_out, path) = exported("greedy", "jsonl");
    assert_eq!(lines(&fs::read_to_string(path).unwrap()), lines(&says(WORLD.path(), 0, "export greedy").0));
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
    let rows = lines(&says(WORLD.path(), 0, "export sampled").0);
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
        let first = files(&says(here.path(), 0, &format!("export {run} --format {format}")).1);
        assert!(here.path().join(name).exists() && !first.is_empty(), "{name}");
        assert_eq!(files(&says(here.path(), 0, &format!("export {run} --format {format}")).1), first, "{format}");
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

fn given(name: &str) -> PathBuf {
    data("interchange").join(name)
}

/// Takes in and gives the folder of the run.
fn imported(arguments: &str) -> (TempDir, PathBuf, String) {
    let scratch = tempfile::tempdir().unwrap();
    let err = says(scratch.path(), 0, &format!("import {arguments} --out run")).1;
    let run = scratch.path().join("run");
    (scratch, run, err)
}

/// `(rule, right, n)` of a run's variant.
fn right(run: &Path, variant: &str) -> Vec<(String, u64, u64)> {
    let own = accuracies(run).into_iter().filter(|(name, ..)| name == variant);
    own.map(|(_, rule, right, n)| (rule, right, n)).collect()
}

fn answers(run: &Path) -> Vec<Value> {
    lines(&fs::read_to_string(run.join("answers.jsonl")).unwrap())
}

#[test]
fn what_was_exported_comes_back_with_the_same_accuracy_and_answers() {
    for name in ["greedy", "sampled"] {
        let original = WORLD.path().join(name);
        for format in ["lm-eval", "inspect"] {
            let (_out, path) = exported(name, format);
            let (scratch, run, err) = imported(&path.display().to_string());
            assert!(err.contains("evalsuite"), "{err}");
            assert_eq!(accuracies(&run), accuracies(&original), "{name} by {format}");
            let (theirs, own) = (answers(&original), answers(&run));
            assert_eq!(theirs.len(), own.len());
            for (theirs, own) in theirs.iter().zip(&own) {
                for key in ["dtype", "sample", "repeat", "text"] {
                    assert_eq!(theirs[key], own[key], "{format} {key}");
                }
                let scores = |answer: &Value| -> Vec<_> {
                    let scores = answer["scores"].as_array().unwrap().iter();
                    scores
                        .map(|score| (score["rule"].clone(), score["value"].clone(), score["correct"].clone()))
                        .collect()
                };
                assert_eq!(scores(theirs), scores(own), "{format}");
            }
            let samples = |run: &Path| -> Vec<Value> {
                let mut samples = lines(&fs::read_to_string(run.join("samples.jsonl")).unwrap());
                for sample in &mut samples {
                    sample.as_object_mut().unwrap().remove("crc32");
                }
                samples
            };
            assert_eq!(samples(&run), samples(&original), "{format}");
            // It is the same questions, asked and scored the same: it can be a baseline of the run that it was.
            let report =
                says(scratch.path(), 0, &format!("report {} --baseline run --format json", original.display())).0;
            let report: Value = serde_json::from_str(&report).unwrap();
            let pair = report["pairs"].as_array().unwrap().iter().find(|pair| pair["n"].as_u64() > Some(0)).unwrap();
            assert!(pair["rule"].is_string());
            assert_eq!(report["gate"]["passed"], true, "{}", report["gate"]);
        }
    }
}

#[test]
fn the_harness_s_own_files_become_a_run() {
    // Written by lm-evaluation-harness 0.4.13.
    let folder = given("lm-eval/bundled");
    let (scratch, run, err) = imported(&format!("{} --task arithmetic_here", folder.display()));
    assert!(err.contains("lm-evaluation-harness 0.4.13, bundled on arithmetic_here"), "{err}");
    assert!(!err.contains("the tool's own result"), "{err}");
    let rules = [("strict-match".to_owned(), 10, 12), ("flexible-extract".to_owned(), 10, 12)];
    assert_eq!(right(&run, "completions"), rules);
    let first = &answers(&run)[0];
    assert_eq!(first["text"], "They cost 4 * 10 = $<<4*10=40>>40.\n#### 40");
    assert_eq!((&first["scores"][0]["value"], &first["scores"][0]["correct"]), (&json!("40"), &json!(true)));
    let record = read(&run.join("record.json"));
    assert_eq!(
        (&record["plan"]["model"]["name"], &record["plan"]["task"]["name"]),
        (&json!("bundled"), &json!("arithmetic_here"))
    );
    assert_eq!(record["dtypes"][0]["output_tokens_per_second"], Value::Null);
    // A run like any other: shown, reported, scored anew by rules of ours.
    assert!(says(scratch.path(), 0, "show run --wrong").0.contains("172 - 166"));
    assert!(says(scratch.path(), 0, "report run --format html").0.contains("arithmetic_here"));
    let again: Value =
        serde_json::from_str(&says(scratch.path(), 0, "rescore run --protocol gsm8k-cot-zeroshot --format json").0)
            .unwrap();
    assert_eq!(again["dtypes"][0]["rules"][0]["accuracy"]["n"], 12);

    // Several answers to a question were scored as one.
    let (_scratch, run, err) = imported(&format!("{} --task arithmetic_repeats", folder.display()));
    assert!(err.contains("the first stands here"), "{err}");
    assert_eq!(right(&run, "completions")[0], ("strict-match".to_owned(), 11, 12));
    let report = refused(scratch.path(), &format!("import {} --out x", folder.display()));
    assert!(report.contains("these are 3 runs") && report.contains("--task"), "{report}");
}

#[test]
fn a_choice_is_what_the_model_finds_likeliest() {
    let (_scratch, run, err) = imported(&format!("{} --task choices_here", given("lm-eval/bundled").display()));
    assert!(err.contains("neither right nor wrong by sample: brier_score"), "{err}");
    assert_eq!(right(&run, "completions"), [("acc".to_owned(), 1, 6), ("acc_norm".to_owned(), 1, 6)]);
    let first = &answers(&run)[0];
    assert_eq!((&first["text"], &first["scores"][0]["correct"]), (&json!("6"), &json!(false)));
    let samples = fs::read_to_string(run.join("samples.jsonl")).unwrap();
    let first: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    assert_eq!(first["answer"], "7", "the target is the number of a choice");
}

/// As lm-evaluation-harness 0.4.2 laid files out, by its source: one list, no filter's name, everything in one folder.
fn old_layout(folder: &Path) {
    let new = given("lm-eval/bundled");
    let files = || fs::read_dir(&new).unwrap().map(|entry| entry.unwrap().path());
    let text = files().find(|path| path.display().to_string().contains("samples_arithmetic_here")).unwrap();
    let rows = fs::read_to_string(text).unwrap();
    let old = rows.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        let request = &row["arguments"]["gen_args_0"];
        json!({
            "doc_id": row["doc_id"], "doc": row["doc"], "target": row["target"],
            "arguments": [[request["arg_0"][0], request["arg_1"]]], "resps": row["resps"],
            "filtered_resps": row["filtered_resps"], "exact_match": row["exact_match"],
        })
    });
    let old: Vec<Value> = old.collect();
    fs::write(folder.join("model__bundled_arithmetic_here.jsonl"), serde_json::to_string_pretty(&old).unwrap())
        .unwrap();
    let results = files().filter(|path| path.display().to_string().contains("results_"));
    let results = results.map(|path| read(&path)).find(|json| json["configs"]["arithmetic_here"].is_object()).unwrap();
    let old = json!({
        "results": {"arithmetic_here": results["results"]["arithmetic_here"]},
        "configs": {"arithmetic_here": results["configs"]["arithmetic_here"]},
        "versions": results["versions"], "n-shot": results["n-shot"],
        "config": {"model": "hf", "model_args": "pretrained=org/model,dtype=float16", "limit": 12.0},
        "git_hash": "abc",
    });
    fs::write(folder.join("results.json"), old.to_string()).unwrap();
}

#[test]
fn the_harness_s_old_layout_is_read_too() {
    let scratch = tempfile::tempdir().unwrap();
    old_layout(scratch.path());
    for source in [".", "results.json", "model__bundled_arithmetic_here.jsonl"] {
        says(scratch.path(), 0, &format!("import {source} --out run"));
        let run = scratch.path().join("run");
        let rules = [("strict-match".to_owned(), 10, 12), ("flexible-extract".to_owned(), 10, 12)];
        assert_eq!(right(&run, "f16"), rules, "{source}");
        assert_eq!(read(&run.join("record.json"))["plan"]["model"]["name"], "org/model");
        fs::remove_dir_all(run).unwrap();
    }
}

#[test]
fn models_become_variants_where_they_are_named() {
    let (worse, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    old_layout(worse.path());
    let file = worse.path().join("model__bundled_arithmetic_here.jsonl");
    let mut rows: Vec<Value> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    // The first two questions are lost, by either filter.
    for row in rows.iter_mut().filter(|row| row["doc_id"].as_u64() < Some(2)) {
        row["exact_match"] = json!(0.0);
    }
    fs::write(&file, json!(rows).to_string()).unwrap();
    let good = tempfile::tempdir().unwrap();
    old_layout(good.path());
    let words = format!("import base={} small={} --out run", good.path().display(), worse.path().display());
    let (table, err) = says(scratch.path(), 0, &words);
    // The results beside the changed samples are told to differ.
    assert!(
        err.contains("small: strict-match: the samples are right in 66.67 %, but the tool's own result is 83.33 %"),
        "{err}"
    );
    assert!(!err.contains("base: strict-match: the samples"), "{err}");
    assert!(table.contains("base") && table.contains("small"), "{table}");
    let record = read(&scratch.path().join("run/record.json"));
    let against = &record["dtypes"][1]["rules"][0]["against_f32"];
    assert_eq!((&against["lost"], &against["gained"]), (&json!(2), &json!(0)));
    // A model that was asked otherwise is none of these.
    let results = read(&worse.path().join("results.json"));
    let other = results.to_string().replace("{{question}}", "Q: {{question}}");
    fs::write(worse.path().join("results.json"), other).unwrap();
    let error = refused(scratch.path(), &words.replace("--out run", "--out other"));
    assert!(error.contains("was asked or scored otherwise"), "{error}");
}

#[test]
fn inspect_s_own_logs_become_runs() {
    // Written by inspect-ai 0.3.285, without their events.
    let (scratch, run, err) = imported(&given("inspect/greedy.json").display().to_string());
    assert!(err.contains("Inspect AI 0.3.285, openai-api/here/bundled on arithmetic"), "{err}");
    assert!(!err.contains("the tool's own result"), "{err}");
    assert_eq!(right(&run, "completions"), [("match".to_owned(), 10, 12), ("pattern".to_owned(), 10, 12)]);
    let first = &answers(&run)[0];
    assert_eq!(
        (&first["prompt_tokens"], &first["text"]),
        (&json!(27), &json!("They cost 4 * 10 = $<<4*10=40>>40.\n#### 40"))
    );
    let samples = fs::read_to_string(run.join("samples.jsonl")).unwrap();
    let first: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    assert_eq!((&first["id"], &first["answer"]), (&json!("q0"), &json!("40")));
    assert_eq!(read(&run.join("record.json"))["dtypes"][0]["output_tokens"], 674, "as Inspect counted them");
    assert!(says(scratch.path(), 0, "report run").0.contains("pattern"));

    // Epochs are repeats.
    let (_scratch, run, _) = imported(&given("inspect/epochs.json").display().to_string());
    assert_eq!(right(&run, "completions")[0], ("match".to_owned(), 10, 12));
    assert_eq!(read(&run.join("record.json"))["plan"]["generation"]["repeats"], 2);
}

#[test]
fn what_cannot_be_imported_is_refused_with_its_place() {
    let scratch = tempfile::tempdir().unwrap();
    let here = |name: &str, text: &str| fs::write(scratch.path().join(name), text).unwrap();
    let error = |words: &str| refused(scratch.path(), &format!("import {words}"));
    assert!(error("nowhere").contains("nowhere is not there"));
    assert!(error(".").contains("nothing to import"));
    here("samples_a_1.jsonl", "{\"doc_id\": 0, \"resps\": [[\"x\"]], \"bleu\": 0.4}\n");
    assert!(error("samples_a_1.jsonl").contains("no metric is right or wrong by sample: bleu"));
    here("samples_a_1.jsonl", "{\"doc_id\": 0, \"resps\": [[\"x\"]], \"acc\": 1}\n{\n");
    assert!(error("samples_a_1.jsonl").contains("samples_a_1.jsonl: line 2: not a JSON object"));
    here("samples_a_1.jsonl", "{\"resps\": [[\"x\"]], \"acc\": 1}\n");
    assert!(error("samples_a_1.jsonl").contains("sample 1 has no `doc_id`"));
    here("samples_a_1.jsonl", "");
    assert!(error("samples_a_1.jsonl").contains("there is no sample in it"));
    here("log.json", "{\"status\": \"success\", \"eval\": {\"task\": \"t\", \"model\": \"m\"}}");
    assert!(error("log.json").contains("the log has no samples"));
    here("log.eval", "PK");
    assert!(error("log.eval").contains("inspect log dump") || error("log.eval").contains("not JSON"));
    let logs = given("inspect/greedy.json");
    assert!(error(&format!("{} --task other", logs.display())).contains("other"));
    assert!(error(&format!("{} --rule other", logs.display())).contains("other"));
    assert!(error(&format!("{} --reference other", logs.display())).contains("other"));
    assert!(error(&format!("a/b={}", logs.display())).contains("no name of a variant"));
}
