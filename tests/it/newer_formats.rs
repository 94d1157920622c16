//! What a newer version wrote is refused by the name of its format; `compat.rs` holds what older ones wrote.

use std::process::Output;

use serde_json::{Value, json};

use crate::compat::copy;
use crate::data;
use crate::program::{evalsuite, mistake, text};

fn program(words: &str, path: &std::path::Path) -> Output {
    evalsuite().args(words.split(' ')).arg(path).output().unwrap()
}

#[test]
fn every_record_of_a_newer_format_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record.json");
    for kind in ["quality", "bench", "blame", "perplexity", "load", "determinism", "probe"] {
        std::fs::write(&file, json!({format!("{kind}_format"): 99, "evalsuite": "9.0.0"}).to_string()).unwrap();
        for command in ["report", "show"] {
            let message = mistake(&program(command, &file));
            assert!(
                message.contains("record.json: format 99, but this evalsuite reads"),
                "{kind}, {command}: {message}"
            );
            assert!(message.contains("use the version of evalsuite that wrote it"), "{kind}, {command}: {message}");
        }
    }
    let elsewhere = data("e113425/run");
    std::fs::write(&file, json!({"format": 99, "source": "s", "rows": []}).to_string()).unwrap();
    let output = evalsuite().arg("report").arg(elsewhere).arg("--vs").arg(&file).output().unwrap();
    assert!(mistake(&output).contains("format 99, but this evalsuite reads format 1"));
}

#[test]
fn a_run_of_a_newer_format_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy(&data("e113425/run"), &run);
    let file = run.join("record.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    record["format"] = json!(99);
    std::fs::write(&file, record.to_string()).unwrap();
    for command in ["report", "show", "rescore --protocol direct", "export --format jsonl"] {
        let message = mistake(&program(command, &run));
        assert!(message.contains("format 99, but this evalsuite reads formats up to 2"), "{command}: {message}");
    }
}

#[test]
fn a_golden_file_of_a_newer_format_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let golden = folder.path().join("golden");
    copy(&data("e113425/golden"), &golden);
    let file = golden.join("gsm8k/bundled/f32.json");
    let newer = std::fs::read_to_string(&file).unwrap().replacen("\"golden_format\": 1", "\"golden_format\": 99", 1);
    std::fs::write(&file, newer).unwrap();
    let output = program("golden check --suite gsm8k --ci --golden", &golden);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("golden format 99, but this evalsuite reads 1"), "{said}");
}
