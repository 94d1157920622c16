//! What makes the program easy to live with, by the program itself on a tiny model: runs go on from their folder, lists, quiet,
//! JSON from every command, and rescored results as runs.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::awq_writer::Checkpoint;
use crate::program::{evalsuite, text};
use crate::without_checksums;

const RUN: &str =
    "gsm8k --model m --dataset problems.jsonl --protocol direct --max-tokens 6 --dtype f32,f16 --threads 2";

/// A folder with the model `m`, its AWQ form, two problems, two prompts and a text.
fn world() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::new("llama", Some(16), None, false);
    fs::rename(checkpoint.write_dense().keep(), folder.path().join("m")).unwrap();
    fs::rename(checkpoint.write().keep(), folder.path().join("m-awq")).unwrap();
    let problem = |n: usize| format!("{{\"question\": \"t{n}0 t{n}1 t{n}2\", \"answer\": \"so\\n#### {n}\"}}\n");
    fs::write(folder.path().join("problems.jsonl"), problem(1) + &problem(2)).unwrap();
    let prompt = |id: &str, text: &str| {
        format!("[[prompts]]\nid = \"{id}\"\ntext = \"{text}\"\nchecks = [{{ excludes = \"zebra\" }}]\n")
    };
    let prompts = format!("name = \"mine\"\nmax_tokens = 5\n\n{}{}", prompt("one", "t1 t2"), prompt("two", "t3 t4"));
    fs::write(folder.path().join("prompts.toml"), prompts).unwrap();
    fs::write(folder.path().join("text.txt"), "t1 t2 t3 t4 t5 t6 t7 t8 t9 t10 t11 t12").unwrap();
    folder
}

fn output_of(folder: &Path, arguments: &str) -> Output {
    let mut command = evalsuite();
    command.current_dir(folder).env("HF_HUB_OFFLINE", "1");
    command.args(arguments.split_whitespace()).output().expect("the program starts")
}

/// What stands on stdout and on stderr of a command that ends with `code`.
fn says(folder: &Path, code: i32, arguments: &str) -> (String, String) {
    let output = output_of(folder, arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments}: {out}{err}");
    assert!(!err.contains("panicked") && (code != 2 || err.contains("hint: ")), "{arguments}: {err}");
    (out, err)
}

fn json(folder: &Path, code: i32, arguments: &str) -> Value {
    let (out, _) = says(folder, code, arguments);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments}: {error}: {out}"))
}

/// Leaves of a finished run what a kill would have left: no record, and one completion less.
fn interrupt(run: &Path) {
    fs::remove_file(run.join("record.json")).unwrap();
    fs::remove_file(run.join("answers.jsonl")).unwrap();
    let journal = run.join("f16/journal.jsonl");
    let lines = fs::read_to_string(&journal).unwrap();
    let first = lines.split_inclusive('\n').next().unwrap();
    assert!(first.len() < lines.len());
    fs::write(&journal, first).unwrap();
}

#[test]
fn a_run_goes_on_from_another_folder_with_its_own_command() {
    let world = world();
    let (table, _) = says(world.path(), 0, &format!("{RUN} --format markdown --out run"));
    let run = world.path().join("run");
    let answers = fs::read(run.join("answers.jsonl")).unwrap();
    interrupt(&run);
    let elsewhere = tempfile::tempdir().unwrap();
    let (out, err) = says(elsewhere.path(), 0, &format!("resume {} --threads 1", run.display()));
    assert!(err.contains("--threads=1") && err.contains("3 of 4 completions are there already"), "{err}");
    assert_eq!(fs::read(run.join("answers.jsonl")).unwrap(), answers);
    // The format is the run's own; figures of time are others.
    let heads =
        |table: &str| table.lines().filter(|line| line.starts_with("| variant")).map(str::to_owned).collect::<Vec<_>>();
    assert!(!heads(&table).is_empty());
    assert_eq!(heads(&out), heads(&table));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "nothing is written there");
}

