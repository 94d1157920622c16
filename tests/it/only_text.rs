//! What files and models say is shown as text and as nothing but text, in every format.

use std::fs;
use std::path::Path;
use std::process::Output;

use evalsuite::shown::is_obeyed;
use regex::Regex;
use serde_json::{Value, json};

use crate::program::{evalsuite, text};

/// What a terminal, a browser, a CI system or an editor would obey.
const HOSTILE: &str = "</script><script>document.title='PWNED'</script><img src=x onerror=alert(1)>\u{1b}[31mRED\u{1b}]0;TITLE\u{7}\
    \u{1b}[2J\u{1b}]8;;http://evil\u{1b}\\link\u{9b}31m\u{202e}gnp.exe\u{2066}\u{fffe}\u{ffff}\u{200f}\r::error::PWNED\n::warning file=x::y\n  \
    ::set-output name=a::b\n##[error]PWNED ##vso[task.x]|cell|\n# heading [click](http://evil)\n```\nout of the fence";

/// Every one is the whole beginning of a cell.
const FORMULAS: [&str; 6] = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "-3"];

/// A run whose questions, references, answers, extracted values, ids and model are hostile.
fn run(folder: &Path) {
    let protocol = "name = \"line\"\nversion = 1\ndescription = \"a line\"\nsource = \"test\"\nchat = \"auto\"\nprompt = \"{question}\"\n\
                    stops = []\nmax_tokens = 8\nreference = \"after ####\"\n\n[[rule]]\nname = \"all\"\npattern = '(?s)ANS(.+)'\ntake = \"last\"\n";
    fs::write(folder.join("line.toml"), protocol).unwrap();
    let row = |text: &str| {
        let answer = format!("ANS{text}");
        json!({"id": text, "question": text, "answer": format!("{text}\n#### 1"), "completion": answer}).to_string()
            + "\n"
    };
    let rows: String = [HOSTILE].iter().chain(&FORMULAS).map(|text| row(text)).collect();
    fs::write(folder.join("rows.jsonl"), rows).unwrap();
    let made = output(folder, &["score", "rows.jsonl", "--protocol", "line.toml", "--model", HOSTILE, "--out", "run"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    is_text("score", &made);
    let elsewhere = json!({"engine": HOSTILE, "precision": "f16", "source": HOSTILE, "model": HOSTILE, "device": HOSTILE, "note": HOSTILE,
                           "accuracy_percent": 50.0, "n": 100});
    fs::write(folder.join("else.json"), json!({"format": 1, "rows": [elsewhere]}).to_string()).unwrap();
}

fn output(folder: &Path, words: &[&str]) -> Output {
    evalsuite()
        .current_dir(folder)
        .env("HF_HUB_OFFLINE", "1")
        .env("GITHUB_ACTIONS", "true")
        .args(words)
        .output()
        .unwrap()
}

/// Nothing in an output is obeyed by a terminal, and no line by a CI system, but for commands of our own.
#[track_caller]
fn is_text(what: &str, output: &Output) {
    let command = Regex::new(r"(?m)^\s*::|##\[|##vso\[").unwrap();
    let own = Regex::new(r"^::(error|warning|notice) title=[a-z0-9 ]+::[^\n]*$").unwrap();
    for stream in [&output.stdout, &output.stderr] {
        let text = String::from_utf8(stream.clone()).unwrap_or_else(|_| panic!("{what}: not UTF-8"));
        let obeyed: Vec<char> = text.chars().filter(|c| is_obeyed(*c)).collect();
        assert!(obeyed.is_empty(), "{what}: {obeyed:?}\n{text}");
        for found in command.find_iter(&text) {
            let line = text[found.start()..].lines().find(|line| !line.is_empty()).unwrap_or_default();
            let is_page = text.starts_with("<!doctype") && !line.contains("PWNED");
            assert!(own.is_match(line) || is_page, "{what}: {line}");
        }
    }
}

/// Markdown without code that could be more than text: no tag begins, no link, no row has more cells than its head.
#[track_caller]
fn is_markdown_text(what: &str, markdown: &str) {
    let (markup, bar) = (Regex::new(r"<[a-zA-Z/!?]|\]\(").unwrap(), Regex::new(r"(^|[^\\])\|").unwrap());
    let mut fence: Option<String> = None;
    let mut columns = 0;
    for line in markdown.lines() {
        let ticks: String = line.chars().take_while(|c| *c == '`').collect();
        match &fence {
            Some(open) if ticks.len() >= open.len() && line.trim() == ticks => fence = None,
            Some(_) => {}
            None if ticks.len() >= 3 => fence = Some(ticks),
            None => {
                let outside: String = line.split('`').step_by(2).collect();
                assert!(!markup.is_match(&outside), "{what}: {line}");
                assert!(!line.starts_with("# heading"), "{what}: {line}");
                if line.starts_with('|') {
                    let bars = bar.find_iter(line).count();
                    assert!(columns == 0 || bars == columns, "{what}: {bars} bars, not {columns}: {line}");
                    columns = bars;
                } else {
                    columns = 0;
                }
            }
        }
    }
    assert!(fence.is_none() && !markdown.contains("\nout of the fence\n\n|"), "{what}: a fence never ends");
}

#[test]
fn a_hostile_run_is_text_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path());
    for format in ["terminal", "markdown", "html", "csv", "json", "junit", "github"] {
        let report = output(folder.path(), &["report", "run", "--vs", "else.json", "--format", format]);
        assert!(report.status.success(), "{format}: {}", text(&report.stderr));
        is_text(format, &report);
        let file = output(folder.path(), &["report", "run", "--vs", "else.json", "--format", format, "--out", "file"]);
        assert!(file.status.success(), "{format}: {}", text(&file.stderr));
        is_text(format, &Output { stdout: fs::read(folder.path().join("file")).unwrap(), ..file });
        let shown = text(&report.stdout);
        match format {
            "markdown" => is_markdown_text(format, &shown),
            "html" => assert!(!shown.contains("<script>document") && !shown.contains("<img"), "{shown}"),
            "json" => {
                let rows: Value = serde_json::from_str(&shown).unwrap();
                assert!(rows.to_string().contains("gnp.exe"), "JSON keeps its values");
            }
            _ => {}
        }
    }
    for format in ["terminal", "markdown", "json"] {
        let table = output(folder.path(), &["show", "run", "--format", format]);
        assert!(table.status.success(), "{}", text(&table.stderr));
        is_text(format, &table);
        let reading = output(folder.path(), &["show", "run", "--sample", "0-3", "--format", format]);
        assert!(reading.status.success(), "{}", text(&reading.stderr));
        is_text(format, &reading);
        if format == "markdown" {
            is_markdown_text("show", &text(&table.stdout));
            is_markdown_text("show --sample", &text(&reading.stdout));
        }
    }
    is_text("list", &output(folder.path(), &["list"]));
}

