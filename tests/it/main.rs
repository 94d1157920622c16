//! Integration tests: one binary, one module a subject.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use evalsuite::engine::{Completion, Engine, Event, Request};
use skip::skip;

mod at_hand;
mod awq;
mod awq_run;
mod awq_writer;
mod bench;
mod blame;
mod bundled_model;
mod bundled_run;
mod cli;
mod comparisons;
mod compat;
mod cuda;
mod datasets;
mod datasets_memory;
mod determinism;
mod devtools;
mod docs;
mod double;
mod endpoint_bench;
mod endpoint_probe;
mod endpoints;
mod engine;
mod estimate;
mod families;
mod gguf_writer;
mod golden;
mod golden_absent;
mod golden_committed;
mod golden_review;
mod gpu_failure;
mod handle;
mod headline;
mod hostile;
mod hostile_corpus;
mod hostile_templates;
mod hub;
mod hub_server;
mod imports;
mod interchange;
mod layers;
mod load_beside;
mod load_score;
mod mock_server;
mod models;
mod models_bad;
mod models_gguf;
mod models_gguf_experts;
mod models_gguf_families;
mod mutate;
mod newer_formats;
mod only_text;
mod openai;
mod own_answers;
mod packaged;
mod packed;
mod page;
mod perplexity;
mod placebo;
mod program;
mod proof;
mod protocols;
mod quality;
mod quantize;
mod quantize_compressed;
mod random_model;
mod reading;
mod reference;
mod repeats;
mod replicas;
mod report;
mod report_gate;
mod report_runs;
mod report_tables;
mod run;
mod score_file;
mod scoring;
mod scripted;
mod serve;
mod serve_clients;
mod sink;
mod skip;
mod skipping;
mod special_tokens;
mod stored_zip;
mod sweep;
mod synth;
mod tasks;
mod tasks_run;
mod thoughts;
mod tiny_model;
mod until;
mod variants;
mod workflows;

/// The largest difference between numbers and what they should be; infinite where one is no number.
fn largest_difference(ours: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(ours.len(), exact.len(), "as many numbers as there should be");
    let errors = ours.iter().zip(exact).map(|(ours, exact)| (f64::from(*ours) - exact).abs());
    errors.fold(0.0, |worst, error| if error.is_nan() { f64::INFINITY } else { worst.max(error) })
}

/// The folder of real data that is no part of the project: where `EVALSUITE_SHARED` says, or beside the checkout.
fn shared() -> PathBuf {
    std::env::var_os("EVALSUITE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

/// The checkout.
fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file or folder of `tests/data`.
fn data(name: &str) -> PathBuf {
    checkout().join("tests/data").join(name)
}

/// Every file of a folder by name.
fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

/// A run's file as earlier versions wrote it: a file that was changed on purpose, or one that nothing proves.
fn without_checksums(text: &str) -> String {
    regex::Regex::new(r#",\s*"crc32": ?"[0-9a-f]{8}""#).unwrap().replace_all(text, "").into_owned()
}

/// A file of the shared folder, or `None` with a loud word about what is left untested.
fn shared_file(name: &str) -> Option<PathBuf> {
    let path = shared().join(name);
    if path.exists() {
        return Some(path);
    }
    skip("shared", format!("{} is missing; set EVALSUITE_SHARED to the shared folder", path.display()));
    None
}

/// `SmolLM2`'s GGUF file: where `EVALSUITE_SMOLLM2` says, or where `.ci/run` puts it.
fn smollm2() -> PathBuf {
    std::env::var_os("EVALSUITE_SMOLLM2").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf"),
        PathBuf::from,
    )
}

/// Sends a program `signal` once it says `part`; how it ended, and what it said on stderr from then on. Its stderr is piped.
fn signal_when(mut child: Child, part: &str, signal: &str) -> (Output, String) {
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(part) {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "it ended before it said {part}");
    }
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    (child.wait_with_output().unwrap(), rest)
}

/// What an engine makes of requests, in their order.
fn complete(engine: &mut dyn Engine, requests: Vec<Request>) -> Vec<Completion> {
    let mut completions = Vec::new();
    let mut sink = |event| {
        if let Event::Completed(completion) = event {
            completions.push(completion);
        }
        ControlFlow::Continue(())
    };
    engine.run(requests, &mut sink).unwrap();
    completions.sort_by_key(|completion| completion.request);
    completions
}
