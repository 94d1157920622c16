//! Benchmarks: on engines that tell what they were asked, and as a command on the CPU engine.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use evalsuite::engine::{
    Capacity, Completion, Dtype, Engine, EngineError, EngineInfo, Event as EngineEvent, Finish, GenerateOptions,
    LoadTimes, Request, Timings, Work,
};
use evalsuite::jobs::bench::{BenchFinished, BenchInputs, BenchJob, RequestLengths, Workload, evaluate};
use evalsuite::jobs::bench::{BenchRecord, PARTS, render_bench};
use evalsuite::jobs::{Event, JobContext, JobError, Target, Variant};
use evalsuite::report::Format;
use serde_json::{Value, json};

use crate::program::{evalsuite, text};
use crate::tiny_model::open;
use crate::{scripted, synth};

/// An engine that writes down every run's requests and answers at once, each token a second of its own clock.
struct Recorder {
    info: EngineInfo,
    runs: Arc<Mutex<Vec<Vec<Request>>>>,
    /// Tokens that it owes each request.
    missing: usize,
}

fn info(dtype: Dtype) -> EngineInfo {
    EngineInfo {
        name: "recorder".to_owned(),
        version: "7".to_owned(),
        device: "a test".to_owned(),
        dtype: Some(dtype),
        context_tokens: 1024,
        batch: 4,
        load: LoadTimes { read_seconds: 0.25, prepare_seconds: 0.5, total_seconds: 0.75 },
        weight_bytes: Some(1000),
        device_bytes: None,
        cache_bytes: None,
        arithmetic: None,
    }
}

impl Engine for Recorder {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn submit(&mut self, _: Request) -> Result<(), EngineError> {
        unreachable!("a benchmark runs whole batches")
    }

    fn step(&mut self, _: &mut Vec<EngineEvent>) -> Result<(), EngineError> {
        unreachable!("a benchmark runs whole batches")
    }

    fn cancel(&mut self, _: usize) -> bool {
        false
    }

    fn capacity(&self) -> Capacity {
        Capacity::default()
    }

