//! Sweeps and cold starts: on engines that tell what they were asked, as commands, and side by side in reports.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser as _;
use evalsuite::cli::{Arguments, Command as Typed, resolve_bench};
use evalsuite::engine::{Dtype, Request, Work};
use evalsuite::jobs::Event;
use evalsuite::jobs::bench::{BenchJob, BenchRecord};
use evalsuite::record::SweepAxis;
use serde_json::{Value, json};

use crate::bench::{Runs, inputs, job, run_and_tell, tiny, workload, written};
use crate::devtools::{Page, chromium};
use crate::program::{evalsuite, mistake, text};
use crate::scripted;

fn sweep_of(requests: Option<usize>, repeats: usize) -> BenchJob {
    BenchJob {
        target: scripted::target("m", &[Dtype::F16]),
        parts: vec!["sweep".to_owned()],
        requests,
        repeats,
        ..job()
    }
}

/// Requests and lengths of every call of the engine; they must be greedy and of one length.
fn shapes(runs: &Runs) -> Vec<(usize, usize, usize)> {
    let shape = |requests: &Vec<Request>| {
        let lengths: HashSet<(usize, usize)> = requests
            .iter()
            .map(|request| {
                let Work::Generate(options) = &request.work else { panic!("a benchmark only generates") };
                assert!(options.ignore_eos && options.sampling.temperature == 0.0);
                (request.prompt.token_ids.len(), options.max_tokens)
            })
            .collect();
        assert_eq!(lengths.len(), 1, "{lengths:?}");
        let (prompt, output) = lengths.into_iter().next().unwrap();
        (requests.len(), prompt, output)
    };
    runs.lock().unwrap().iter().map(shape).collect()
}

#[test]
fn a_sweep_runs_the_published_points_each_once_more_than_it_counts() {
    let folder = tiny();
    let job = sweep_of(None, 2);
    let inputs = inputs(&job, folder.path(), workload(0)).unwrap();
    let runs = Runs::default();
    let finished = run_and_tell(&job, &inputs, &runs, &mut |_| Ok(0), (&mut |_| (), &AtomicBool::new(false)));
    let mut wanted = vec![(1, 128, 1)];
    for (requests, prompt, output) in [1, 2, 4, 8, 16, 32]
        .map(|batch| (batch, 128, 64))
        .into_iter()
        .chain([32, 64, 128, 256, 512].map(|length| (64, length, length)))
        .chain([10, 50, 100, 200, 500].map(|requests| (requests, 128, 64)))
    {
        wanted.extend([(requests, prompt, output); 3]);
    }
    assert_eq!(shapes(&runs), wanted);
    let runs = runs.lock().unwrap();
    let prompts: Vec<&[u32]> = runs.iter().flatten().map(|request| &request.prompt.token_ids[..32]).collect();
    assert_eq!(prompts.iter().collect::<HashSet<_>>().len(), prompts.len(), "no prompt begins as another does");

    let f16 = &finished.record.dtypes[0];
    assert!(finished.record.complete && f16.sweeps.len() == 16 && f16.singles.is_empty() && f16.concurrent.is_none());
    for measured in &f16.sweeps {
        assert_eq!(measured.runs.len(), 2);
        // The recorder's clock: half a second in the queue, one to the first token, a second a token.
        let output = measured.point.lengths.output_tokens as f64;
        for run in &measured.runs {
            assert_eq!((run.first_token_seconds, run.latency_seconds), (Some(1.5), 0.5 + output));
        }
        let (speed, seconds) = (measured.tokens_per_second().unwrap(), measured.seconds().unwrap());
        let tokens = (measured.point.lengths.requests * measured.point.lengths.output_tokens) as f64;
        assert_eq!((speed.n, speed.maximum), (2, tokens / seconds.minimum));
        assert!(speed.deviation.is_some());
    }
    // The row is what `--vs` reads elsewhere.
    let row = &finished.record.rows[0];
    let batch = &row.sweeps[&SweepAxis::Batch];
    assert_eq!(batch.keys().copied().collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32]);
    assert_eq!(batch[&8], f16.sweeps[3].tokens_per_second().unwrap().median);
    assert!(finished.report.contains("Sweep of batch: n requests at once of 128 prompt and 64 output tokens"));
    assert!(finished.report.contains("Sweep of length: 64 requests at once"), "{}", finished.report);
}

