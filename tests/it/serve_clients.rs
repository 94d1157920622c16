//! The server under clients that others wrote, where they are at hand: `.ci/run` puts them into `target/clients`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::program::{evalsuite, text};
use crate::serve::Server;
use crate::skip::skip;
use crate::{checkout, data};

/// The Python that has a package: where `EVALSUITE_CLIENTS` says, or `target/clients`.
pub(crate) fn python_with(package: &str) -> Option<PathBuf> {
    let own = checkout().join("target/clients/bin/python");
    let python = std::env::var_os("EVALSUITE_CLIENTS").map_or(own, PathBuf::from);
    let has = Command::new(&python).args(["-c", &format!("import {package}")]).output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skip(package, format!("{} has no {package}: install it there", python.display()));
    None
}

pub(crate) fn run(python: &Path, script: &str, arguments: &[&str]) -> String {
    let output = Command::new(python).arg(data("clients").join(script)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_openai_package_gets_what_it_asks_for() {
    let Some(python) = python_with("openai") else { return };
    let server = Server::start(&[]);
    assert_eq!(run(&python, "openai_client.py", &[&server.url]).trim(), "ok");
    server.wait_until_idle();
}

#[test]
fn the_harness_gets_the_answers_of_an_evaluation_here() {
    const ROWS: &str = "6";
    let Some(python) = python_with("lm_eval") else { return };
    let (server, scratch) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let arguments =
        ["gsm8k", "--engine", "cpu", "--dtype", "f32", "--protocol", "gsm8k", "--limit", ROWS, "--out", "run"];
    let output = evalsuite().current_dir(scratch.path()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answers = std::fs::read_to_string(scratch.path().join("run/answers.jsonl")).unwrap();
    let here: Vec<String> = answers
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned())
        .collect();
    let file = |split: &str| checkout().join(format!("datasets/bundled/{split}.parquet")).display().to_string();
    let said = run(&python, "lm_eval_client.py", &[&server.url, &file("train"), &file("test"), ROWS]);
    let theirs: Vec<String> = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(theirs, here);
}