#[test]
fn no_cell_is_a_formula_unless_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path());
    let cells = |words: &[&str]| -> Vec<String> {
        let report = output(folder.path(), &[&["report", "run", "--format", "csv"], words].concat());
        assert!(report.status.success(), "{}", text(&report.stderr));
        let mut reader = csv::Reader::from_reader(report.stdout.as_slice());
        reader.records().flat_map(|record| record.unwrap().iter().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let shown = cells(&[]);
    for formula in &FORMULAS[..5] {
        assert!(
            !shown.iter().any(|cell| cell == formula) && shown.contains(&format!("'{formula}")),
            "{formula}: {shown:?}"
        );
    }
    assert!(shown.contains(&"-3".to_owned()), "a number is no formula");
    let raw = cells(&["--csv-raw"]);
    assert!(FORMULAS.iter().all(|formula| raw.iter().any(|cell| cell == formula)), "{raw:?}");
    assert!(raw.iter().any(|cell| cell == HOSTILE), "every byte is there");
    let refused = output(folder.path(), &["report", "run", "--csv-raw"]);
    assert!(crate::program::mistake(&refused).contains("--csv-raw is for"));
}

/// `U+FFFE` and `U+FFFF` are no characters of XML.
#[test]
fn junit_with_noncharacters_is_xml() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path());
    let report = output(folder.path(), &["report", "run", "--format", "junit"]);
    let xml = text(&report.stdout);
    let allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert!(xml.contains("gnp.exe") && xml.chars().all(allowed), "{xml}");
}

#[test]
fn a_hostile_import_of_quality_is_text() {
    let folder = tempfile::tempdir().unwrap();
    let answer = |text: &str| format!("gt {text} two");
    let row = |text: &str| json!({"model": HOSTILE, "id": text, "ground_truth": answer(text), "float32": answer("one"), "int8": answer(text)});
    let rows: Vec<Value> = [HOSTILE].iter().chain(&FORMULAS).map(|text| row(text)).collect();
    fs::write(folder.path().join("imp.json"), Value::from(rows).to_string()).unwrap();
    for format in ["terminal", "markdown", "html", "json"] {
        let table = output(folder.path(), &["quality", "--import", "imp.json", "--format", format]);
        assert!(table.status.success(), "{format}: {}", text(&table.stderr));
        is_text(format, &table);
        match format {
            "markdown" => is_markdown_text(format, &text(&table.stdout)),
            "html" => assert!(!text(&table.stdout).contains("<script>document")),
            _ => {}
        }
    }
}

#[test]
fn an_error_that_repeats_what_a_file_says_is_text_on_one_screen() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in crate::files_of(&crate::checkout().join("models/bundled")) {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let path = folder.path().join("tokenizer_config.json");
    let mut settings: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let raised = format!("{HOSTILE}{}", "\nline".repeat(500)).replace('\'', "").replace('\\', "");
    settings["chat_template"] = json!(format!("{{{{ raise_exception('{raised}') }}}}"));
    fs::write(&path, settings.to_string()).unwrap();
    let model = folder.path().to_str().unwrap();
    let refused = output(folder.path(), &["gsm8k", "--engine", "cpu", "--show-prompt", "0", "--model", model]);
    assert!(crate::program::mistake(&refused).contains("gnp.exe"));
    is_text("raise_exception", &refused);
    // A template whose one line is longer than a screen.
    fs::write(folder.path().join("long.md"), format!("{{{{ {}1 }}}}", "1+".repeat(100_000))).unwrap();
    let run = crate::data("e113425/run");
    let refused = output(folder.path(), &["show", run.to_str().unwrap(), "--template", "long.md"]);
    assert!(crate::program::mistake(&refused).len() < 8000);
}
