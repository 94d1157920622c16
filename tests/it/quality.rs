//! The quality command: the built-in set, runs on the bundled model by the program itself, imports, mistakes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::{Dtype, Finish};
use evalsuite::jobs::quality::{ModelQuality, Origin, QualityRecord};
use evalsuite::task::PromptSet;
use tempfile::TempDir;

use crate::program::{evalsuite, text};
use crate::tiny_model::open;

fn program(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = evalsuite();
    command.current_dir(folder).env("HF_HUB_OFFLINE", "1").arg("quality").args(arguments);
    command.output().expect("the program starts")
}

fn success(folder: &Path, arguments: &[&str]) -> String {
    let output = program(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn mistake(folder: &Path, arguments: &[&str]) -> String {
    crate::program::mistake(&program(folder, arguments))
}

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn record(folder: &Path) -> QualityRecord {
    QualityRecord::read(&folder.join("record.json")).unwrap().expect("it is a quality record")
}

#[test]
fn the_built_in_set_has_ten_kinds_and_every_check_has_its_examples() {
    let set = PromptSet::open(None).unwrap();
    assert_eq!((set.name.as_str(), set.source.as_str(), set.version), ("quality", "bundled", Some(1)));
    assert!((36..=40).contains(&set.prompts.len()) && set.system.is_some());
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for prompt in &set.prompts {
        *kinds.entry(prompt.kind.as_deref().unwrap()).or_default() += 1;
        assert!(!prompt.checks.is_empty(), "{} declares no check", prompt.id);
    }
    assert!(kinds.len() == 10 && kinds.values().all(|count| *count >= 3), "{kinds:?}");
    // Loading has held every check to these; here they only have to be there.
    let file: toml::Table = toml::from_str(evalsuite::bundled::QUALITY).unwrap();
    for prompt in file["prompts"].as_array().unwrap() {
        let wrong = prompt.get("wrong").and_then(toml::Value::as_array);
        assert!(prompt.get("right").is_some() && wrong.is_some_and(|wrong| !wrong.is_empty()), "{prompt}");
    }
}

#[test]
fn one_run_on_the_bundled_model_in_three_precisions() {
    let place = scratch();
    let flags = ["--dtype", "awq,f32,f16", "--max-tokens", "12", "--out", "run", "--diffs", "4"];
    let table = success(place.path(), &flags);
    assert!(!table.contains('\u{1b}'), "no colour where nobody looks");
    assert!(table.lines().all(|line| console::measure_text_width(line) <= 80), "{table}");
    for part in ["f32, the ground truth", "Levenshtein", "Kinds", "copying", "json-person", "more answers differ", "[-"]
    {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    let record = record(&place.path().join("run"));
    assert!(record.complete && record.answers_sha256.is_some());
    let Origin::Run(plan) = &record.origin else { panic!("not an import") };
    assert_eq!(plan.dtypes, [Dtype::F32, Dtype::F16, Dtype::Awq]);
    assert!(plan.chat && plan.generation.temperature == 0.0 && plan.generation.max_tokens == 12);
    assert_eq!(record.prompts.as_ref(), Some(&plan.prompts));
    assert_eq!(plan.prompts.sha256, evalsuite::files::sha256(evalsuite::bundled::QUALITY.as_bytes()));

    let [model] = &record.models[..] else { panic!("one model") };
    assert!(model.is_ground_truth && model.reference == "f32");
    let columns: Vec<&str> = model.columns.iter().map(|column| column.column.as_str()).collect();
    assert_eq!(columns, ["f32", "f16", "awq"]);
    assert!(model.columns[0].against.is_none() && model.columns.iter().all(|column| column.sessions.len() == 1));
    // These prompts lie off what the model was trained on, so that four bits show: if nothing differed, nothing would be tested.
    let awq = model.columns[2].against.as_ref().unwrap();
    assert!(awq.exact.successes < awq.exact.n && awq.exact.n == model.prompts.len());
    for prompt in &model.prompts {
        let rendered = prompt.rendered.as_ref().unwrap();
        assert!(
            rendered.contains(prompt.text.as_ref().unwrap())
                && rendered.contains(plan.prompts.system.as_ref().unwrap())
        );
        assert_eq!(prompt.prompt_sha256, Some(evalsuite::files::sha256(rendered.as_bytes())));
        assert_eq!(prompt.answers.len(), 3);
        for answer in &prompt.answers {
            let tokens = answer.token_ids.as_ref().unwrap();
            assert_eq!(answer.margins.as_ref().map(Vec::len), Some(tokens.len()), "{}", prompt.id);
            assert!(tokens.len() <= 12 && answer.verdicts.len() == prompt.checks.len());
            assert!(tokens.len() == 12 || answer.finish != Some(Finish::Length));
        }
    }
    margins_are_the_engine_s(model);

    // The stored record again, in every format.
    let show = |format: &str| {
        let mut command = evalsuite();
        let output = command.current_dir(place.path()).args(["show", "run", "--format", format]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(serde_json::from_str::<QualityRecord>(&show("json")).unwrap(), record);
    assert!(show("markdown").contains("| json-person |") && show("terminal").contains("Prompts"));
    let page = show("html");
    assert_eq!(page.matches("<article").count(), model.prompts.len());
    assert!(page.contains("<del>") && page.contains("data-differs") && page.contains("data-failed"));
    for outside in ["src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "the page reaches outside itself: {outside}");
    }

    // Nothing is missing: the same command with --resume changes no answer, and a torn journal is made whole.
    let answers = || std::fs::read(place.path().join("run/answers.jsonl")).unwrap();
    let before = answers();
    let journal = place.path().join("run/awq/journal.jsonl");
    let whole = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, &whole[..whole.len() / 2]).unwrap();
    success(place.path(), &[&flags[..], &["--resume"]].concat());
    assert_eq!(answers(), before);
    let resumed = self::record(&place.path().join("run"));
    assert_eq!(resumed.models[0].prompts, model.prompts);
    assert_eq!(resumed.models[0].columns[2].sessions.len(), 2);
    let message = mistake(place.path(), &["--dtype", "f32,f16,awq", "--max-tokens", "13", "--out", "run", "--resume"]);
    assert!(message.contains("generation.max_tokens: was 12, is 13"), "{message}");
}

/// The margin at a first divergence is that of the reference's own logits after the tokens before it, bit for bit.
fn margins_are_the_engine_s(model: &ModelQuality) {
    let source = Arc::new(open(Path::new("bundled")).unwrap());
    let engine = CpuEngine::load(&source, Dtype::F32, None).unwrap();
    let diverging = model.prompts.iter().find_map(|prompt| {
        let divergence = prompt.answers[2].against.as_ref()?.first_divergence.clone()?;
        Some((prompt, divergence))
    });
    let (prompt, divergence) = diverging.expect("four bits change an answer");
    let tokens = prompt.answers[0].token_ids.as_ref().unwrap();
    assert_eq!(divergence.reference.as_ref().unwrap().id, tokens[divergence.index]);
    assert_ne!(divergence.token.as_ref().map(|token| token.id), Some(tokens[divergence.index]));
    let mut fed = source.tokenizer.encode(prompt.rendered.as_ref().unwrap(), false).unwrap();
    assert_eq!(prompt.prompt_tokens, Some(fed.len()));
    fed.extend(&tokens[..divergence.index]);
    let rows = engine.logits(&fed, fed.len());
    let mut last = rows.last().unwrap().clone();
    last.sort_unstable_by(|a, b| b.total_cmp(a));
    assert_eq!(divergence.reference_margin, Some(last[0] - last[1]));
}

#[test]
fn without_f32_the_most_exact_precision_is_the_reference_and_the_table_says_so() {
    let place = scratch();
    let table = success(
        place.path(),
        &["--dtype", "awq,f16", "--max-tokens", "4", "--only", "counting,uuid", "--out", "run", "--diffs", "0"],
    );
    assert!(table.contains("f16, the most exact precision of this run, for f32 is not in it"), "{table}");
    assert!(table.contains("5 of 40 (counting, uuid)"), "{table}");
    let record = record(&place.path().join("run"));
    let [model] = &record.models[..] else { panic!("one model") };
    assert!(!model.is_ground_truth && model.reference == "f16" && model.prompts.len() == 5);
    assert!(model.columns[0].against.is_none() && model.columns[1].against.is_some());
}

#[test]
fn the_shared_prompts_run_through_the_chat_template() {
    let Some(prompts) = crate::shared_file("quality/prompts.json") else { return };
    let place = scratch();
    let prompts = prompts.to_str().unwrap();
    let table =
        success(place.path(), &["--prompts", prompts, "--dtype", "f32,f16", "--max-tokens", "6", "--out", "run"]);
    assert!(table.contains("through the model's chat template") && !table.contains("Checks"), "{table}");
    let record = record(&place.path().join("run"));
    let Origin::Run(plan) = &record.origin else { panic!("not an import") };
    assert_eq!((plan.prompts.count, plan.prompts.version, record.models[0].prompts.len()), (5, None, 5));
    assert!(record.models[0].columns.iter().all(|column| column.checks.is_none()), "no check is no zero");
    let system = plan.prompts.system.as_ref().unwrap();
    assert!(record.models[0].prompts.iter().all(|prompt| prompt.rendered.as_ref().unwrap().contains(system)));
}

/// The published case: exact matches of float32, float16 and int4 with the ground truth, of five prompts.
#[test]
fn published_answers_give_the_published_exact_matches() {
    let Some(published) = crate::shared_file("quality/published.json") else { return };
    let place = scratch();
    let published = published.to_str().unwrap();
    let json = success(place.path(), &["--import", published, "--format", "json", "--out", "record.json"]);
    let record: QualityRecord = serde_json::from_str(&json).unwrap();
    assert_eq!(QualityRecord::read(&place.path().join("record.json")).unwrap().as_ref(), Some(&record));
    let exact = |name: &str| -> Vec<(String, usize, usize)> {
        let model = record.models.iter().find(|model| model.model.contains(name)).expect(name);
        let columns = model.columns.iter().filter_map(|column| {
            let exact = column.against.as_ref()?.exact;
            Some((column.column.clone(), exact.successes, exact.n))
        });
        columns.collect()
    };
    let expected = |counts: [usize; 3]| -> Vec<(String, usize, usize)> {
        ["float32", "float16", "int4"].iter().zip(counts).map(|(name, count)| ((*name).to_owned(), count, 5)).collect()
    };
    assert_eq!(exact("Mistral"), expected([3, 3, 3]));
    assert_eq!(exact("Llama-2"), expected([2, 2, 0]));
    assert!(record.models.iter().all(|model| model.reference == "ground_truth" && model.is_ground_truth));

    // Another column as the truth; the prompts' texts joined by their ids.
    let prompts = crate::shared_file("quality/prompts.json").expect("it lies beside");
    let page = success(
        place.path(),
        &[
            "--import",
            published,
            "--ground-truth",
            "float32",
            "--prompts",
            prompts.to_str().unwrap(),
            "--format",
            "html",
        ],
    );
    assert_eq!(page.matches("<article").count(), 10);
    assert!(page.contains("42 birds") && page.contains("<ins>"));
    let table = success(place.path(), &["--import", published, "--diffs", "2"]);
    assert!(table.lines().all(|line| console::measure_text_width(line) <= 80), "{table}");
    assert!(table.contains("Llama-2") && !table.contains("tokens  "), "{table}");
}

#[test]
fn an_import_compares_free_columns_and_says_what_is_missing() {
    let place = scratch();
    let file = |name: &str, text: &str| std::fs::write(place.path().join(name), text).unwrap();
    file(
        "answers.json",
        r#"[{"model": "m", "id": "a", "truth": "one two", "x|y": "one three", "z": "one two"},
            {"model": "m", "id": "b|c", "truth": "four", "x|y": "four", "z": null},
            {"model": "m", "id": "d", "truth": "\u001b[31mred", "x|y": "blue"}]"#,
    );
    let import = |file: &str, flags: &[&str]| [&["--import", file][..], flags].concat().join("\n");
    let words = import("answers.json", &["--ground-truth", "truth", "--diffs", "9", "--out", "r.json"]);
    let table = success(place.path(), &words.split('\n').collect::<Vec<_>>());
    assert!(table.contains("one [-two-]{+three+}") && !table.contains('\u{1b}'), "{table}");
    let record = QualityRecord::read(&place.path().join("r.json")).unwrap().unwrap();
    assert!(!record.complete, "two answers are missing");
    let exact: Vec<(usize, usize)> = record.models[0]
        .columns
        .iter()
        .filter_map(|one| Some(&one.against.as_ref()?.exact))
        .map(|e| (e.successes, e.n))
        .collect();
    assert_eq!(exact, [(1, 3), (1, 1)]);
    let figures = record.models[0].columns[1].against.as_ref().unwrap();
    assert!(figures.token_agreement.is_none() && figures.median_divergence.is_none(), "no token is no zero");

    file("object.json", "{}");
    file("empty.json", "[]");
    file("number.json", r#"[{"model": "m", "id": "a", "ground_truth": 3}]"#);
    file("nameless.json", r#"[{"model": "m", "ground_truth": "x", "y": "z"}]"#);
    file("alone.json", r#"[{"model": "m", "id": "a", "ground_truth": "x"}]"#);
    let twice = r#"{"model": "m", "id": "a", "ground_truth": "x", "y": "z"}"#;
    file("twice.json", &format!("[{twice}, {twice}]"));
    for (name, flags, part) in [
        ("/no/such/file", &[][..], "cannot read"),
        ("object.json", &[], "not a list"),
        ("empty.json", &[], "empty"),
        ("number.json", &[], "entry 1: `ground_truth` is 3"),
        ("nameless.json", &[], "entry 1: `id` is missing"),
        ("alone.json", &[], "the only column"),
        ("twice.json", &[], "there twice"),
        ("answers.json", &[], "`--ground-truth COLUMN`"),
        ("answers.json", &["--ground-truth", "thruth"], "did you mean `truth`"),
        ("answers.json", &["--ground-truth", "truth", "--prompts", "/no/set"], "cannot read the prompts"),
    ] {
        let words = import(name, flags);
        let message = mistake(place.path(), &words.split('\n').collect::<Vec<_>>());
        assert!(message.contains(part), "{name} {flags:?}: {message}");
    }
    // What a run needs and an import does not is refused by the command line itself.
    let output = program(place.path(), &["--import", "answers.json", "--dtype", "f32"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn mistakes_name_the_file_the_prompt_and_the_field() {
    let place = scratch();
    std::fs::write(place.path().join("bad.toml"), "[[prompts]]\nid = \"a\"\ntext = \"b\"\nchecks = [{ max_wrds = 3 }]")
        .unwrap();
    for (flags, parts) in [
        (
            &["--prompts", "bad.toml"][..],
            &["bad.toml", "prompt `a`", "`checks`, entry 1", "did you mean `max_words`"][..],
        ),
        (&["--prompts", "/no/such/set.json"], &["/no/such/set.json", "`--prompts`"]),
        (&["--only", "coping"], &["unknown prompt or kind `coping`", "did you mean `copying`"]),
        (&["--dtype", "f-16"], &["did you mean `f16`"]),
        (&["--max-tokens", "0"], &["--max-tokens 1"]),
        (&["--chat", "sometimes"], &["use of the chat template"]),
        (&["--format", "htm"], &["did you mean `html`"]),
    ] {
        let message = mistake(place.path(), flags);
        assert!(parts.iter().all(|part| message.contains(part)), "{flags:?}: {message}");
    }
    assert!(!place.path().join("runs").exists(), "a mistake leaves no run folder");
}