    fn run(
        &mut self,
        requests: Vec<Request>,
        sink: &mut dyn FnMut(EngineEvent) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.runs.lock().unwrap().push(requests.clone());
        for request in requests.iter().rev() {
            let Work::Generate(options) = &request.work else { panic!("a benchmark only generates") };
            let completion = Completion {
                request: request.id,
                token_ids: vec![7; options.max_tokens - self.missing],
                text: String::new(),
                thought: None,
                finish: Finish::Length,
                details: Vec::new(),
                top_tokens: Vec::new(),
                timings: Timings {
                    queued_seconds: 0.5,
                    first_token_seconds: 1.0,
                    total_seconds: options.max_tokens as f64,
                },
                cached_tokens: 0,
                server: None,
            };
            if sink(EngineEvent::Completed(completion)).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A checkpoint of the tiny shape.
pub(crate) fn tiny() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    synth::made(&synth::job(evalsuite::synth::SynthFormat::F16, folder.path().join("m")));
    folder
}

pub(crate) fn job() -> BenchJob {
    BenchJob {
        command: ["evalsuite", "bench", "--seed", "3"].map(str::to_owned).to_vec(),
        target: scripted::target("m", &[Dtype::F32, Dtype::F16]),
        workload: None,
        requests: Some(3),
        parts: PARTS.into_iter().filter(|part| part.is_default()).map(|part| part.name().to_owned()).collect(),
        repeats: 2,
        shared_prefix_tokens: None,
        seed: 3,
        peers: None,
        out: None,
        format: Format::Terminal { colour: false },
    }
}

pub(crate) fn workload(shared_prefix_tokens: usize) -> Workload {
    let requests = (1..=5).map(|n| RequestLengths { prompt_tokens: 10 * n, output_tokens: n }).collect();
    Workload {
        name: "five".to_owned(),
        source: "a test".to_owned(),
        sha256: "5e".repeat(32),
        requests,
        shared_prefix_tokens,
    }
}

pub(crate) type Runs = Arc<Mutex<Vec<Vec<Request>>>>;

/// Runs a job on recorders; `open` may refuse one.
fn run_with(
    job: &BenchJob,
    inputs: &BenchInputs,
    runs: &Runs,
    open: &mut dyn FnMut(Dtype) -> Result<usize, EngineError>,
    interrupted: &AtomicBool,
) -> BenchFinished {
    run_and_tell(job, inputs, runs, open, (&mut |_| (), interrupted))
}

/// The same, and what is emitted.
pub(crate) fn run_and_tell(
    job: &BenchJob,
    inputs: &BenchInputs,
    runs: &Runs,
    open: &mut dyn FnMut(Dtype) -> Result<usize, EngineError>,
    (emit, interrupted): (&mut dyn FnMut(Event), &AtomicBool),
) -> BenchFinished {
    let mut open_engine = |variant: &Variant, _: &Target| {
        let precision = variant.precision.unwrap();
        let missing = open(precision)?;
        let engine = Recorder { info: info(precision), runs: Arc::clone(runs), missing };
        Ok(Box::new(engine) as Box<dyn Engine>)
    };
    evaluate(job, inputs, &mut JobContext { open_engine: &mut open_engine, emit, interrupted }).unwrap()
}

pub(crate) fn inputs(job: &BenchJob, folder: &Path, workload: Workload) -> Result<BenchInputs, JobError> {
    BenchInputs::new(job, Arc::new(open(&folder.join("m")).unwrap()), workload)
}

#[test]
fn every_part_asks_for_what_it_says() {
    let folder = tiny();
    let job = BenchJob { target: scripted::target("m", &[Dtype::F16]), ..job() };
    let inputs = inputs(&job, folder.path(), workload(20)).unwrap();
    let runs = Runs::default();
    let finished = run_with(&job, &inputs, &runs, &mut |_| Ok(0), &AtomicBool::new(false));
    let runs = runs.lock().unwrap();
    let shapes: Vec<Vec<(usize, usize)>> = runs
        .iter()
        .map(|requests| {
            let shape = |request: &Request| {
                let Work::Generate(options) = &request.work else { panic!() };
                let plain = GenerateOptions { max_tokens: options.max_tokens, ignore_eos: true, ..Default::default() };
                assert_eq!(*options, plain, "greedy, ends of sequence ignored");
                (request.prompt.token_ids.len(), options.max_tokens)
            };
            requests.iter().map(shape).collect()
        })
        .collect();
    assert_eq!(
        shapes,
        [
            vec![(128, 1)],
            vec![(128, 1)],
            vec![(128, 8)],
            vec![(128, 129)],
            vec![(128, 129)],
            vec![(128, 8); 32],
            vec![(128, 64); 3],
            vec![(30, 1), (40, 2), (50, 3)],
        ]
    );
    let prompts: Vec<&Vec<u32>> = runs.iter().flatten().map(|request| &request.prompt.token_ids).collect();
    assert!(prompts.iter().all(|ids| ids.iter().all(|id| (5..600).contains(id))));
    assert_eq!(prompts.iter().collect::<HashSet<_>>().len(), prompts.len(), "no prompt is asked twice");
    let last = &runs[7];
    assert!(last.iter().all(|request| request.prompt.token_ids[..20] == last[0].prompt.token_ids[..20]));
    assert_ne!(last[0].prompt.token_ids[20..30], last[1].prompt.token_ids[20..30]);

    let f16 = &finished.record.dtypes[0];
    assert!(finished.record.complete && finished.failures.is_empty() && !finished.record.interrupted);
    // By the recorder's clock: half a second in the queue, a second to the first token, 129 in all.
    let ttft = f16.ttft_milliseconds().unwrap();
    assert_eq!((ttft.median, ttft.minimum, ttft.maximum), (1500.0, 1500.0, 1500.0));
    assert_eq!(f16.decode_tokens_per_second().unwrap().median, 1.0);
    assert!(f16.loads.iter().all(|load| load.first_token_seconds >= 1.5 && load.seconds < 1.0));
    assert_eq!(f16.loads[0].engine.total_seconds, 0.75);
    let (alike, many) = (f16.concurrent.unwrap(), f16.workload.unwrap());
    assert_eq!((alike.requests, alike.prompt_tokens, alike.output_tokens), (3, 384, 192));
    assert_eq!((many.requests, many.prompt_tokens, many.output_tokens), (3, 120, 6));
    assert_eq!(many.output_tokens_per_second, 6.0 / many.seconds);
    assert!(finished.record.notes.iter().any(|note| note.contains("first 3 of the 5")), "{:?}", finished.record.notes);
    assert!(finished.record.notes.iter().any(|note| note.contains("same 20 tokens")));
}

#[test]
fn only_the_parts_that_are_asked_for_run() {
    let folder = tiny();
    for (part, runs_expected) in [
        ("load", vec![1, 1]),
        ("single", vec![1, 1, 1, 1]),
        ("concurrent", vec![1, 1, 32, 3]),
        ("workload", vec![1, 1, 32, 3]),
    ] {
        let job = BenchJob { target: scripted::target("m", &[Dtype::F16]), parts: vec![part.to_owned()], ..job() };
        let inputs = inputs(&job, folder.path(), workload(0)).unwrap();
        let runs = Runs::default();
        let finished = run_with(&job, &inputs, &runs, &mut |_| Ok(0), &AtomicBool::new(false));
        assert_eq!(runs.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>(), runs_expected, "{part:?}");
        let report = &finished.report;
        assert_eq!(report.contains("\nLoad, 2 times"), part == "load", "{report}");
        assert_eq!(report.contains("\nOne request of 128"), part == "single", "{report}");
        let many = ["concurrent", "workload"].contains(&part);
        assert_eq!(report.contains("\nMany requests at once"), many, "{report}");
        // Of the two kinds of many requests, only that which was measured is described and has columns.
        for (kind, words) in
            [("concurrent", &["\nalike ", "alike tok/s"][..]), ("workload", &["\nworkload ", "workload s"])]
        {
            assert!(words.iter().all(|word| report.contains(word) == (part == kind)), "{part:?}: {report}");
        }
        let page = render_bench(&finished.record, &Format::Markdown).unwrap();
        assert_eq!(page.contains("| alike |"), part == "concurrent", "{page}");
        assert_eq!(page.contains("| workload |"), part == "workload", "{page}");
    }
}

#[test]
fn a_failing_precision_leaves_the_others_alone() {
    let folder = tiny();
    let job = job();
    let inputs = inputs(&job, folder.path(), workload(0)).unwrap();
    let mut refuse = |dtype| match dtype {
        Dtype::F32 => Err(EngineError::failed("the card is gone", "look for it")),
        _ => Ok(0),
    };
    let finished = run_with(&job, &inputs, &Runs::default(), &mut refuse, &AtomicBool::new(false));
    assert_eq!(finished.failures.len(), 1);
    assert!(!finished.record.complete && finished.record.rows.len() == 1);
    assert!(finished.record.dtypes[0].failure.as_deref().unwrap().contains("the card is gone"));
    assert!(finished.record.dtypes[1].workload.is_some());
    assert!(finished.report.contains("f32 did not finish: the card is gone"), "{}", finished.report);

    let finished = run_with(&job, &inputs, &Runs::default(), &mut |_| Ok(1), &AtomicBool::new(false));
    let error = finished.record.dtypes[1].failure.clone().unwrap();
    assert!(error.contains("gave 0 of 1 tokens of request 0") && error.contains("hint: "), "{error}");
    assert!(finished.failures.iter().all(|(_, error)| error.is_engine_failure()));
}

#[test]
fn an_interruption_keeps_what_was_measured() {
    let folder = tiny();
    let job = job();
    let inputs = inputs(&job, folder.path(), workload(0)).unwrap();
    let interrupted = AtomicBool::new(false);
    let mut opened = 0;
    let mut open = |_| {
        opened += 1;
        // The third opening is the second precision's first.
        interrupted.fetch_or(opened == 3, Ordering::Relaxed);
        Ok(0)
    };
    let finished = run_with(&job, &inputs, &Runs::default(), &mut open, &interrupted);
    assert!(finished.record.interrupted && finished.failures.is_empty() && !finished.record.complete);
    assert!(finished.record.dtypes[0].workload.is_some());
    assert!(finished.record.dtypes[1].workload.is_none() && finished.record.dtypes[1].singles.is_empty());
    assert!(finished.report.contains("interrupted: what is missing"), "{}", finished.report);
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_loads() {
    let folder = tiny();
    let error = |job: &BenchJob, workload: Workload| {
        let error = inputs(job, folder.path(), workload).unwrap_err().to_string();
        assert!(error.contains("\nhint: "), "{error}");
        error
    };
    let long = workload(1000);
    assert!(error(&job(), long.clone()).contains("the workload part has requests of 1033 tokens"), "30 + 3 + 1000");
    let without = BenchJob { parts: vec!["single".to_owned()], ..job() };
    assert!(inputs(&without, folder.path(), long).is_ok());
    let words = BenchInputs::new(&job(), scripted::model(None), workload(0)).unwrap_err().to_string();
    assert!(words.contains("has 4 tokens: none to choose"), "{words}");
    let awq = BenchJob { target: scripted::target("m", &[Dtype::Awq]), ..job() };
    assert!(error(&awq, workload(0)).contains("no AWQ weights"));
}

fn bench(arguments: &[&str]) -> Output {
    evalsuite().arg("bench").args(arguments).output().expect("the program starts")
}

/// Begins `bench` where the shell did `before`, sends it `signal` once an engine is ready; exit code and what was told.
fn signalled(before: &str, arguments: &[&str], signal: &str) -> (Option<i32>, String) {
    let script = format!("{before}; exec \"$0\" bench \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_evalsuite")]).args(arguments);
    let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh starts");
    let (output, told) = crate::signal_when(child, ": ready in ", signal);
    (output.status.code(), told)
}

/// `nohup` ignores the end of a terminal; catching it all the same ended runs with it.
#[test]
fn a_signal_that_whoever_began_the_run_ignores_is_ignored() {
    let short = ["--only", "single", "--repeats", "20", "--dtype", "f32", "--engine", "cpu"];
    let (code, told) = signalled("trap '' HUP", &short, "-HUP");
    assert!(code == Some(0) && !told.contains("interrupted"), "{code:?}: {told}");
    let long = ["--only", "single", "--repeats", "3000", "--dtype", "f32", "--engine", "cpu"];
    let (code, told) = signalled("true", &long, "-HUP");
    assert!(code == Some(130) && told.contains("interrupted"), "{code:?}: {told}");
}

#[test]
fn what_is_interrupted_replaces_no_results() {
    let folder = tempfile::tempdir().unwrap();
    let out = written(folder.path(), "full.json", &json!("what was measured before"));
    let long = ["--only", "single", "--repeats", "3000", "--dtype", "f32", "--engine", "cpu", "--out", &out];
    let (code, told) = signalled("true", &long, "-INT");
    assert!(code == Some(130) && told.contains("results: none written, for "), "{code:?}: {told}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "\"what was measured before\"");
}

#[test]
fn what_was_measured_is_kept_where_it_cannot_be_printed() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("bad.tera");
    std::fs::write(&template, "{{ x.y }").unwrap();
    let output = bench(&["--only", "load", "--template", template.to_str().unwrap()]);
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains("bad.tera: "), "{told}");
    assert!(!told.contains("loading"), "it ran before it looked at the template: {told}");
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        crate::skip::skip("/dev/full", "no /dev/full to print to");
        return;
    };
    let out = folder.path().join("out.json");
    let status = evalsuite()
        .args(["bench", "--only", "load", "--repeats", "1", "--dtype", "f32", "--engine", "cpu", "--out"])
        .arg(&out)
        .stdout(full)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(BenchRecord::read(&out).unwrap().unwrap().complete);
}

