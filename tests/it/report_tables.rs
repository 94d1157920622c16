//! `evalsuite report` of quality runs, perplexities, probes, blames and determinism; and of every job in every format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::mock_server::{MockServer, json, models};
use crate::program::{refused, says};

fn shown(folder: &Path, line: &str) -> String {
    says(folder, 0, line).0
}

/// JSON may escape letters one way or the other.
fn assert_same(report: &str, shown: &str, format: &str) {
    if format == "json" {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(json(report), json(shown));
    } else {
        assert_eq!(report, shown, "{format}");
    }
}

#[test]
fn a_report_takes_quality_runs_and_perplexities_in_the_formats_that_hold_them() {
    let world = tempfile::tempdir().unwrap();
    let world = world.path();
    shown(world, "quality --engine cpu --dtype f32,f16 --only copying --max-tokens 8 --out quality --quiet");
    std::fs::write(world.join("text.txt"), "Tom has 3 apples and buys 4 more. How many has he?\n".repeat(40)).unwrap();
    shown(world, "perplexity --engine cpu --dtype f32,f16 --text text.txt --out perplexity.json --quiet");
    for format in ["terminal", "markdown", "json", "html"] {
        let report = shown(world, &format!("report quality --format {format}"));
        assert_same(&report, &shown(world, &format!("show quality --format {format}")), format);
    }
    for format in ["terminal", "markdown", "json"] {
        let report = shown(world, &format!("report perplexity.json --format {format}"));
        assert_same(&report, &shown(world, &format!("show perplexity.json --format {format}")), format);
    }
    // Several stand below one another.
    let both = shown(world, "report quality perplexity.json --format markdown");
    for one in ["quality", "perplexity.json"] {
        assert!(both.contains(shown(world, &format!("show {one} --format markdown")).trim_end()), "{one}");
    }
    let written = shown(world, "report quality --format json --out quality.json");
    assert!(written.is_empty());
    let record: Value = serde_json::from_slice(&std::fs::read(world.join("quality.json")).unwrap()).unwrap();
    assert!(record["quality_format"].is_number());

    assert!(refused(world, "report quality perplexity.json --format json").contains("one of these at a time"));
    assert!(refused(world, "report perplexity.json --format html").contains("--format html has no room"));
    assert!(
        refused(world, "report quality --format junit").contains("give one of terminal, markdown, html, csv, json")
    );
    assert!(refused(world, "report quality --format pdf").contains("pdf"));
    assert!(refused(world, "report quality --rule strict").contains("--rule"));
    shown(world, "gsm8k --engine cpu --dtype f32 --limit 2 --out run --quiet");
    let error = refused(world, "report run quality");
    assert!(error.contains("quality is a quality run") && error.contains("run is not"), "{error}");
}

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/v0.2.0");

/// One run or record of every job.
fn of_every_job(world: &Path) -> Vec<(&'static str, PathBuf)> {
    let server = MockServer::start(|asked| match asked.route.as_str() {
        "GET /v1/models" => models("m"),
        _ if asked.body["max_tokens"] == 1 && asked.before == 0 => {
            json(200, &serde_json::json!({"choices": [{"text": "x", "finish_reason": "stop"}]}))
        }
        _ => json(500, &serde_json::json!({"detail": "oops"})),
    });
    let probe =
        format!("probe {} --only stops --timeout 1 --api completions --out probe.json --quiet", server.address());
    shown(world, &probe);
    let stored = [
        ("eval", "run"),
        ("quality", "quality"),
        ("bench", "bench.json"),
        ("load", "load.json"),
        ("perplexity", "perplexity.json"),
        ("blame", "blame.json"),
        ("determinism", "determinism.json"),
    ];
    let stored = stored.into_iter().map(|(job, name)| (job, Path::new(DATA).join(name)));
    stored.chain([("probe", world.join("probe.json"))]).collect()
}

/// docs/reports.md says which job's report has which format; the program gives these, and refuses the others by name.
#[test]
fn every_job_has_the_formats_that_the_documents_say() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reports.md")).unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .skip_while(|line| !line.starts_with("| report of"))
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let world = tempfile::tempdir().unwrap();
    let world = world.path();
    let mut told = BTreeMap::new();
    for (job, path) in of_every_job(world) {
        let row =
            rows.iter().find(|row| row[0].contains(&format!("`{job}`"))).unwrap_or_else(|| panic!("{job}: no row"));
        for (formats, cell) in rows[0].iter().zip(row).skip(1) {
            for format in formats.split('`').skip(1).step_by(2) {
                let line = format!("report {} --format {format}", path.display());
                if *cell == "no" {
                    let error = refused(world, &line);
                    assert!(
                        error.contains(&format!("--format {format}")) && error.contains("give one of"),
                        "{line}: {error}"
                    );
                } else {
                    assert!(!shown(world, &line).is_empty(), "{line}");
                }
                told.insert((job, format), *cell != "no");
            }
        }
    }
    assert_eq!(told.len(), 8 * 8, "eight jobs and eight formats: {told:?}");
    assert_eq!(told.values().filter(|holds| **holds).count(), 8 + 4 * 5 + 3 * 4);
}