#[test]
fn what_was_measured_of_a_sweep_is_kept_when_it_is_broken_off() {
    let folder = tiny();
    let job = sweep_of(Some(2), 3);
    let inputs = inputs(&job, folder.path(), workload(0)).unwrap();
    let interrupted = AtomicBool::new(false);
    let mut reports = 0;
    let mut emit = |event: Event| {
        // After each generation of a point one report of progress says that it is done: the fifth is the second point's warm-up.
        reports += usize::from(matches!(&event, Event::Progress(progress) if progress.is_done()));
        interrupted.fetch_or(reports == 6, Ordering::Relaxed);
    };
    let finished = run_and_tell(&job, &inputs, &Runs::default(), &mut |_| Ok(0), (&mut emit, &interrupted));
    assert!(finished.record.interrupted && !finished.record.complete && finished.failures.is_empty());
    let kept: Vec<(usize, usize)> =
        finished.record.dtypes[0].sweeps.iter().map(|measured| (measured.point.at, measured.runs.len())).collect();
    assert_eq!(kept, [(1, 3), (2, 1)]);
    assert!(finished.report.contains("interrupted: what is missing"), "{}", finished.report);
}

#[test]
fn an_engine_that_gives_too_few_tokens_fails_at_the_point() {
    let folder = tiny();
    let job = sweep_of(Some(2), 1);
    let inputs = inputs(&job, folder.path(), workload(0)).unwrap();
    // It owes each request a token: the first token after loading is one already.
    let finished =
        run_and_tell(&job, &inputs, &Runs::default(), &mut |_| Ok(1), (&mut |_| (), &AtomicBool::new(false)));
    assert_eq!(finished.failures.len(), 1);
    assert!(finished.record.dtypes[0].failure.as_ref().unwrap().contains("0 of 1 tokens"));
}

#[test]
fn sweeps_and_cold_starts_run_only_where_they_are_named() {
    let parts = |words: &[&str]| {
        let words = ["evalsuite", "bench"].iter().chain(words);
        let Typed::Bench(arguments) = Arguments::try_parse_from(words).unwrap().command else {
            panic!("another command")
        };
        resolve_bench(&arguments, Vec::new(), false).unwrap().parts
    };
    assert_eq!(parts(&[]), ["load", "single", "concurrent", "workload"]);
    assert_eq!(parts(&["--only", "startup,sweep"]), ["sweep", "startup"]);
    assert_eq!(parts(&["--only", "sweep,load"]), ["load", "sweep"]);
}