#[test]
fn a_quality_run_goes_on_too_and_a_moved_folder_is_taken_where_it_is() {
    let world = world();
    says(world.path(), 0, "quality --model m --prompts prompts.toml --dtype f32,f16 --out run");
    fs::rename(world.path().join("run"), world.path().join("moved")).unwrap();
    interrupt(&world.path().join("moved"));
    let record = json(world.path(), 0, "resume moved --format json");
    assert_eq!((&record["quality_format"], &record["complete"]), (&Value::from(1), &Value::from(true)));
    assert!(!world.path().join("run").exists() && world.path().join("moved/record.json").exists());
}

#[test]
fn a_finished_run_prints_its_table_and_is_held_against_what_is_asked() {
    let world = world();
    says(world.path(), 0, &format!("{RUN} --out run"));
    let (shown, _) = says(world.path(), 0, "show run");
    assert_eq!(says(world.path(), 0, "resume run").0, shown);
    assert_eq!(json(world.path(), 0, "resume run --format json")["format"], 2);
    // What the model says is noise: no answer is right.
    let (_, err) = says(world.path(), 1, "resume run --min-accuracy 100");
    assert!(err.contains("below --min-accuracy 100 %"), "{err}");
    says(world.path(), 0, "resume run --baseline run");
    // With threads of its own, too: reading a baseline once used the threads before they were there.
    says(world.path(), 0, &format!("{RUN} --baseline run --out again"));
}

#[test]
fn what_cannot_be_resumed_is_said() {
    let world = world();
    fs::create_dir(world.path().join("empty")).unwrap();
    for (arguments, part) in [
        ("resume empty", "there is no plan.json, so this is no run"),
        ("resume nowhere", "nowhere"),
        ("resume", "required arguments were not provided"),
        ("resume empty --limit 3", "unexpected argument '--limit'"),
    ] {
        let (_, err) = says(world.path(), 2, arguments);
        assert!(err.contains(part), "{arguments}: {err}");
    }
    says(world.path(), 0, "quality --model m --prompts prompts.toml --dtype f32,f16 --out run");
    interrupt(&world.path().join("run"));
    let (_, err) = says(world.path(), 2, "resume run --min-accuracy 50");
    assert!(err.contains("unexpected argument '--min-accuracy'") && err.contains("evalsuite quality --help"), "{err}");
    // Where it was begun is no more: paths are taken from here, and that is said.
    let plan = fs::read_to_string(world.path().join("run/plan.json")).unwrap();
    let here = fs::canonicalize(world.path()).unwrap();
    let (here, gone) = (format!("\"{}\"", here.display()), "\"/no/such/folder\"");
    assert!(plan.contains(&here), "{plan}");
    fs::write(world.path().join("run/plan.json"), without_checksums(&plan.replace(&here, gone))).unwrap();
    let (_, err) = says(world.path(), 0, "resume run");
    assert!(err.contains("begun in /no/such/folder, which is not there"), "{err}");
}

#[test]
fn a_plan_that_says_nothing_of_its_folder_is_resumed_from_here() {
    let world = world();
    says(world.path(), 0, &format!("{RUN} --out run"));
    interrupt(&world.path().join("run"));
    let plan = world.path().join("run/plan.json");
    let mut old: Value = serde_json::from_slice(&fs::read(&plan).unwrap()).unwrap();
    assert!(old.as_object_mut().unwrap().remove("working_directory").is_some());
    fs::write(&plan, without_checksums(&old.to_string())).unwrap();
    says(world.path(), 0, "resume run");
}

