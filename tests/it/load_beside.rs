//! Load tests beside others' figures and beside one another, by the program itself, on a stub.

use std::path::Path;

use evalsuite::jobs::load::LoadRecord;
use serde_json::{Value, json};

use crate::mock_server::{MockServer, models, stream};
use crate::program::{evalsuite, text};

fn server() -> MockServer {
    MockServer::start(|asked| {
        if asked.route == "GET /v1/models" {
            return models("small-model");
        }
        let chunk = |text: &str, finish: Value| {
            let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": finish});
            format!("data: {}\n\n", json!({"choices": [choice]}))
        };
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}});
        let writes = [chunk("a", Value::Null), chunk("b", json!("stop")), format!("data: {usage}\n\ndata: [DONE]\n\n")];
        stream(&writes.iter().map(String::as_bytes).collect::<Vec<_>>())
    })
}

fn run(folder: &Path, arguments: &[&str]) -> String {
    let output = evalsuite().current_dir(folder).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A folder with `one.json`, of one and two users.
fn measured(server: &MockServer) -> (tempfile::TempDir, LoadRecord) {
    let scratch = tempfile::tempdir().unwrap();
    let address = server.address();
    run(scratch.path(), &["load", "--endpoint", &address, "--users", "1,2", "--requests", "6", "--out", "one.json"]);
    let record = LoadRecord::read(&scratch.path().join("one.json")).unwrap().unwrap();
    (scratch, record)
}

#[test]
fn an_earlier_load_test_stands_beside_a_new_one() {
    let server = server();
    let (scratch, one) = measured(&server);
    let address = server.address();
    let arguments = ["load", "--endpoint", &address, "--users", "2,3", "--requests", "6", "--vs", "one.json"];
    let table = run(scratch.path(), &[&arguments[..], &["--out", "two.json"]].concat());
    let two = LoadRecord::read(&scratch.path().join("two.json")).unwrap().unwrap();
    let [peer] = &two.peers[..] else { panic!("one variant: {:?}", two.peers) };
    let level = &one.variants[0].levels[1].figures;
    let point = peer.points[1];
    assert_eq!((point.users, point.tokens_per_second), (Some(2), level.output_tokens_per_second));
    assert_eq!(point.ttft_p99_ms, level.ttft.map(|ttft| ttft.p99 * 1e3));
    assert_eq!(point.itl_p50_ms, level.itl.map(|itl| itl.p50 * 1e3));
    assert_eq!((point.e2e_mean_ms, point.seconds), (level.e2e.map(|e2e| e2e.mean * 1e3), Some(level.seconds)));
    // At two users alone, and nothing of what it did not measure.
    let row = |level: &str| table.lines().find(|line| line.starts_with("one endpoint") && line.contains(level));
    let words: Vec<&str> = row("2 users").unwrap().split_whitespace().collect();
    assert_eq!(words[..6], ["one", "endpoint", "2", "users", "n/a", "n/a"], "{table}");
    assert_eq!(words[7], format!("{:.1}", level.output_tokens_per_second.unwrap()));
    assert!(row("1 user").is_none() && row("3 users").is_none(), "{table}");
    assert!(table.contains("Others, not measured in this run") && table.contains("from one (small-model"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");

    // The page: four charts, in which others' curves are broken.
    let page = run(scratch.path(), &["show", "two.json", "--format", "html"]);
    assert_eq!(page.matches("<svg").count(), 4, "tokens/s, TTFT twice, ITL");
    for title in ["Load by users: output tokens/s", "Load by users: TTFT 50 %", "Load by users: TTFT 99 %"] {
        assert!(page.contains(&format!("<h2>{title}</h2>")), "{title}");
    }
    assert!(page.contains("TTFT 99 %, ms, logarithmic") && page.contains("stroke-dasharray"));
    // Two records are two curves, and so is a record named by `--vs`.
    for words in [&["one.json", "two.json"][..], &["two.json", "--vs", "one.json"]] {
        let report: Value =
            serde_json::from_str(&run(scratch.path(), &[&["report", "--format", "json"], words].concat())).unwrap();
        let at_two = report["figures"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|figure| figure["at"] == 2.0 && figure["name"] == "TTFT 99 %" && figure["unit"] == "ms");
        assert_eq!(at_two.count(), if words.len() == 2 { 3 } else { 2 }, "{words:?}: {}", report["series"]);
    }
}

#[test]
fn rows_of_others_stand_at_the_levels_that_were_measured() {
    let server = server();
    let (scratch, _) = measured(&server);
    let peers = json!({"machine": "an H<200>", "date": "2026-01-01", "rows": [
        {"engine": "Peer & Co 1.0, tuned", "precision": "f16", "note": "best of three", "load": [
            {"users": 2, "tokens_per_second": 6169.7, "ttft_mean_ms": 50.0, "ttft_p99_ms": 51.5},
            {"users": 99, "tokens_per_second": 9999.0}, {"rate": 4.0, "e2e_mean_ms": 250.0}]},
        {"engine": "Stranger 1", "precision": "f16", "model": "large-model", "load": [{"users": 2}]},
        {"engine": "Peer 2", "precision": "f16", "tokens_per_second": 7.0}]});
    std::fs::write(scratch.path().join("peers.json"), peers.to_string()).unwrap();
    let address = server.address();
    let load =
        |more: &[&str]| run(scratch.path(), &[&["load", "--endpoint", &address, "--vs", "peers.json"], more].concat());
    let table = load(&["--users", "2", "--requests", "6"]);
    let words = |part: &str| {
        let line = table.lines().find(|line| line.starts_with("Peer & Co 1.0 f16") && line.contains(part));
        line.unwrap_or_else(|| panic!("{part}: {table}")).split_whitespace().skip(5).collect::<Vec<_>>()
    };
    assert_eq!(words("6169.7"), ["2", "users", "n/a", "n/a", "n/a", "6169.7", "n/a", "n/a", "n/a"]);
    assert_eq!(words("TTFT"), ["2", "users", "TTFT", "50.0", "n/a", "n/a", "n/a", "51.5", "n/a"]);
    assert!(!table.contains("9999") && !table.contains("Stranger") && !table.contains("Peer 2"), "{table}");
    let flowing = crate::program::flowing(&table);
    assert!(
        flowing.contains("Peer & Co 1.0, tuned, from peers.json (an H<200>, 2026-01-01); best of three"),
        "{table}"
    );
    let rate = load(&["--rate", "4", "--requests", "2"]);
    assert!(rate.lines().any(|line| line.contains("E2E") && line.contains("250.0")), "{rate}");
    let none = load(&["--users", "5", "--requests", "5"]);
    assert!(none.contains("has no load test of small-model at these levels"), "{none}");
    let page = run(scratch.path(), &["report", "one.json", "--vs", "peers.json", "--format", "html"]);
    assert!(page.contains("Peer &amp; Co 1.0 f16 at 2: 51.5 TTFT 99 %, ms"), "the point of a curve");
}