pub(crate) fn written(folder: &Path, name: &str, value: &Value) -> String {
    let path = folder.join(name);
    std::fs::write(&path, value.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn the_command_leaves_a_record_of_everything() {
    let folder = tiny();
    let path = |name: &str| folder.path().join(name).display().to_string();
    synth::made(&synth::job(evalsuite::synth::SynthFormat::Awq { group_size: 32 }, PathBuf::from(path("m-awq"))));
    let workload = json!({"name": "two", "requests": vec![json!({"prompt_tokens": 9, "output_tokens": 4}); 2]});
    let workload = written(folder.path(), "w.json", &workload);
    let peers = json!({"machine": "a card", "date": "2026-01-01", "rows": [
        {"engine": "Peer 1.0 (fast)", "dtype": "f16", "load_s": 9.5, "b1_ttft_ms": 4.5, "b1_decode_tok_s": 700.4,
         "gsm8k_shape_tok_s": 44490, "note": "measured with great care on a machine far away, by somebody else"},
        {"engine": "Peer 1.0", "dtype": "bf16", "load_s": 1}]});
    let peers = written(folder.path(), "peers.json", &peers);
    let model = path("m");
    let arguments = [
        "--model",
        &model,
        "--dtype",
        "awq,f16",
        "--requests",
        "4",
        "--repeats",
        "3",
        "--seed",
        "11",
        "--workload",
        &workload,
        "--vs",
        &peers,
        "--threads",
        "2",
        "--engine",
        "cpu",
        "--out",
        &path("bench.json"),
    ];
    let output = bench(&arguments);
    let (table, progress) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{progress}");
    for part in
        ["Load, 3 times", "One request of 128 prompt and 129", "4 requests, 128 prompt and 64", "two: 2 requests"]
    {
        assert!(table.contains(part), "{part} is not in:\n{table}");
    }
    assert!(table.contains("[1] Peer 1.0 (fast); measured with great care"), "{table}");
    let peer = table.lines().find(|line| line.contains("Peer 1.0 [1]") && line.contains("700"));
    assert!(peer.is_some() && !table.contains("bf16"), "{table}");
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    assert!(progress.contains("f16   workload: 2/2 done") && progress.contains("tokens/s"), "{progress}");

    let record = BenchRecord::read(&folder.path().join("bench.json")).unwrap().unwrap();
    assert!(record.complete);
    assert_eq!(record.invocation.evalsuite, env!("CARGO_PKG_VERSION"));
    assert_eq!((record.target.model.sha256.as_ref().unwrap().len(), record.plan.workload.sha256.len()), (64, 64));
    assert_eq!(record.target.awq.as_ref().unwrap().stored_as, "awq-int4 (group 32)");
    assert_eq!((record.plan.seed, record.plan.repeats, record.threads), (11, 3, 2));
    assert_eq!((record.plan.workload.requests, record.plan.workload.output_tokens), (2, 8));
    assert_eq!(record.invocation.command[1..=2], ["bench", "--model"]);
    assert!(record.finished >= record.invocation.started && record.invocation.started.ends_with('Z'));
    assert!(!record.machine.cpu.is_empty());
    assert_eq!(record.dtypes.iter().map(|dtype| dtype.dtype.clone()).collect::<Vec<_>>(), [Dtype::F16, Dtype::Awq]);
    for dtype in &record.dtypes {
        let engine = dtype.engine.as_ref().unwrap();
        assert_eq!((engine.name.as_str(), engine.dtype), ("cpu", dtype.dtype.precision()));
        assert!(engine.device.contains("2 threads"));
        assert_eq!((dtype.loads.len(), dtype.singles.len()), (3, 3));
        assert!(dtype.loads.iter().all(|load| load.first_token_seconds > load.seconds && load.seconds > 0.0));
        for single in &dtype.singles {
            assert!(
                single.first_token_seconds.unwrap() > 0.0 && Some(single.latency_seconds) > single.first_token_seconds
            );
            assert!(single.wall_seconds >= single.latency_seconds && single.output_tokens == 129);
        }
        assert_eq!(dtype.concurrent.unwrap().output_tokens, 256);
        assert_eq!(dtype.workload.unwrap().prompt_tokens, 18);
        assert!(dtype.read_through.unwrap().bytes > 100_000);
        assert!(dtype.peak_memory.is_none_or(|peak| peak.bytes > 1_000_000));
    }
    let (f16, row) = (&record.dtypes[0], &record.rows[0]);
    assert_eq!(row.b1_ttft_ms, f16.ttft_milliseconds().map(|range| range.median));
    assert_eq!(row.req500_128_64_tok_s, None, "four requests are not 500");
    assert_eq!(row.note.as_deref(), Some("workload two, 2 of 2 requests"));
    assert_eq!(row.engine, format!("evalsuite cpu {}", env!("CARGO_PKG_VERSION")));

    // The record is shown again, and is itself a file of rows.
    let again = |arguments: &[&str]| {
        let output = evalsuite().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let written = path("bench.json");
    assert_eq!(again(&["show", &written]), table);
    let page = again(&["show", &written, "--format", "markdown"]);
    assert!(page.contains("| f16 | cpu ") && page.contains(record.target.model.sha256.as_ref().unwrap()), "{page}");
    let same: Value = serde_json::from_str(&again(&["show", &written, "--format", "json"])).unwrap();
    let written_text = std::fs::read_to_string(&written).unwrap();
    assert_eq!(same, serde_json::from_str::<Value>(&crate::without_checksums(&written_text)).unwrap());
    let beside = again(&["bench", "--model", &model, "--dtype", "f16", "--only", "load", "--vs", &written]);
    assert!(beside.contains("evalsuite cpu") && beside.contains("bench.json"), "{beside}");
    assert!(!beside.contains("alike") && !beside.contains("gsm8k-shape"), "neither was a part: {beside}");
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let bad = written(folder.path(), "bad.json", &json!({"requests": [{"prompt_tokens": 0, "output_tokens": 1}]}));
    let folder_path = folder.path().display().to_string();
    for (flags, part) in [
        (&["--only", "lod"][..], "did you mean `load`"),
        (&["--repeats", "0"], "--repeats 0"),
        (&["--requests", "0"], "--requests 0"),
        (&["--batch", "0"], "--batch 0"),
        (&["--batch", "18446744073709551615"], "--batch 18446744073709551615 is more than 65536"),
        (&["--threads", "0"], "--threads 0"),
        (&["--dtype", "f-16"], "did you mean `f16`"),
        (&["--engine", "cpuu"], "did you mean `cpu`"),
        (&["--only", "single", "--workload", "w.json"], "--workload has no use"),
        (&["--only", "single", "--shared-prefix", "9"], "--shared-prefix has no use"),
        (&["--workload", "/no/such.json"], "cannot read the workload /no/such.json"),
        (&["--workload", &bad], "requests[0].prompt_tokens is 0"),
        (&["--vs", "/no/such.json"], "cannot read --vs /no/such.json"),
        (&["--vs", &bad], "`rows` is missing"),
        (&["--out", &folder_path], "is a folder"),
        (&["--out", "/no/such/folder/b.json"], "there is no folder"),
        (&["--shared-prefix", "5000"], "context holds 1024"),
        (&["--shared-prefix", "18446744073709551615"], "context holds 1024"),
        (&["--threads", "100000"], "--threads 100000 is more than 1024"),
        (&["--format", "tabel"], "unknown format"),
        (&["--dtype", "f32", "--device", "1", "--only", "load"], "--device 1"),
    ] {
        let output = bench(flags);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {message}");
        assert!(message.contains(part) && message.contains("hint: "), "{flags:?}: {message}");
        assert!(!message.contains("panicked"), "{flags:?}: {message}");
    }
}

/// The shared folder's figures are such rows too.
#[test]
fn published_figures_are_read_and_fit_the_page() {
    let Some(figures) = crate::shared_file("peers/figures.json") else { return };
    let folder = tiny();
    let job = BenchJob { peers: Some(figures), ..job() };
    let inputs = inputs(&job, folder.path(), workload(0)).unwrap();
    assert_eq!(inputs.peers.as_ref().unwrap().rows.len(), 5, "two of transformers, three of vLLM");
    let finished = run_with(&job, &inputs, &Runs::default(), &mut |_| Ok(0), &AtomicBool::new(false));
    assert!(finished.report.contains("vLLM 0.24.0 [3]"), "{}", finished.report);
    for line in finished.report.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    let Some(lengths) = crate::shared_file("workloads/gsm8k-shape.json") else { return };
    let workload = Workload::open(&lengths).unwrap();
    assert_eq!((workload.name.as_str(), workload.requests.len()), ("gsm8k-shape", 1319));
    let tokens = |workload: &Workload| workload.requests.iter().map(|r| r.prompt_tokens).sum::<usize>() as f64;
    let ratio = tokens(&Workload::gsm8k_like()) / tokens(&workload);
    assert!((ratio - 1.0).abs() < 0.01, "the built-in workload's prompts are {ratio} times as long");
}

#[test]
fn the_lengths_of_a_finished_run_are_a_workload() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("zero-shot");
    let run = scripted::evaluate(&scripted::job(folder.clone()), &scripted::inputs()).unwrap();
    let (record, _) = run.results.unwrap();
    let workload = Workload::open(&folder).unwrap();
    assert_eq!((workload.name.as_str(), workload.shared_prefix_tokens), ("zero-shot", 0));
    assert_eq!(workload.requests.len(), record.dtypes[0].n);
    let journal = std::fs::read_to_string(folder.join("f32/journal.jsonl")).unwrap();
    let first: serde_json::Value = journal
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .min_by_key(|line: &serde_json::Value| line["sample"].as_u64())
        .unwrap();
    let lengths = workload.requests[0];
    assert_eq!(Some(lengths.prompt_tokens as u64), first["prompt_tokens"].as_u64());
    assert_eq!(lengths.output_tokens, first["token_ids"].as_array().unwrap().len());
    // A folder that is no run says so.
    let error = Workload::open(scratch.path()).unwrap_err().to_string();
    assert!(error.contains("hint: "), "{error}");
}