#[test]
fn a_cold_start_opens_the_engine_once_more_and_its_load_counts_apart() {
    let folder = tiny();
    let job = BenchJob { parts: vec!["startup".to_owned()], ..sweep_of(None, 2) };
    let inputs = inputs(&job, folder.path(), workload(0)).unwrap();
    let (runs, mut opened) = (Runs::default(), 0);
    let mut open = |_| {
        opened += 1;
        Ok(0)
    };
    let finished = run_and_tell(&job, &inputs, &runs, &mut open, (&mut |_| (), &AtomicBool::new(false)));
    assert_eq!(opened, 3);
    assert_eq!(shapes(&runs), [(1, 128, 1); 3]);
    let f16 = &finished.record.dtypes[0];
    assert_eq!((f16.loads.len(), f16.read_through), (2, None), "nothing read the weights before");
    let cold = f16.cold_load.unwrap();
    assert!(cold.run.first_token_seconds >= 1.5 && cold.run.seconds < 1.0);
    let file = folder.path().join("m/model.safetensors").metadata().unwrap().len();
    assert_eq!(cold.weight_file_bytes, Some(file));
    let row = |state: &str| {
        let is_row = |line: &&str| line.starts_with("f16 ") && line.contains(state);
        let line = finished.report.lines().find(is_row).unwrap_or_default().to_owned();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    // By the recorder's clock it read for a quarter of a second, prepared for half a one, and took 1.5 s to the first token.
    for state in ["cold", "warm"] {
        let cells = row(&format!(" {state} "));
        assert!(["0.250", "0.500", "1.50"].iter().all(|part| cells.contains(&(*part).to_owned())), "{cells:?}");
    }
    let plain = run_and_tell(
        &BenchJob { parts: vec!["load".to_owned()], ..job },
        &inputs,
        &Runs::default(),
        &mut |_| Ok(0),
        (&mut |_| (), &AtomicBool::new(false)),
    );
    assert!(plain.record.dtypes[0].cold_load.is_none() && plain.record.dtypes[0].read_through.is_some());
}

#[test]
fn a_cold_load_reads_the_disk_and_warm_ones_do_not() {
    // Beside the build: a folder for temporary files may lie in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let model = folder.path().join("m").display().to_string();
    said(&["synth", "--shape", "smollm2-135m", "--layers", "1", "--dtype", "f16", "--out", &model]);
    let out = folder.path().join("out.json");
    let flags = ["--dtype", "f16", "--engine", "cpu", "--only", "startup", "--repeats", "2", "--out"];
    let table = said(&[&["bench", "--model", &model][..], &flags, &[out.to_str().unwrap()]].concat());
    let record = BenchRecord::read(&out).unwrap().unwrap();
    let f16 = &record.dtypes[0];
    let (cold, bytes) = (f16.cold_load.unwrap().run, f16.cold_load.unwrap().weight_file_bytes.unwrap());
    assert!(f16.loads.iter().all(|load| load.disk_bytes.is_none_or(|read| read < bytes / 10)), "{:?}", f16.loads);
    if cold.disk_bytes.is_none_or(|read| read == 0) {
        crate::skip::skip("disk", "this system's disk does not tell what is read from it");
        return;
    }
    assert!(cold.disk_bytes.unwrap() >= bytes, "{cold:?}: {bytes} bytes of weights");
    assert!(table.contains("weights  on the disk alone before the cold load"), "{table}");
}

fn said(arguments: &[&str]) -> String {
    let output = evalsuite().args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Two records of tiny sweeps and loads of the tiny checkpoint, and others' figures: (folder, before, after, peers).
fn measured() -> (tempfile::TempDir, String, String, String) {
    let folder = tiny();
    let model = folder.path().join("m").display().to_string();
    let record = |name: &str, seed: &str| {
        let out = folder.path().join(name).display().to_string();
        let parts = ["--only", "sweep,startup,single", "--requests", "2", "--repeats", "2", "--dtype", "f16"];
        said(&[&["bench", "--model", &model, "--engine", "cpu", "--seed", seed, "--out", &out][..], &parts].concat());
        out
    };
    let (before, after) = (record("before.json", "1"), record("after.json", "2"));
    let peers = json!({"machine": "an H<200>", "date": "2026-01-01", "rows": [
        {"engine": "Peer & Co 1.0, tuned", "precision": "f16", "load_seconds": 52.0,
         "sweeps": {"batch": {"1": 433.0, "2": 895.3, "4": 1648.1}}, "note": "best of three"}]});
    let peers = written(folder.path(), "peers.json", &peers);
    (folder, before, after, peers)
}

#[test]
fn benchmarks_stand_side_by_side_in_every_format() {
    let (folder, before, after, peers) = measured();
    let record = BenchRecord::read(Path::new(&before)).unwrap().unwrap();
    let points: Vec<(SweepAxis, usize)> =
        record.dtypes[0].sweeps.iter().map(|measured| (measured.point.sweep, measured.point.at)).collect();
    assert_eq!(points.len(), 2 + 5, "{points:?}");
    assert!(record.notes.iter().any(|note| note.contains("the requests sweep is without 10, 50, 100, 200, 500")));

    // The bench's own table, with others' figures.
    let shown = said(&["show", &before]);
    assert!(shown.contains("Sweep of length: 2 requests at once") && shown.contains("Startup, once cold"), "{shown}");
    for line in shown.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}\n{shown}", line.chars().count());
    }
    let report = |more: &[&str]| said(&[&["report", &before, &after, "--vs", &peers][..], more].concat());
    let terminal = report(&[]);
    for line in terminal.lines().filter(|line| !line.contains(folder.path().to_str().unwrap())) {
        assert!(line.chars().count() <= 80, "{} columns: {line}\n{terminal}", line.chars().count());
    }
    let header = terminal.lines().find(|line| line.starts_with("requests ")).unwrap();
    assert!(header.contains("before f16  after f16  Peer & Co 1.0 f16"), "{terminal}");
    let words = crate::program::flowing(&terminal);
    assert!(
        words.contains("Peer & Co 1.0, tuned, from peers.json (an H<200>; 2026-01-01); best of three"),
        "{terminal}"
    );

    // Every figure of CSV and JSON is the record's.
    let csv = report(&["--format", "csv"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let column = |name: &str| header.iter().position(|own| own == name).unwrap_or_else(|| panic!("no {name}"));
    let cell = |row: &csv::StringRecord, name: &str| row[column(name)].to_owned();
    let find = |series: &str, part: &str, at: &str, figure: &str| {
        let is_it = |row: &&csv::StringRecord| {
            [("series", series), ("part", part), ("at", at), ("figure", figure)].iter().all(|(k, v)| cell(row, k) == *v)
        };
        let found: Vec<_> = rows.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{series} {part} {at} {figure}");
        found[0].clone()
    };
    let length = &record.dtypes[0].sweeps[3];
    assert_eq!((length.point.sweep, length.point.at), (SweepAxis::Length, 64));
    let row = find("before f16", "sweep length", "64", "output tokens/s");
    let spread = length.tokens_per_second().unwrap();
    for (name, value) in [
        ("median", Some(spread.median)),
        ("minimum", Some(spread.minimum)),
        ("maximum", Some(spread.maximum)),
        ("mean", Some(spread.mean)),
        ("deviation", spread.deviation),
        ("n", Some(2.0)),
    ] {
        assert_eq!(cell(&row, name).parse::<f64>().ok(), value, "{name}");
    }
    assert_eq!(cell(&find("Peer & Co 1.0 f16", "sweep batch", "2", "output tokens/s"), "median"), "895.3");
    assert!(!rows.iter().any(|row| cell(row, "at") == "4"), "nothing was measured there");
    let json: Value = serde_json::from_str(&report(&["--format", "json"])).unwrap();
    assert_eq!((&json["kind"], &json["format"]), (&"figures".into(), &1.into()));
    assert_eq!(json["figures"].as_array().unwrap().len(), rows.len());
    assert_eq!(json["records"][1]["name"], "after");

    let markdown = report(&["--format", "markdown"]);
    assert!(markdown.contains("| requests | before f16 | after f16 | Peer & Co 1.0 f16 |"), "{markdown}");
    assert!(markdown.contains("| requests |  | output tokens/s | min–max | mean ± sd | times |"), "{markdown}");
    let page = report(&["--format", "html"]);
    assert_eq!(page.matches("<svg").count(), 2, "the third sweep has no point");
    assert!(page.contains("an H&lt;200&gt;") && !page.contains("H<200>"), "what others wrote is text");
    assert!(page.contains("<title>Peer &amp; Co 1.0 f16 at 2: 895 output tokens/s</title>"), "{page}");
    // A benchmark's own page, and that of a record.
    let own = said(&["show", &before, "--format", "html"]);
    assert!(own.matches("<svg").count() == 2 && own.starts_with("<!doctype html>"));
}

#[test]
fn load_tests_join_reports_by_users_and_by_rate() {
    let folder = tempfile::tempdir().unwrap();
    let record = |name: &str, level: &[&str]| {
        let out = folder.path().join(name).display().to_string();
        let fixed =
            ["load", "--dtype", "f32", "--engine", "cpu", "--requests", "6", "--max-tokens", "8", "--out", &out];
        said(&[&fixed[..], level].concat());
        out
    };
    let (users, rate) = (record("users.json", &["--users", "1,2"]), record("rate.json", &["--rate", "50"]));
    let stored = evalsuite::jobs::load::LoadRecord::read(Path::new(&users)).unwrap().unwrap();
    let json: Value = serde_json::from_str(&said(&["report", &users, &rate, "--format", "json"])).unwrap();
    let parts: Vec<&str> =
        json["parts"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!(parts, ["load users", "load requests/s"]);
    for (level, at) in stored.variants[0].levels.iter().zip([1.0, 2.0]) {
        let find = |name: &str| {
            let figures = json["figures"].as_array().unwrap().iter();
            let is_it = |one: &&Value| one["series"] == 0 && one["at"] == at && one["name"] == name;
            let found: Vec<_> = figures.filter(is_it).collect();
            assert_eq!(found.len(), 1, "{name} at {at}");
            found[0]["median"].as_f64()
        };
        assert_eq!(find("output tokens/s"), level.figures.output_tokens_per_second);
        assert_eq!(find("TTFT 99 %"), level.figures.ttft.map(|ttft| ttft.p99 * 1e3));
        assert_eq!((find("answered"), find("failed")), (Some(6.0), Some(0.0)));
    }
    let page = said(&["report", &users, &rate, "--format", "html"]);
    assert_eq!(page.matches("<svg").count(), 8, "by users and by rate: tokens/s, TTFT twice, ITL");
    let table = said(&["report", &users]);
    assert!(table.contains("Load by users") && table.lines().any(|line| line.starts_with("users ")), "{table}");
}

#[test]
fn mistakes_about_benchmarks_in_reports_are_named() {
    let (folder, before, _, peers) = measured();
    let run = folder.path().join("run");
    scripted::evaluate(&scripted::job(run.clone()), &scripted::inputs()).unwrap();
    let run = run.display().to_string();
    let (before, run, peers) = (before.as_str(), run.as_str(), peers.as_str());
    for (arguments, part) in [
        (&[before, run][..], "is a record of speed"),
        (&[before, peers], "is a record of speed"),
        (&[before, "sweeps.json"], "sweeps.json is not there"),
        (&[before, "--format", "junit"], "--format junit is for runs"),
        (&[before, "--format", "htm"], "did you mean `html`"),
        (&[before, "--rule", "numeric"], "--rule is for runs"),
        (&[before, "--deny-notes"], "--deny-notes is for runs"),
        (&[before, "--baseline", run], "--baseline is for runs"),
        (&[before, "--vs", "/no/such.json"], "cannot read --vs"),
        (&[peers], "is not a folder"),
    ] {
        let message = mistake(&evalsuite().arg("report").args(arguments).output().unwrap());
        assert!(message.contains(part), "{arguments:?}: {message}");
    }
}

/// vLLM's figures lie in the repository in the format that `--vs` takes, for a model of this name.
#[test]
fn the_committed_figures_of_others_have_every_point() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/peers-opt-125m.json");
    let peers = evalsuite::record::Elsewhere::read(&path).unwrap();
    let [row] = &peers.rows[..] else { panic!("not one row") };
    assert_eq!((row.model.as_deref(), row.precision.as_str()), (Some("opt-125m"), "f16"));
    let points: Vec<usize> = row.sweeps.values().map(std::collections::BTreeMap::len).collect();
    assert_eq!(points, [6, 5, 5]);
    let Some(shared) = crate::shared_file("peers/figures.json") else { return };
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(shared).unwrap()).unwrap();
    let sweeps = &figures["opt_sweeps"];
    for (key, axis) in [
        ("batch (128 in, 64 out)", SweepAxis::Batch),
        ("length (64 requests, in = out)", SweepAxis::Length),
        ("requests (128 in, 64 out)", SweepAxis::Requests),
    ] {
        for (at, value) in sweeps[key].as_object().unwrap() {
            assert_eq!(Some(row.sweeps[&axis][&at.parse::<usize>().unwrap()]), value.as_f64(), "{key} {at}");
        }
    }
}

#[test]
fn the_page_of_sweeps_fits_a_phone_and_is_legible_in_both_colour_schemes() {
    let Some(chromium) = chromium() else { return };
    let (folder, before, after, peers) = measured();
    let file = folder.path().join("speed.html");
    let out = file.display().to_string();
    said(&["report", &before, &after, "--vs", &peers, "--format", "html", "--out", &out]);
    for dark in [false, true] {
        for (width, height) in [(390, 844), (1280, 900)] {
            let mut page = Page::open(&chromium, &file, (width, height), dark);
            let wider = page.js("document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(wider, 0, "nothing sticks out to the side");
            // In pixels of the screen: the letters of the axes.
            let letters =
                "Math.min(...[...document.querySelectorAll('.plot text')].map(t => t.getBoundingClientRect().height))";
            let height = page.js(letters).as_f64().unwrap();
            assert!(height >= 11.0, "letters of {height} pixels");
            // No two marks of an axis cover one another.
            let covered = "[...document.querySelectorAll('.plot svg')].some(s => { const b = [...s.querySelectorAll('text')]\
                           .map(t => t.getBoundingClientRect()); return b.some((x, i) => b.some((y, k) => k > i && x.left < y.right \
                           && y.left < x.right && x.top + 3 < y.bottom && y.top + 3 < x.bottom)); })";
            assert_eq!(page.js(covered), false);
            let paper = page.js("getComputedStyle(document.body).backgroundColor");
            let ink = page.js("getComputedStyle(document.querySelector('.plot text')).fill");
            assert_ne!(paper, ink);
            assert_eq!(page.errors, Vec::<String>::new());
            let outside: Vec<&String> =
                page.requests.iter().filter(|address| !address.starts_with("file://")).collect();
            assert!(outside.is_empty(), "the page asked for {outside:?}");
        }
    }
}
