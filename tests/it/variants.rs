//! Further checkpoints of a model as columns beside its precisions, and any column as the reference, by the program itself.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use evalsuite::compare::{Comparison, Report, report_format};
use evalsuite::engine::{
    Capacity, Completion, Engine, EngineError, EngineInfo, Event as EngineEvent, Precision, Request, ServerCounts,
};
use evalsuite::jobs::bench::BenchRecord;
use evalsuite::jobs::eval::{EvalJob, StoredRun, evaluate, render};
use evalsuite::jobs::perplexity::PerplexityRecord;
use evalsuite::jobs::quality::QualityRecord;
use evalsuite::jobs::{Endpoint, EndpointSettings, Event, JobContext, Model, Target, Variant};
use evalsuite::openai::{Address, Api, EndpointOptions, ServerInfo};
use evalsuite::record::VariantName;
use evalsuite::report::{Format, Templates};
use evalsuite::task::ChatUse;
use serde_json::Value;
use tempfile::TempDir;

use crate::awq_writer::Checkpoint;
use crate::program::{evalsuite, text};
use crate::{scripted, tiny_model};

/// A folder with the model `m`, its AWQ form `m-awq` in groups of 16, another in groups of 8, and two problems.
fn world() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str, from: TempDir| std::fs::rename(from.keep(), folder.path().join(name)).unwrap();
    let checkpoint = Checkpoint::new("llama", Some(16), None, false);
    place("m", checkpoint.write_dense());
    place("m-awq", checkpoint.write());
    place("g8", Checkpoint::new("llama", Some(8), None, false).write());
    let rows = [1, 2].map(|n| format!("{{\"question\": \"t{n}0 t{n}1 t{n}2\", \"answer\": \"so\\n#### {n}\"}}\n"));
    std::fs::write(folder.path().join("problems.jsonl"), rows.concat()).unwrap();
    let words: Vec<String> = (1..60).map(|n| format!("t{n}")).collect();
    std::fs::write(folder.path().join("text.txt"), words.join(" ") + " ").unwrap();
    folder
}

fn program(world: &Path, words: &str) -> Output {
    let mut command = evalsuite();
    command.current_dir(world).env("HF_HUB_OFFLINE", "1").args(words.split_whitespace());
    command.output().expect("the program starts")
}