#[test]
fn runs_are_listed_with_what_they_are_and_how_far() {
    let world = world();
    assert!(says(world.path(), 0, "list runs").0.contains("there is no run in runs"));
    says(world.path(), 0, &format!("{RUN} --out runs/first"));
    says(world.path(), 0, "quality --model m --prompts prompts.toml --dtype f32,f16 --out runs/second");
    interrupt(&world.path().join("runs/second"));
    fs::create_dir(world.path().join("runs/stranger")).unwrap();
    let (table, _) = says(world.path(), 0, "list runs");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    for part in ["complete", "interrupted", "direct", "mine", "f32,f16", "\n  runs/first", "\n  runs/second"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    let listed = json(world.path(), 0, "list runs --format json");
    assert_eq!((&listed["kind"], &listed["format"]), (&Value::from("list"), &Value::from(1)));
    let runs = listed["runs"].as_array().unwrap();
    let first = runs.iter().find(|run| run["path"] == "runs/first").unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!(
        (&first["status"], &first["protocol"], &first["model"]),
        (&"complete".into(), &"direct".into(), &"m".into())
    );
    assert_eq!(first["variants"], serde_json::json!(["f32", "f16"]));
    // Another folder, and one that is not there.
    assert_eq!(json(world.path(), 0, "list runs --runs . --format json")["runs"], serde_json::json!([]));
    says(world.path(), 0, "list runs --runs /no/such/folder");
    assert!(says(world.path(), 2, "list rums").1.contains("did you mean `runs`"));
}

#[test]
fn everything_the_program_knows_is_listed() {
    let world = world();
    let all = json(world.path(), 0, "list --format json");
    for (list, name) in
        [("tasks", "gsm8k"), ("protocols", "stepwise"), ("families", "mistral"), ("formats", "awq"), ("engines", "cpu")]
    {
        let entries = all[list].as_array().unwrap_or_else(|| panic!("no {list}: {all}"));
        assert!(entries.iter().any(|entry| entry["name"] == name), "{name} is not among {list}: {all}");
        let (text, _) = says(world.path(), 0, &format!("list {list}"));
        assert_eq!(text.lines().filter(|line| !line.starts_with(' ')).count(), entries.len(), "{text}");
    }
    let (text, _) = says(world.path(), 0, "list");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for title in ["Runs\n", "\nTasks\n", "\nProtocols\n", "\nFamilies\n", "\nFormats\n", "\nEngines\n"] {
        assert!(text.contains(title), "{title} is not in {text}");
    }
    assert!(json(world.path(), 0, "list tasks engines --format json").get("runs").is_none());
}

#[test]
fn quiet_leaves_nothing_on_stderr_but_errors() {
    let world = world();
    for arguments in [
        &format!("{RUN} --out run"),
        "quality --model m --prompts prompts.toml --dtype f32",
        "perplexity --model m --text text.txt --dtype f32 --out perplexity.json",
        "bench --dtype f32 --only load --repeats 1 --out bench.json",
        "rescore run --protocol gsm8k",
        "report run --out report.txt",
        "resume run --baseline run",
        "golden accept --run run --golden kept",
        "golden check --run run --golden kept",
        "quantize --model bundled --out q --method rtn",
        "synth --shape tiny --dtype f16 --out s",
    ] {
        let (out, err) = says(world.path(), 0, &format!("--quiet {arguments}"));
        assert_eq!(err, "", "{arguments}");
        assert!(
            !out.is_empty()
                || ["quantize", "synth"].iter().any(|made| arguments.starts_with(made))
                || arguments.starts_with("report"),
            "{arguments}"
        );
    }
    // Before or behind the command; stdout is the same.
    let with = says(world.path(), 0, "show run --quiet").0;
    assert_eq!(with, says(world.path(), 0, "show run").0);
    let (_, err) = says(world.path(), 2, "show nowhere --quiet");
    assert!(err.starts_with("error: ") && err.contains("nowhere"), "{err}");
    let (_, err) = says(world.path(), 1, "resume run --min-accuracy 100 --quiet");
    assert_eq!(err.lines().count(), 1, "why it is 1 is said: {err}");
}

#[test]
fn a_recipe_has_no_flag_of_the_program_s_own() {
    let world = world();
    says(world.path(), 0, &format!("--quiet {RUN} --out run"));
    says(world.path(), 0, "golden accept --run run --golden kept");
    let golden: Value = serde_json::from_slice(&fs::read(world.path().join("kept/gsm8k/m/f32.json")).unwrap()).unwrap();
    let arguments = golden["recipe"]["arguments"].to_string();
    assert_eq!(arguments, r#"["--dataset","problems.jsonl","--protocol","direct","--max-tokens","6"]"#);
    assert_eq!(golden["recipe"]["model"], "m");
    says(world.path(), 0, "golden check --golden kept");
    assert!(says(world.path(), 2, "golden check --golden kept -- --quiet").1.contains("does not heed `--quiet`"));
}

#[test]
fn every_command_speaks_json_alone_on_stdout() {
    let world = world();
    let golden = "golden accept --run run --golden kept";
    for (arguments, code, keys) in [
        (format!("{RUN} --out run"), 0, &["format", "plan", "dtypes"][..]),
        (
            "quality --model m --prompts prompts.toml --dtype f32 --out asked".to_owned(),
            0,
            &["quality_format", "models"],
        ),
        ("perplexity --model m --text text.txt --dtype f32".to_owned(), 0, &["perplexity_format", "dtypes"]),
        ("bench --dtype f32 --only load --repeats 1".to_owned(), 0, &["bench_format", "rows"]),
        ("show asked".to_owned(), 0, &["quality_format"]),
        ("show run".to_owned(), 0, &["format", "machine"]),
        ("resume run".to_owned(), 0, &["format", "machine"]),
        ("rescore run --protocol gsm8k".to_owned(), 0, &["format", "generated_under"]),
        ("report run".to_owned(), 0, &["format", "rows", "pairs", "verdict"]),
        ("list".to_owned(), 0, &["kind", "format", "runs", "engines"]),
        ("doctor".to_owned(), 0, &["kind", "format", "program", "cpu", "gpu", "folders", "hub"]),
        (golden.to_owned(), 0, &["kind", "format", "accepted"]),
        ("golden list --golden kept".to_owned(), 0, &["kind", "format", "golden_files"]),
        ("golden check --run run --golden kept".to_owned(), 0, &["kind", "format", "holds", "golden_files"]),
        ("golden review --golden kept".to_owned(), 0, &["kind", "format", "pending"]),
        (
            format!("{RUN} --show-prompt 1"),
            0,
            &["kind", "format", "text", "sha256", "token_ids", "tokens", "stop_strings", "answer", "notes"],
        ),
        ("synth --shape tiny --dtype f16 --out s".to_owned(), 0, &["kind", "format", "folder", "bytes", "seconds"]),
        ("protocol explain direct".to_owned(), 0, &["kind", "format", "name", "version", "sha256", "rules", "text"]),
        ("protocol check direct".to_owned(), 0, &["kind", "format", "name", "rules", "text"]),
        ("protocol new mine".to_owned(), 0, &["kind", "format", "path"]),
        ("quantize --model bundled --out q --method rtn".to_owned(), 0, &["kind", "format", "folder", "seconds"]),
    ] {
        let value = json(world.path(), code, &format!("{arguments} --format json"));
        for key in keys {
            assert!(value.get(key).is_some(), "{arguments}: {key} is not in {value}");
        }
    }
    assert!(says(world.path(), 2, "doctor --format jsn").1.contains("did you mean `json`"));
}

#[test]
fn what_a_check_finds_is_in_its_json() {
    let world = world();
    says(world.path(), 0, &format!("{RUN} --out run"));
    says(world.path(), 0, "golden accept --run run --golden kept");
    let file = world.path().join("kept/gsm8k/m/f16.json");
    let kept = fs::read_to_string(&file).unwrap();
    let mut golden: Value = serde_json::from_str(&kept).unwrap();
    golden["outputs"][0]["text"] = "another".into();
    golden["outputs"][0]["token_ids"] = serde_json::json!([1]);
    fs::write(&file, serde_json::to_string(&golden).unwrap()).unwrap();
    let check = json(world.path(), 4, "golden check --run run --golden kept --format json");
    assert_eq!(check["holds"], false);
    let files = check["golden_files"].as_array().unwrap();
    let statuses: Vec<_> =
        files.iter().map(|file| (file["dtype"].as_str().unwrap(), file["status"].as_str().unwrap())).collect();
    assert_eq!(statuses, [("f32", "ok"), ("f16", "changed")]);
    assert_eq!((&files[1]["is_pending"], &files[1]["differences"][0]["id"]), (&true.into(), &"0".into()));
    let pending = json(world.path(), 0, "golden review --golden kept --format json");
    assert_eq!(pending["pending"][0]["pending_path"], "kept/gsm8k/m/f16.json.new");
    assert!(!pending["pending"][0]["differences"].as_array().unwrap().is_empty());
    let accepted = json(world.path(), 0, "golden accept --all --golden kept --format json");
    assert_eq!((&accepted["accepted"][0]["dtype"], &accepted["accepted"][0]["outputs"]), (&"f16".into(), &2.into()));
    let listed = json(world.path(), 0, "golden list --golden kept --format json");
    assert_eq!(listed["golden_files"][1]["status"], "ok");
    // Annotations are no data.
    let mut github = evalsuite();
    github.current_dir(world.path()).env("GITHUB_ACTIONS", "true");
    let output =
        github.args(["golden", "check", "--run", "run", "--golden", "kept", "--format", "json"]).output().unwrap();
    assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok(), "{}", text(&output.stdout));
}

#[test]
fn rescored_answers_are_a_run_like_any_other_but_for_going_on() {
    let world = world();
    says(world.path(), 0, &format!("{RUN} --out run"));
    let (table, err) = says(world.path(), 0, "rescore run --protocol gsm8k");
    assert!(err.contains("run folder: run-rescored-gsm8k") && err.contains("results: run/rescore-gsm8k.json"), "{err}");
    assert_eq!(says(world.path(), 0, "show run/rescore-gsm8k.json").0, table, "the file is what it was");
    assert_eq!(says(world.path(), 0, "show run-rescored-gsm8k").0, table);
    says(world.path(), 0, "rescore run --protocol gsm8k");
    assert!(world.path().join("run-rescored-gsm8k-2/record.json").exists(), "nothing is overwritten");
    says(world.path(), 0, "rescore run --protocol gsm8k --out named");
    assert!(
        says(world.path(), 2, "rescore run --protocol gsm8k --out named").1.contains("there is something in named")
    );

    // Reports take it, and pair it with nothing that was asked otherwise.
    let report = json(world.path(), 0, "report run named --format json");
    assert_eq!(report["rows"].as_array().unwrap().len(), 4);
    let pairs = report["pairs"].as_array().unwrap();
    let across = pairs.iter().filter(|pair| pair["reference"].as_u64() < Some(2) && pair["other"].as_u64() >= Some(2));
    assert_eq!(across.count(), 0, "{pairs:?}");
    let native = RUN.replace("--protocol direct", "--protocol gsm8k-cot-zeroshot");
    says(world.path(), 0, &format!("{native} --out native"));
    says(world.path(), 0, "rescore run --protocol gsm8k-cot-zeroshot --out again");
    let (_, err) = says(world.path(), 2, "report again --baseline native");
    assert!(err.contains("its answers were generated under direct, the baseline's under gsm8k-cot-zeroshot"), "{err}");
    // Taken, and held: no rule finds a value in what this model says.
    let (_, err) = says(world.path(), 1, "report named --baseline run-rescored-gsm8k");
    assert!(err.contains("under half, so it decides nothing"), "{err}");

    // Golden files are held against it, but none is made of it: no command makes such answers again.
    says(world.path(), 0, "golden accept --run run --golden kept");
    assert!(says(world.path(), 4, "golden check --run named --golden kept --ci").0.contains("of protocol gsm8k"));
    assert!(says(world.path(), 2, "golden accept --run named --golden kept").1.contains("scored anew"));

    // And there is nothing to go on with.
    let (shown, _) = says(world.path(), 0, "resume named");
    assert_eq!(shown, table);
    fs::remove_file(world.path().join("named/record.json")).unwrap();
    let (_, err) = says(world.path(), 2, "resume named");
    assert!(err.contains("scored anew") && err.contains("under the protocol direct"), "{err}");
    let listed = json(world.path(), 0, "list runs --runs . --format json");
    let again = listed["runs"].as_array().unwrap().iter().find(|run| run["path"] == "./again").unwrap().clone();
    assert_eq!((&again["protocol"], &again["generated_under"]), (&"gsm8k-cot-zeroshot".into(), &"direct".into()));
}

#[test]
fn both_commands_take_rows_in_either_spelling() {
    let world = world();
    let example = |name: &str| crate::data(name).display().to_string();
    says(world.path(), 0, &format!("{RUN} --out run"));
    says(world.path(), 0, "bench --dtype f32,f16 --only load --repeats 1 --out bench.json");
    for (file, engine) in [("elsewhere.json", "other-engine 2.1"), ("elsewhere-bench.json", "peer 1.0 (eager)")] {
        let (table, _) = says(world.path(), 0, &format!("report run --vs {}", example(file)));
        assert!(table.contains(engine), "{file}: {table}");
        let bench = format!("bench --dtype awq,f16 --only load --repeats 1 --vs {}", example(file));
        let record = json(world.path(), 0, &format!("{bench} --format json"));
        let rows = record["peers"]["rows"].as_array().unwrap();
        assert!(file == "elsewhere.json" || rows.iter().any(|row| row["engine"] == engine), "{file}: {record}");
    }
    // What bench has written says when and of which program.
    let (table, _) = says(world.path(), 0, "report run --vs bench.json --format markdown");
    assert!(table.contains("evalsuite cpu") && table.contains("bench.json ("), "{table}");
    // One with a model that is part of ours.
    let rows = r#"{"source": "here", "rows": [{"engine": "e", "precision": "f16", "model": "bundled", "tokens_per_second": 5}]}"#;
    fs::write(world.path().join("rows.json"), rows).unwrap();
    let record = json(world.path(), 0, "bench --dtype f16 --only load --repeats 1 --vs rows.json --format json");
    assert_eq!(record["peers"]["rows"][0]["gsm8k_shape_tok_s"], 5.0);
    assert!(says(world.path(), 0, "report run --vs rows.json").0.contains("here"));
    fs::write(world.path().join("rows.json"), rows.replace("\"source\": \"here\", ", "")).unwrap();
    assert!(says(world.path(), 2, "report run --vs rows.json").1.contains("`source` is missing"));
}

/// f16 beside awq, as who ships quantised models asks, showed no difference and said nothing of it.
#[test]
fn a_run_without_its_reference_says_how_variants_are_compared() {
    let world = world();
    let run = "gsm8k --model m --dataset problems.jsonl --protocol direct --max-tokens 6 --dtype f16,awq";
    let (_, told) = says(world.path(), 0, run);
    assert!(told.contains("no variant is compared with another") && told.contains("`--reference f16`"), "{told}");
    assert!(!told.contains("can show a difference"), "{told}");
    let (table, told) = says(world.path(), 0, &format!("{run} --reference f16"));
    assert!(table.contains("Δ f16") && told.contains("can show a difference"), "{table}{told}");
    let (_, told) = says(world.path(), 0, "gsm8k --model m --dataset problems.jsonl --max-tokens 6 --dtype f16");
    assert!(!told.contains("no variant is compared"), "{told}");
}
