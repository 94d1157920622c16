//! The main job on models with AWQ weights, by the program itself: which rows there are, and what they claim.

use std::path::Path;
use std::process::Output;

use evalsuite::engine::Dtype;
use evalsuite::jobs::eval::EvalRecord;
use evalsuite::record::VariantName;
use tempfile::TempDir;

use crate::awq_writer::Checkpoint;
use crate::program::{evalsuite, text};

/// A folder with the model `m`, its AWQ form `m-awq` and two problems.
fn world() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::new("llama", Some(16), None, false);
    std::fs::rename(checkpoint.write_dense().keep(), folder.path().join("m")).unwrap();
    std::fs::rename(checkpoint.write().keep(), folder.path().join("m-awq")).unwrap();
    let rows = [1, 2].map(|n| format!("{{\"question\": \"t{n}0 t{n}1 t{n}2\", \"answer\": \"so\\n#### {n}\"}}\n"));
    std::fs::write(folder.path().join("problems.jsonl"), rows.concat()).unwrap();
    folder
}

fn gsm8k(world: &Path, arguments: &str) -> Output {
    evalsuite()
        .current_dir(world)
        .env("HF_HUB_OFFLINE", "1")
        .args(["gsm8k", "--dataset", "problems.jsonl", "--protocol", "direct", "--max-tokens", "6"])
        .args(arguments.split_whitespace())
        .output()
        .expect("the program starts")
}

fn run(world: &Path, arguments: &str) -> (EvalRecord, String) {
    let output = gsm8k(world, arguments);
    assert!(output.status.success(), "{arguments}: {}", text(&output.stderr));
    let out = arguments.split_whitespace().skip_while(|word| *word != "--out").nth(1).unwrap();
    let record = EvalRecord::read(&world.join(out).join("record.json")).unwrap();
    (record, String::from_utf8(output.stdout).unwrap())
}

fn mistake(world: &Path, arguments: &str) -> String {
    crate::program::mistake(&gsm8k(world, arguments))
}

#[test]
fn one_run_gives_the_rows_of_f32_f16_int8_and_awq() {
    let world = world();
    let (record, table) = run(world.path(), "--model m --dtype awq,f32,int8,f16 --out run");
    let dtypes: Vec<VariantName> = record.dtypes.iter().map(|row| row.dtype.clone()).collect();
    assert_eq!(dtypes, [Dtype::F32, Dtype::F16, Dtype::Int8, Dtype::Awq]);
    assert!(record.complete && record.dtypes.iter().all(|row| row.n == 2));
    assert_eq!(record.ground_truth, Some(Dtype::F32.into()));
    let awq = record.plan.target.awq.as_ref().unwrap();
    assert_eq!((awq.name.as_str(), awq.stored_as.as_str()), ("m-awq", "awq-int4 (group 16)"));
    let (dense, packed) = (record.plan.target.model.weights.unwrap(), awq.weights.unwrap());
    assert!(packed.bytes < dense.bytes && packed.bits_per_weight < dense.bits_per_weight, "{packed:?}, {dense:?}");
    assert!((dense.bits_per_weight - 32.0).abs() < 0.001, "{dense:?}");
    assert!(record.notes.iter().any(|note| note.contains("awq runs awq-int4 (group 16) of ")), "{:?}", record.notes);
    assert!(table.contains("awq       m-awq, awq-int4 (group 16)") && !table.contains("arithmetic"), "{table}");
    let bytes = |at: usize| record.dtypes[at].sessions[0].engine.weight_bytes.unwrap();
    assert!(bytes(0) == 2 * bytes(1) && bytes(1) > bytes(2) && bytes(1) > bytes(3));
}