/// Cells by column, of the lines of a CSV.
fn lines(csv: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let cells = |record: csv::StringRecord| header.iter().cloned().zip(record.iter().map(str::to_owned)).collect();
    reader.records().map(|record| cells(record.unwrap())).collect()
}

#[test]
fn a_csv_has_every_figure_of_each_record_on_a_line() {
    let world = tempfile::tempdir().unwrap();
    let world = world.path();
    let record =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(Path::new(DATA).join(name)).unwrap()).unwrap() };
    let all: Vec<String> =
        ["perplexity.json", "determinism.json", "blame.json", "quality"].map(|name| format!("{DATA}/{name}")).to_vec();
    let csv = lines(&shown(world, &format!("report {} --format csv", all.join(" "))));
    let of = |record: &str, variant: &str, part: &str, figure: &str| -> BTreeMap<String, String> {
        let is = |line: &&BTreeMap<String, String>| {
            [("record", record), ("variant", variant), ("part", part), ("figure", figure)]
                .iter()
                .all(|(key, value)| line[*key] == *value)
        };
        let found: Vec<_> = csv.iter().filter(is).collect();
        assert_eq!(found.len(), 1, "{record}, {variant}, {part}, {figure}: {found:?}");
        found[0].clone()
    };
    let is = |cell: &str, value: &Value| {
        if value.is_null() {
            assert_eq!(cell, "");
        } else {
            assert_eq!(cell.parse::<f64>().unwrap(), value.as_f64().unwrap());
        }
    };
    let perplexity = record("perplexity.json");
    for one in perplexity["dtypes"].as_array().unwrap() {
        let variant = one["dtype"].as_str().unwrap();
        let line = of("perplexity", variant, "", "perplexity");
        for (column, key) in
            [("value", "value"), ("standard_error", "standard_error"), ("low", "low"), ("high", "high")]
        {
            is(&line[column], &one["perplexity"][key]);
        }
        let against = &one["against_f32"];
        if !against.is_null() {
            let line = of("perplexity", variant, "", "KL from the reference, nats a token");
            is(&line["value"], &against["kl"]["mean"]["value"]);
            is(&of("perplexity", variant, "", "KL, 99.9 %")["value"], &against["kl"]["p99_9"]);
            is(
                &of("perplexity", variant, "", "same most probable token, share")["value"],
                &against["same_best"]["value"],
            );
        }
    }
    for one in record("determinism.json")["variants"].as_array().unwrap() {
        let variant = one["variant"].as_str().unwrap();
        for pass in one["passes"].as_array().unwrap() {
            let order = if pass["shuffled"] == true { "shuffled" } else { "in order" };
            let part = format!("batch {}, {order}", pass["batch"]);
            let moved = of("determinism", variant, &part, "answers that moved, share");
            is(&moved["value"], &pass["moved_share"]["value"]);
            is(&moved["high"], &pass["moved_share"]["high"]);
            is(&moved["n"], &pass["moved_share"]["n"]);
            let lost = of("determinism", variant, &part, "lost");
            is(&lost["value"], &pass["lost"]);
            is(&lost["n"], &pass["answers"]);
        }
        is(&of("determinism", variant, "noise floor", "accuracy moves by, points")["value"], &one["floor"]["points"]);
    }
    let blame = record("blame.json");
    for layer in blame["layers"].as_array().unwrap() {
        let name = format!("layer {}", layer["layer"]);
        let variant = blame["variant"].as_str().unwrap();
        is(&of("blame", variant, &name, "relative error of its output")["value"], &layer["output_error"]);
        let whole = of("blame", variant, &name, "margin that comes back, share");
        is(&whole["value"], &layer["whole"]["restored"]);
        for part in layer["parts"].as_array().unwrap() {
            let line = of(
                "blame",
                variant,
                &format!("{name}, {}", part["name"].as_str().unwrap()),
                "answers that keep their token",
            );
            is(&line["value"], &part["kept"]);
            is(&line["n"], &part["of"]);
        }
    }
    for column in record("quality/record.json")["models"][0]["columns"].as_array().unwrap() {
        let variant = column["column"].as_str().unwrap();
        is(&of("quality", variant, "", "answers")["value"], &column["answers"]);
        is(&of("quality", variant, "", "checks passed, share")["value"], &column["checks"]["value"]);
    }
}
