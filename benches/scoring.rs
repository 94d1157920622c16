//! Stored completions scored a second, with every rule of a protocol.
//!
//! `cargo bench --bench scoring`; reads `conformance/gsm8k.jsonl` of the shared folder (`EVALSUITE_SHARED`, else
//! `../shared`) where it is present, else text of its own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use evalsuite::score::score;
use evalsuite::task::Protocol;
use rayon::prelude::*;

const MEASURED: Duration = Duration::from_secs(2);

fn main() {
    let (source, rows) = completions();
    let bytes = rows.iter().map(|(completion, _)| completion.len()).sum::<usize>() / rows.len();
    println!("{} completions of {bytes} bytes on average: {source}", rows.len());
    println!("{} threads", rayon::current_num_threads());
    for name in Protocol::names() {
        let Ok(protocol) = Protocol::open(name) else { panic!("the built-in protocol {name} does not open") };
        let count = |row: &(String, String)| score(&protocol.rules, &row.0, &row.1).len();
        let one = rate(rows.len(), || rows.iter().map(count).sum());
        let all = rate(rows.len(), || rows.par_iter().map(count).sum());
        println!("{name:<20} {one:>10.0}/s on one thread ({:.2} µs each)  {all:>10.0}/s on all", 1e6 / one);
    }
}

/// Completions a second, over as many passes as fit into the measured time, after one that is not counted.
fn rate(rows: usize, pass: impl Fn() -> usize) -> f64 {
    let rules = std::hint::black_box(pass());
    let start = Instant::now();
    let mut passes = 0;
    while start.elapsed() < MEASURED {
        assert_eq!(std::hint::black_box(pass()), rules);
        passes += 1;
    }
    (rows * passes) as f64 / start.elapsed().as_secs_f64()
}

fn completions() -> (String, Vec<(String, String)>) {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let shared = std::env::var_os("EVALSUITE_SHARED").map_or_else(beside, PathBuf::from);
    let path = shared.join("conformance/gsm8k.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else { return ("generated".to_owned(), generated()) };
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).ok()?;
        Some((row["completion"].as_str()?.to_owned(), row["target"].as_str()?.to_owned()))
    };
    (path.display().to_string(), text.lines().filter_map(row).collect())
}

fn generated() -> Vec<(String, String)> {
    let row = |n: usize| {
        let (a, b) = (n % 89 + 2, n % 7 + 2);
        let sum = a + b;
        let double = 2 * sum;
        let text = format!(
            "The first shelf holds {a} books and the second holds {b} more, so there are {a} + {b} = \
             <<{a}+{b}={sum}>>{sum} books on the second shelf.\nTwo such shelves hold 2 * {sum} = \
             $<<2*{sum}={double}>>{double} books, which is the number that was asked for.\n#### {double}"
        );
        (text.clone(), text)
    };
    (0..2638).map(row).collect()
}