#[test]
fn by_default_a_model_runs_in_every_precision_that_its_weights_offer() {
    let world = world();
    let (record, _) = run(world.path(), "--model m --out both");
    assert_eq!(record.plan.dtypes, [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Awq]);
    let (record, table) = run(world.path(), "--model m-awq --out packed");
    assert_eq!(record.plan.dtypes, [Dtype::Awq]);
    assert_eq!((record.ground_truth, record.plan.target.awq.as_ref()), (None, None));
    assert!(table.contains("the ground truth is the model that they were made of"), "{table}");
    assert!(table.contains("The ground truth is not in this run"), "{table}");
    std::fs::remove_dir_all(world.path().join("m-awq")).unwrap();
    let (record, _) = run(world.path(), "--model m --out floating");
    assert_eq!(record.plan.dtypes, Dtype::FLOATING);
    // A form that cannot be read is no reason to fail where nobody asked for it, and no secret either.
    std::fs::create_dir(world.path().join("m-awq")).unwrap();
    let (record, _) = run(world.path(), "--model m --out broken");
    assert_eq!(record.plan.dtypes, Dtype::FLOATING);
    assert!(record.notes.iter().any(|note| note.contains("awq is left out: ")), "{:?}", record.notes);
    assert!(mistake(world.path(), "--model m --dtype awq").contains("empty folder"));
}

#[test]
fn a_packed_checkpoint_cannot_pretend_to_be_f32() {
    let world = world();
    let (record, table) = run(world.path(), "--model m-awq --dtype f32,awq --out run");
    assert!(record.plan.target.model.quantized && record.ground_truth.is_none());
    assert!(table.contains("f32 here is the arithmetic, not the ground truth"), "{table}");
    assert!(table.contains("Against f32 arithmetic"), "{table}");
    assert!(record.notes.iter().any(|note| note.contains("not the ground truth")), "{:?}", record.notes);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let (_, markdown) = run(world.path(), "--model m-awq --dtype f32,awq --out run2 --format markdown");
    assert!(markdown.contains("f32 here is the arithmetic, not the ground truth"), "{markdown}");
    let (_, json) = run(world.path(), "--model m-awq --dtype f32,awq --out run3 --format json");
    assert!(json.contains("\"ground_truth\": null") && json.contains("\"quantized\": true"), "{json}");
    assert!(mistake(world.path(), "--model m-awq --dtype int8").contains("no int8"));
    assert!(mistake(world.path(), "--model m-awq --awq m").contains("AWQ already"));
}

#[test]
fn without_awq_weights_the_commands_that_make_them_are_offered() {
    let world = world();
    std::fs::rename(world.path().join("m-awq"), world.path().join("elsewhere")).unwrap();
    let message = mistake(world.path(), "--model m --dtype f32,awq");
    assert!(message.contains("`evalsuite quantize --model m --out m-awq`"), "{message}");
    assert!(message.contains("--model m --dtype f32,awq --awq m-awq`"), "{message}");
    let (record, _) = run(world.path(), "--model m --dtype f32,awq --awq elsewhere --out run");
    assert_eq!(record.plan.target.awq.unwrap().name, "elsewhere");
    assert!(mistake(world.path(), "--model m --dtype f32 --awq elsewhere").contains("add awq to `--dtype`"));
    assert!(mistake(world.path(), "--model m --awq m").contains("no AWQ checkpoint"));
    assert!(mistake(world.path(), "--model m --dtype awq --engine candle").contains("`--engine cpu`"));
}

#[test]
fn other_awq_weights_do_not_go_on_with_a_run() {
    let world = world();
    run(world.path(), "--model m --dtype f32,awq --out run");
    run(world.path(), "--model m --dtype f32,awq --out run --resume");
    let other = Checkpoint::new("llama", Some(8), None, false).write();
    std::fs::remove_dir_all(world.path().join("m-awq")).unwrap();
    std::fs::rename(other.keep(), world.path().join("m-awq")).unwrap();
    let message = mistake(world.path(), "--model m --dtype f32,awq --out run --resume");
    assert!(message.contains("awq.sha256: was ") && message.contains("group 8"), "{message}");
}
