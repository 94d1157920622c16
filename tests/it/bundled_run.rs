//! Runs of the bundled model on the CPU, each in a folder of its own, and what they stored.

use std::process::Output;
use std::sync::Arc;

use evalsuite::engine::model::{ModelSource, ModelSpec};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{evalsuite, text};
use crate::tiny_model;

/// In the folder, on the CPU: on a machine with a GPU the default engine is another, whose last bits are its own.
pub(crate) fn program(folder: &TempDir, arguments: &str) -> Output {
    let mut command = evalsuite();
    command.current_dir(folder.path()).env("CUDA_VISIBLE_DEVICES", "").args(arguments.split_whitespace());
    command.output().expect("the program starts")
}

/// What the program prints; it must succeed.
#[track_caller]
pub(crate) fn said(folder: &TempDir, arguments: &str) -> String {
    let output = program(folder, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A run of the bundled model, `run` in a folder of its own.
pub(crate) fn with_run(arguments: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    said(&folder, &format!("eval gsm8k --engine cpu --quiet --out run {arguments}"));
    folder
}

/// A model that needs no hub.
pub(crate) fn open(source: &str) -> Arc<ModelSource> {
    let spec = ModelSpec { source: source.to_owned(), revision: "main".to_owned() };
    Arc::new(ModelSource::open(&spec, &tiny_model::no_hub()).unwrap())
}

/// The lines of a file of the run.
pub(crate) fn lines(folder: &TempDir, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path().join("run").join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The tokens of a sample's prompt. The bundled model's template writes every special token itself.
pub(crate) fn prompt(folder: &TempDir, model: &ModelSource, sample: u64) -> Vec<u32> {
    let samples = lines(folder, "samples.jsonl");
    let found = samples.iter().find(|line| line["sample"].as_u64() == Some(sample)).unwrap();
    model.tokenizer.encode(found["prompt"].as_str().unwrap(), false).unwrap()
}