fn done(world: &Path, words: &str) -> String {
    let output = program(world, words);
    assert!(output.status.success(), "{words}: {}", text(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn mistake(world: &Path, words: &str) -> String {
    crate::program::mistake(&program(world, words))
}

const GSM8K: &str = "gsm8k --dataset problems.jsonl --protocol direct --max-tokens 6 --model m";

fn gsm8k(world: &Path, words: &str, out: &str) -> (StoredRun, String) {
    let table = done(world, &format!("{GSM8K} {words} --out {out}"));
    (StoredRun::read(&world.join(out)).unwrap(), table)
}

fn names(variants: &[VariantName]) -> Vec<&str> {
    variants.iter().map(VariantName::as_str).collect()
}

#[test]
fn several_checkpoints_stand_side_by_side_in_one_run() {
    let world = world();
    let words = "--dtype awq,f32 --variant g16=m-awq --variant g8=./g8 --variant twin=m@f16";
    let (run, table) = gsm8k(world.path(), words, "run");
    assert_eq!(names(&run.record.plan.dtypes), ["f32", "awq", "g16", "g8", "twin"]);
    let tokens = |name: &str| {
        let (_, completions) = run.completions.iter().find(|(variant, _)| variant.as_str() == name).unwrap();
        assert_eq!(completions.len(), 2);
        completions.iter().map(|one| one.token_ids.clone()).collect::<Vec<_>>()
    };
    assert_eq!(tokens("g16"), tokens("awq"), "the same files in the same format");
    assert!(world.path().join("run/g8/journal.jsonl").is_file());
    let plan = &run.record.plan.target;
    let (g16, g8) = (&plan.variants["g16"], &plan.variants["g8"]);
    assert_eq!((g8.stored_as.as_deref(), g8.quantized), (Some("awq-int4 (group 8)"), true));
    assert_ne!(g16.sha256, g8.sha256);
    assert_eq!(plan.variants["twin"].precision.unwrap().name(), "f16");
    assert_eq!(g16.sha256.as_ref(), plan.awq.as_ref().map(|awq| &awq.sha256));
    assert!(run.record.dtypes.iter().skip(1).all(|row| row.rules[0].against.is_some()), "each is compared with f32");
    assert!(table.contains("variant   g8: g8, awq-int4 (group 8)") && table.contains("Against f32"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let answers = std::fs::read_to_string(world.path().join("run/answers.jsonl")).unwrap();
    let order: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let order: Vec<&str> = order.iter().map(|line| line["dtype"].as_str().unwrap()).collect();
    assert_eq!(order, ["f32", "f32", "awq", "awq", "g16", "g16", "g8", "g8", "twin", "twin"]);

    let (alone, _) = gsm8k(world.path(), "--dtype none --variant g8=g8", "alone");
    assert_eq!(names(&alone.record.plan.dtypes), ["g8"]);
    let (beside, _) = gsm8k(world.path(), "--variant g8=g8", "beside");
    assert_eq!(
        names(&beside.record.plan.dtypes),
        ["f32", "f16", "bf16", "awq", "g8"],
        "the default ones and the variant"
    );
}

#[test]
fn a_run_without_variants_writes_what_it_always_did() {
    let world = world();
    let (run, _) = gsm8k(world.path(), "--dtype f32,awq", "run");
    let text = std::fs::read_to_string(world.path().join("run/plan.json")).unwrap();
    let keys: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("  \"")?.split_once('"'))
        .map(|(key, _)| key)
        .filter(|key| !["working_directory", "crc32"].contains(key))
        .collect();
    let before = [
        "evalsuite",
        "command",
        "started",
        "model",
        "awq",
        "dataset",
        "protocol",
        "generation",
        "engine",
        "batch",
        "batching",
        "dtypes",
    ];
    assert_eq!(keys, before, "{text}");
    assert!(text.contains("\"dtypes\": [\n    \"f32\",\n    \"awq\"\n  ]"), "{text}");
    assert!(run.record.plan.target.variants.is_empty() && run.record.plan.target.reference.is_none());
    // A plan of before variants has the same fields, so that this one stands for it.
    done(world.path(), &format!("{GSM8K} --dtype f32,awq --out run --resume"));
    let record = std::fs::read_to_string(world.path().join("run/record.json")).unwrap();
    for key in ["\"against_f32\"", "\"ground_truth\": \"f32\"", "\"dtype\": \"awq\""] {
        assert!(record.contains(key), "{key}");
    }
}

#[test]
fn any_variant_is_the_reference() {
    let world = world();
    let (run, table) = gsm8k(world.path(), "--dtype fp16 --variant g8=g8 --reference float16", "run");
    assert_eq!(names(&run.record.plan.dtypes), ["f16", "g8"]);
    let [f16, g8] = &run.record.dtypes[..] else { panic!("two variants") };
    assert!(f16.rules[0].against.is_none() && g8.rules[0].against.is_some());
    assert_eq!(run.record.ground_truth, None);
    assert!(
        table.contains("Against f16") && !table.contains("Against f32") && !table.contains("right in f32"),
        "{table}"
    );
    let report = done(world.path(), "report run");
    assert!(report.contains("x f16") && !report.contains("x f32") && report.contains("g8 "), "{report}");
    let json: Value = serde_json::from_str(&done(world.path(), "report run --format json")).unwrap();
    assert_eq!((&json["reference"], &json["rows"][1]["reference"]), (&"f16".into(), &0.into()), "{json}");

    let (run, table) = gsm8k(world.path(), "--dtype f32 --variant g16=m-awq --variant g8=g8 --reference g8", "other");
    assert_eq!(names(&run.record.plan.dtypes), ["g8", "f32", "g16"], "the reference first");
    assert!(table.contains("Against g8"), "{table}");
    let compared: Vec<bool> = run.record.dtypes.iter().map(|row| row.rules[0].against.is_some()).collect();
    assert_eq!(compared, [false, true, true]);
    let message = mistake(world.path(), &format!("{GSM8K} --dtype f32 --variant g8=g8 --reference g9 --out x"));
    assert!(
        message.contains("--reference g9") && message.contains("known are: f32, g8")
            || message.contains("Known are: f32, g8"),
        "{message}"
    );
    let message = mistake(world.path(), &format!("{GSM8K} --dtype f32 --reference f16 --out x"));
    assert!(message.contains("no such variant") && !world.path().join("x").exists(), "{message}");
}

#[test]
fn what_cannot_be_a_variant_is_refused_before_anything_runs() {
    let world = world();
    let other = tiny_model::folder();
    std::fs::rename(other.keep(), world.path().join("other")).unwrap();
    let words = |variant: &str| format!("{GSM8K} --dtype f32 --out run --variant {variant}");
    for (variant, part) in [
        ("other=other", "--variant other: "),
        ("g8", "there is no `=`"),
        ("=g8", "its name cannot be used: it is empty"),
        ("../x=g8", "its name cannot be used"),
        ("f16=g8", "f16 is a precision's name"),
        ("half=g8", "half is a precision's name, f16"),
        ("g8=", "its source is empty"),
        ("g8=g8@f61", "unknown dtype `f61`"),
        ("g8=nowhere", "nowhere"),
        ("g8=g8@int8", "no int8"),
        ("d=m@awq", "is no AWQ checkpoint: its weights are stored as "),
        ("g8=g8 --variant G8=m-awq", "there is a variant G8 already"),
    ] {
        let message = mistake(world.path(), &words(variant));
        assert!(message.contains(part), "{variant}: {message}");
    }
    let message = mistake(world.path(), &words("other=other"));
    assert!(message.contains("is no checkpoint of m: `"), "{message}");
    assert!(mistake(world.path(), &format!("{GSM8K} --dtype none --out run")).contains("leaves nothing to run"));
    assert!(!world.path().join("run").exists());
}

#[test]
fn another_tokenizer_of_the_same_size_is_refused() {
    let world = world();
    let path = world.path().join("g8/tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"t9\""));
    std::fs::write(&path, text.replace("\"t9\"", "\"u9\"")).unwrap();
    let message = mistake(world.path(), &format!("{GSM8K} --dtype f32 --out run --variant g8=g8"));
    assert!(message.contains("is no checkpoint of m: the tokenizers have different tokens"), "{message}");
}

#[test]
fn another_checkpoint_does_not_go_on_with_a_run() {
    let world = world();
    let words = format!("{GSM8K} --dtype f32 --variant a=g8 --out run");
    done(world.path(), &words);
    done(world.path(), &format!("{words} --resume"));
    // The same files elsewhere are the same checkpoint.
    std::fs::rename(world.path().join("g8"), world.path().join("moved")).unwrap();
    done(world.path(), &format!("{GSM8K} --dtype f32 --variant a=moved --out run --resume"));
    let message = mistake(world.path(), &format!("{GSM8K} --dtype f32 --variant a=m-awq --out run --resume"));
    assert!(message.contains("variants.a.sha256: was ") && message.contains("group 16"), "{message}");
    let message = mistake(world.path(), &format!("{GSM8K} --dtype f32 --variant b=moved --out run --resume"));
    assert!(message.contains("dtypes: was f32,a, is f32,b"), "{message}");
    let message = mistake(world.path(), &format!("{GSM8K} --dtype f32 --variant a=moved@f16 --out run --resume"));
    assert!(message.contains("variants.a.precision: was awq, is f16"), "{message}");
    let message =
        mistake(world.path(), &format!("{GSM8K} --dtype f32 --variant a=moved --reference a --out run --resume"));
    assert!(message.contains("reference: was none, is a"), "{message}");
}

#[test]
fn every_job_runs_them() {
    let world = world();
    let folder = world.path();
    let table = done(
        folder,
        "perplexity --model m --dtype f32 --variant g8=g8 --variant g16=m-awq --reference g16 --text text.txt --out p.json",
    );
    let record = PerplexityRecord::read(&folder.join("p.json")).unwrap().unwrap();
    let order: Vec<&str> = record.dtypes.iter().map(|row| row.dtype.as_str()).collect();
    assert_eq!(order, ["g16", "f32", "g8"]);
    assert!(record.dtypes[0].against.is_none());
    let against = record.dtypes[1].against.as_ref().unwrap();
    assert!(against.kl.maximum > 0.0 && against.worst[0].kl > 0.0);
    assert!(table.contains("KL divergence from g16") && table.contains("p_g16") && !table.contains("f32's"), "{table}");

    let set = "name = \"s\"\nmax_tokens = 4\n[[prompts]]\nid = \"a\"\ntext = \"t1 t2\"\n";
    std::fs::write(folder.join("set.toml"), set).unwrap();
    let table = done(
        folder,
        "quality --prompts set.toml --model m --dtype f32 --variant g8=g8 --reference g8 --max-tokens 4 --chat never --out q",
    );
    let record = QualityRecord::read(&folder.join("q/record.json")).unwrap().unwrap();
    let model = &record.models[0];
    assert_eq!((model.reference.as_str(), model.is_ground_truth, model.columns.len()), ("g8", false, 2));
    assert!(model.columns[1].against.is_some() && model.columns[1].column == "f32");
    assert!(table.contains("g8, named by `--reference`"), "{table}");

    let table = done(folder, "bench --dtype f16 --variant q=bundled-awq --only load --repeats 1 --out b.json");
    let record = BenchRecord::read(&folder.join("b.json")).unwrap().unwrap();
    let rows: Vec<&str> = record.rows.iter().map(|row| row.dtype.as_str()).collect();
    assert_eq!(rows, ["f16", "q"]);
    assert!(table.contains("variant  q: bundled-awq, awq-int4 (group 64)"), "{table}");
}

#[test]
fn golden_files_are_kept_by_variant() {
    let world = world();
    let folder = world.path();
    let suite = "--suite gsm8k --model m";
    let flags = "-- --dataset problems.jsonl --protocol direct --max-tokens 6";
    done(folder, &format!("golden accept {suite} --dtype f32 --variant g8=g8 --variant g16=m-awq {flags}"));
    let golden = |name: &str| std::fs::read_to_string(folder.join(format!("golden/gsm8k/m/{name}.json"))).unwrap();
    assert!(!golden("f32").contains("variant"), "{}", golden("f32"));
    let g8 = golden("g8");
    assert!(g8.contains("--variant=g8=g8") && !g8.contains("g16") && g8.contains("--dtype none"), "{g8}");
    let checked = done(folder, "golden check");
    assert!(checked.contains("golden: all 3 hold"), "{checked}");
    assert!(done(folder, "golden check --dtype g8").contains("golden: all 1 hold"));
    assert!(done(folder, "golden list").contains("ok        gsm8k m g8: "));
    // Another checkpoint under the same name is told by its hash.
    std::fs::remove_dir_all(folder.join("g8")).unwrap();
    std::fs::rename(folder.join("m-awq"), folder.join("g8")).unwrap();
    let output = program(folder, "golden check --dtype g8 --ci");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("the variant: sha256 was "), "{told}");
}

/// A stub of what asks an endpoint: it takes a prompt's text, and has nothing but text to give back.
struct Far {
    info: EngineInfo,
    requests: Vec<Request>,
}

impl Engine for Far {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        assert!(request.prompt.token_ids.is_empty() && !request.prompt.text.is_empty());
        self.requests.push(request);
        Ok(())
    }

    fn step(&mut self, events: &mut Vec<EngineEvent>) -> Result<(), EngineError> {
        if let Some(request) = self.requests.pop() {
            let answer = scripted::answer(&request, Precision::F32);
            events.push(EngineEvent::Completed(Completion {
                token_ids: Vec::new(),
                server: Some(ServerCounts::default()),
                ..answer
            }));
        }
        Ok(())
    }

    fn cancel(&mut self, _: usize) -> bool {
        false
    }

    fn capacity(&self) -> Capacity {
        Capacity { running: self.requests.len(), free_slots: 1, ..Capacity::default() }
    }
}

/// Of the target nothing but a name and an address is known, and of an answer only its text.
#[test]
fn a_target_that_tells_only_answers_is_reported_as_such() {
    let scratch = tempfile::tempdir().unwrap();
    let settings = EndpointSettings::default();
    let options = EndpointOptions {
        addresses: vec![Address::parse("https://example.org/v1").unwrap()],
        model: None,
        api: Api::Completions,
        send_ids: true,
        stream: true,
        places: 1,
        client: settings.client,
        tokenizer: None,
        extra: settings.extra,
    };
    let far = Arc::new(Endpoint {
        name: "far".to_owned(),
        context_tokens: None,
        tokenizer_source: None,
        options,
        server: ServerInfo::default(),
    });
    let inputs =
        scripted::inputs_of(Model::Endpoint(far), scripted::dataset(), "gsm8k-cot-zeroshot", ChatUse::Never).unwrap();
    let folder = scratch.path().join("run");
    let job = EvalJob { target: scripted::target("far", &[]), ..scripted::job(folder.clone()) };
    let mut open = |variant: &Variant, _: &Target| -> Result<Box<dyn Engine>, EngineError> {
        assert_eq!((variant.precision, variant.model.files().is_none()), (None, true));
        let info = EngineInfo { weight_bytes: None, ..scripted::engine(Precision::F32, "1").info().clone() };
        Ok(Box::new(Far { info, requests: Vec::new() }))
    };
    let interrupted = AtomicBool::new(false);
    let mut context = JobContext { open_engine: &mut open, emit: &mut |_: Event| (), interrupted: &interrupted };
    let finished = evaluate(&job, &inputs, &mut context).unwrap();
    let (record, table) = finished.results.unwrap();
    let model = &record.plan.target.model;
    assert_eq!((&model.sha256, &model.stored_as, model.family, model.parameters), (&None, &None, None, None));
    let [row] = &record.dtypes[..] else { panic!("one column") };
    assert_eq!(
        (row.n, row.prompt_tokens, row.output_tokens, row.output_tokens_per_second),
        (scripted::ROWS, None, None, None)
    );
    assert!(row.rules.iter().any(|rule| rule.accuracy.unwrap().successes == scripted::ROWS) && record.complete);
    let flowing = crate::program::flowing(&table);
    assert!(
        flowing.contains(
            "far (at https://example.org/v1; completions route, prompts as text, tokenizer unknown; weights unknown)"
        ),
        "{table}"
    );
    assert!(table.lines().any(|line| line.starts_with("endpoint") && line.matches("n/a").count() >= 2), "{table}");
    let markdown = render(&record, &Format::Markdown).unwrap();
    assert!(markdown.contains("weights unknown"), "{markdown}");

    let run = StoredRun::read(&folder).unwrap();
    assert!(run.completions[0].1.iter().all(|one| one.token_ids.is_none() && one.prompt_tokens.is_none()));
    let runs = [run];
    let comparison = Comparison::new(&runs, Vec::new(), None, Vec::new());
    assert_eq!((comparison.rows[0].output_tokens, comparison.rows[0].reference), (None, None));
    let report = |format: &str| {
        let (templates, colour) = (Templates::bundled(), false);
        let report = Report { comparison: &comparison, runs: &runs, templates: &templates, csv_raw: false, colour };
        report_format(format).unwrap().render(&report).unwrap()
    };
    for format in ["terminal", "markdown", "html", "csv", "json", "junit", "github"] {
        assert!(!report(format).is_empty(), "{format}");
    }
    assert!(report("csv").lines().nth(1).unwrap().contains(",end_of_sequence,,,"), "{}", report("csv"));
    assert!(report("junit").contains("name=\"model sha256\" value=\"unknown\""));
    // A second time nothing is missing: the run knows its answers without their tokens.
    let again = EvalJob { resume: true, ..job };
    let mut refuse =
        |_: &Variant, _: &Target| -> Result<Box<dyn Engine>, EngineError> { panic!("nothing is left to ask") };
    let mut context = JobContext { open_engine: &mut refuse, emit: &mut |_: Event| (), interrupted: &interrupted };
    assert!(evaluate(&again, &inputs, &mut context).unwrap().results.unwrap().0.complete);
}
