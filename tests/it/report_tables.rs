//! `evalsuite report` of quality runs, perplexities and probes.

use std::path::Path;

use serde_json::Value;

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
    assert!(refused(world, "report quality --format junit").contains("give one of terminal, markdown, html, json"));
    assert!(refused(world, "report quality --format pdf").contains("pdf"));
    assert!(refused(world, "report quality --rule strict").contains("--rule"));
    shown(world, "gsm8k --engine cpu --dtype f32 --limit 2 --out run --quiet");
    let error = refused(world, "report run quality");
    assert!(error.contains("quality is a quality run") && error.contains("run is not"), "{error}");
}
