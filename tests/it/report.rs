//! Reports in every format, on runs of the scripted engine.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Instant;

use crate::comparisons::render;
use crate::program::evalsuite;
use evalsuite::compare::{Comparison, Digest, read_outside};
use evalsuite::engine::Finish;
use evalsuite::jobs::eval::StoredRun;
use evalsuite::record::{MemoryScope, PeakMemory};
use evalsuite::report::Templates;
use proptest::prelude::*;
use quick_junit::TestCaseStatus;
use serde_json::{Value, json};

use crate::report_runs::{counted_anew, large_run, scripted_run, write_run};
use crate::scripted::{dataset, evaluate, inputs_of, job, model};
use crate::serve_clients::{python_with, run as run_client};

fn compare(runs: &[StoredRun]) -> Comparison {
    Comparison::new(runs, Vec::new(), None, vec!["evalsuite".to_owned(), "report".to_owned()])
}

fn rendered(runs: &[StoredRun], format: &str) -> String {
    render(&compare(runs), runs, format, &Templates::bundled()).unwrap()
}

const TERMINAL: &str = "terminal";
const EVERY: [&str; 8] = [TERMINAL, "markdown", "html", "csv", "json", "junit", "github", "model-card"];

/// What the page's script reads.
fn page_data(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").expect("the page has data");
    let (data, _) = rest.split_once("</script>").expect("the data end");
    serde_json::from_str(data).expect("the data are JSON")
}

fn program(arguments: &[&str]) -> Output {
    evalsuite().args(arguments).output().expect("the program starts")
}

fn mistake(arguments: &[&str]) -> String {
    crate::program::mistake(&program(arguments))
}

#[test]
fn the_table_and_the_verdict_say_what_the_run_says() {
    let scratch = tempfile::tempdir().unwrap();
    let runs = [scripted_run(&scratch.path().join("run"))];
    let text = rendered(&runs, TERMINAL);
    let verdict = crate::program::flowing(&text);
    assert!(
        verdict.contains("f16 is neither shown to be worse than f32 nor to be within 2 points of it (-40.0 points"),
        "{text}"
    );
    // Two of five: 2.8 · √(0.4 / 5).
    assert!(verdict.contains("5 questions can show 79.2 points"), "{text}");
    let first_table: Vec<&str> = text.split("\n\n").nth(1).expect("a table").lines().collect();
    let [header, _, f16] = first_table[..] else { panic!("not two rows: {text}") };
    for column in ["variant", "right %", "95 %", "Δ f32", "extracted", "cut", "tokens/s", "load s", "memory"] {
        assert!(header.contains(column), "{column} is not in {header}");
    }
    let cells: Vec<&str> = f16.split_whitespace().collect();
    assert_eq!((cells[0], cells[1], cells[3], cells[4]), ("f16", "60.0", "-40.0", "5"), "{text}");
    assert!(cells.contains(&"0.500"), "{text}");
    let markdown = rendered(&runs, "markdown");
    assert!(
        markdown.contains("| f16 | f32 | strict, flexible, numeric | -40.0 | [-76.9, +20.8] | 2 | 0 |")
            && markdown.contains(&"5c".repeat(32)),
        "{markdown}"
    );
}

#[test]
fn a_report_of_large_runs_with_long_names_fits_80_columns() {
    let scratch = tempfile::tempdir().unwrap();
    let mut run = large_run(scratch.path(), 1319);
    run.path = "runs/20261127T065913Z-SmolLM2-135M-Instruct.Q4_1-gsm8k-cot-zeroshot".into();
    run.record.plan.target.model.name = "HuggingFaceTB/SmolLM2-135M-Instruct, Q4_1, instruction-tuned".to_owned();
    run.record.machine.cpu = "AMD EPYC 9654 96-Core Processor with a name that goes on for long".to_owned();
    for dtype in &mut run.record.dtypes {
        dtype.output_tokens_per_second = Some(268_591.04);
        dtype.load_seconds = Some(1234.5);
        dtype.peak_memory = Some(PeakMemory { bytes: 999_900_000_000, scope: MemoryScope::Process });
        dtype.sessions[0].engine.name = "cuda".to_owned();
        dtype.sessions[0].engine.version = "0.1.0".to_owned();
    }
    let other = StoredRun { path: "runs/20261127T065845Z-another-of-the-same-problems".into(), ..run.clone() };
    let example = crate::data("elsewhere.json");
    for runs in [vec![run.clone()], vec![run, other]] {
        let comparison = Comparison::new(&runs, read_outside(&example).unwrap(), None, Vec::new());
        let text = render(&comparison, &runs, TERMINAL, &Templates::bundled()).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}\n{text}", line.chars().count());
        }
        for part in ["1,319", "268591.0", "1234.5", "999.9 GB", "cuda 0.1.0", "one request at a time"] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }
}

#[test]
fn json_is_the_whole_comparison_under_a_version() {
    let scratch = tempfile::tempdir().unwrap();
    let runs = [scripted_run(&scratch.path().join("run"))];
    let json: Value = serde_json::from_str(&rendered(&runs, "json")).unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["rows"].as_array().unwrap().len(), 2);
    assert_eq!((&json["rows"][1]["label"], &json["rows"][1]["reference"]), (&"f16".into(), &0.into()));
    assert_eq!((&json["pairs"][0]["lost"], &json["pairs"][0]["gained"]), (&2.into(), &0.into()));
    assert_eq!(json["rows"][0]["speed_ratio"], Value::Null, "nothing measured is null, not 0");
    assert_eq!(json["divergences"][0]["n"], 5);
    for part in ["model", "dataset", "protocol"] {
        assert_eq!(json["runs"][0]["plan"][part]["sha256"].as_str().unwrap().len(), 64, "{part}");
    }
}

#[test]
fn csv_parses_back_one_line_a_sample_and_precision() {
    let scratch = tempfile::tempdir().unwrap();
    let runs = [scripted_run(&scratch.path().join("run"))];
    let text = rendered(&runs, "csv");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|own| own == name).unwrap_or_else(|| panic!("no {name}"));
    let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 10);
    let wrong: Vec<(&str, &str)> = lines
        .iter()
        .filter(|line| &line[column("flexible_correct")] == "false")
        .map(|line| (&line[column("dtype")], &line[column("sample")]))
        .collect();
    assert_eq!(wrong, [("f16", "0"), ("f16", "3")]);
    assert_eq!(&lines[4][column("finish")], "length");
    assert!(lines[0][column("text")].starts_with("é\nThe answer is 1000"), "{:?}", &lines[0]);
    assert!(lines[1][column("question")].starts_with("1 and 1000"));
}

#[test]
fn junit_counts_wrong_answers_as_skipped_and_never_as_failures() {
    let scratch = tempfile::tempdir().unwrap();
    let runs = [scripted_run(&scratch.path().join("run"))];
    let report = quick_junit::Report::deserialize_from_str(&rendered(&runs, "junit")).unwrap();
    let notes = compare(&runs).notes.len();
    assert_eq!((report.tests, report.failures, report.errors), (12 + notes, 0, 0));
    let names: Vec<&str> = report.test_suites.iter().map(|suite| suite.name.as_str()).collect();
    assert_eq!(names, ["f32", "f16"]);
    let skipped = |suite: &quick_junit::TestSuite| {
        let is_skipped = |case: &&quick_junit::TestCase| {
            matches!(case.status, TestCaseStatus::Skipped { .. }) && !case.name.starts_with("note ")
        };
        suite.test_cases.iter().filter(is_skipped).map(|case| case.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(skipped(&report.test_suites[0]), Vec::<String>::new());
    assert_eq!(skipped(&report.test_suites[1]), ["sample 0", "sample 3"]);
    let text = rendered(&runs, "junit");
    assert!(text.contains("<skipped message=\"wrong: ") && text.contains("name=\"sample 3\""), "{text}");
}

#[test]
fn a_failed_precision_is_an_error_everywhere() {
    let scratch = tempfile::tempdir().unwrap();
    let mut run = scripted_run(&scratch.path().join("run"));
    run.completions[1].1.clear();
    let mut run = counted_anew(run);
    run.record.dtypes[1].failure = Some("the device <gave> up\nhint: none".to_owned());
    let runs = [run];
    assert!(rendered(&runs, TERMINAL).contains("f16 did not finish: the device <gave> up"));
    assert!(rendered(&runs, "html").contains("the device &lt;gave&gt; up"));
    let annotations = rendered(&runs, "github");
    assert!(annotations.contains("::error title=f16 did not finish::the device <gave> up%0Ahint"), "{annotations}");
    let report = quick_junit::Report::deserialize_from_str(&rendered(&runs, "junit")).unwrap();
    assert_eq!(report.errors, 1);
}

#[test]
fn the_page_is_one_file_that_asks_for_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let runs = [scripted_run(&scratch.path().join("run"))];
    let page = rendered(&runs, "html");
    for outward in ["src=", "<link", "@import", "url(", "fetch(", "XMLHttpRequest"] {
        assert!(!page.contains(outward), "{outward}");
    }
    let data = page_data(&page);
    let sample = &data["groups"][0]["samples"][4];
    assert_eq!(sample["i"], 4);
    assert_eq!(sample["c"][0][1], "length");
    let beginning = data["groups"][0]["beginnings"][0][1].as_str().unwrap();
    let prompt = format!("{beginning}{}", sample["p"][0].as_str().unwrap());
    assert_eq!(prompt, runs[0].samples[4].prompt, "the common beginning and the rest are the prompt");
}

#[test]
fn runs_on_different_problems_stand_together_and_are_not_compared() {
    let scratch = tempfile::tempdir().unwrap();
    let first = scripted_run(&scratch.path().join("first"));
    let mut other_problems = dataset();
    other_problems.name = "others".to_owned();
    other_problems.sha256 = "0b".repeat(32);
    let chat = evalsuite::task::ChatUse::Never;
    let inputs = inputs_of(model(None), other_problems, "gsm8k-cot-zeroshot", chat).unwrap();
    evaluate(&job(scratch.path().join("second")), &inputs).unwrap();
    let second = StoredRun::read(&scratch.path().join("second")).unwrap();
    let runs = [first, second];
    let comparison = compare(&runs);
    let labels: Vec<&str> = comparison.rows.iter().map(|row| row.label.as_str()).collect();
    assert_eq!(labels, ["scripted f32", "scripted f16", "others f32", "others f16"]);
    let same_side = |index: usize| index / 2;
    assert!(comparison.pairs.iter().all(|pair| same_side(pair.reference) == same_side(pair.other)));
    assert_eq!(comparison.rows[3].reference, Some(2));
    assert_eq!(page_data(&rendered(&runs, "html"))["groups"].as_array().unwrap().len(), 2);
    for format in EVERY {
        assert!(!rendered(&runs, format).is_empty(), "{format:?}");
    }
}

#[test]
fn the_same_run_twice_is_told_apart() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scripted_run(&scratch.path().join("run"));
    let mut labels: Vec<String> = compare(&[run.clone(), run]).rows.into_iter().map(|row| row.label).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), 4);
}

#[test]
fn runs_whose_answers_were_counted_and_forgotten_are_compared_all_the_same() {
    let scratch = tempfile::tempdir().unwrap();
    let first = large_run(scratch.path(), 60);
    // Another run of the same model that has no reference of its own; two of its answers are unknown by their tokens.
    let mut second = first.clone();
    second.completions.retain(|(variant, _)| variant.as_str() == "awq");
    second.record.dtypes.retain(|one| one.dtype.as_str() == "awq");
    second.record.plan.dtypes.retain(|one| one.as_str() == "awq");
    second.completions[0].1.iter_mut().take(2).for_each(|one| one.token_ids = None);
    let mut runs = [first, counted_anew(second)];
    let whole = compare(&runs);
    let (digests, original): (Vec<Digest>, _) = (runs.iter().map(Digest::new).collect(), runs.clone());
    runs.iter_mut().for_each(StoredRun::forget_answers);
    assert!(runs.iter().all(|run| run.answers() == 0));
    let mut lean = Comparison::of(&runs, &digests, Vec::new(), None, whole.command.clone());
    lean.made.clone_from(&whole.made);
    let json = |comparison: &Comparison| serde_json::to_value(comparison).unwrap();
    assert_eq!(json(&lean), json(&whole));
    // Nor does the order count in which answers lie.
    let mut turned = original;
    turned.iter_mut().flat_map(|run| &mut run.completions).for_each(|(_, all)| all.reverse());
    let of_turned = compare(&turned);
    assert_eq!((of_turned.pairs, of_turned.divergences), (whole.pairs.clone(), whole.divergences.clone()));
    // Against its own run's f32, and against another run's: by hand from how the run is made.
    let of = |row: usize| lean.divergences.iter().find(|one| one.row == row).unwrap();
    assert_eq!((of(2).n, of(2).identical, of(2).first[0]), (60, 45, 40));
    // Sample 1 is one that changed, sample 0 one that did not.
    assert_eq!((of(3).reference, of(3).n, of(3).identical), (0, 58, 44));
    let against = lean.rows[3].scores[0].against.unwrap();
    assert_eq!((against.n(), against.lost), (60, lean.rows[2].scores[0].against.unwrap().lost));
    for format in ["markdown", "html", "json", "model-card"] {
        let text = render(&lean, &runs, format, &Templates::bundled()).unwrap();
        assert!(!text.is_empty());
        if format == "html" {
            assert!(text.contains("240 answers are more than a page can show"), "{text}");
            let groups = page_data(&text)["groups"].clone();
            assert_eq!((&groups[0]["rows"], &groups[0]["samples"]), (&json!([0, 1, 2, 3]), &json!([])));
        }
    }
}

#[test]
fn rows_measured_elsewhere_stand_in_every_table() {
    let scratch = tempfile::tempdir().unwrap();
    let runs = [scripted_run(&scratch.path().join("run"))];
    let example = crate::data("elsewhere.json");
    let outside = read_outside(&example).unwrap();
    let comparison = Comparison::new(&runs, outside, None, Vec::new());
    for format in [TERMINAL, "markdown", "html", "json"] {
        let text = render(&comparison, &runs, format, &Templates::bundled()).unwrap();
        assert!(text.contains("other-engine 2.1") && text.contains("an invented example"), "{format:?}: {text}");
    }
    let row = comparison.rows.last().unwrap();
    let accuracy = row.scores[0].accuracy.unwrap();
    assert_eq!((accuracy.successes, accuracy.n), (140, 200));
    assert!(accuracy.low < 0.70 && accuracy.high > 0.70 && row.run.is_none());
    assert_eq!(comparison.rows[comparison.rows.len() - 2].tokens_per_second, None);
}

#[test]
fn a_file_of_rows_that_cannot_be_meant_is_refused_with_its_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.json");
    let row = |rest: &str| format!(r#"{{"format": 1, "rows": [{{"engine": "e", "precision": "f16", {rest}}}]}}"#);
    for (text, part) in [
        ("[]".to_owned(), "rows.json"),
        (row(r#""source": "s", "accuracy_percent": 70"#), "rows[0].accuracy_percent without n"),
        (row(r#""source": "s", "accuracy_percent": 170, "n": 5"#), "accuracy_percent 170 is out of range"),
        (row(r#""source": "s", "tokens_per_second": -1"#), "tokens_per_second -1"),
        (row(r#""source": " ""#), "source is empty"),
        (row(r#""source": "s", "tok_s": 5"#), "unknown field `tok_s`"),
        (r#"{"format": 2, "rows": []}"#.to_owned(), "format 2"),
    ] {
        std::fs::write(&path, &text).unwrap();
        let message = read_outside(&path).unwrap_err().to_string();
        assert!(message.contains(part) && message.contains("hint: a file for `--vs`"), "{message}");
    }
    assert!(read_outside(Path::new("/no/such/rows")).unwrap_err().to_string().contains("/no/such/rows"));
}

#[test]
fn templates_of_ones_own_take_the_place_of_ours() {
    let scratch = tempfile::tempdir().unwrap();
    let runs = [scripted_run(&scratch.path().join("run"))];
    let folder = scratch.path().join("templates");
    std::fs::create_dir(&folder).unwrap();
    let message = Templates::with_folder(&folder).unwrap_err().to_string();
    assert!(message.contains("no template") && message.contains("report.txt"), "{message}");
    std::fs::write(folder.join("report.txt"), "{{ rows | length }} rows").unwrap();
    std::fs::write(folder.join("report.css"), "/* of my own */").unwrap();
    let templates = Templates::with_folder(&folder).unwrap();
    let of = |format| render(&compare(&runs), &runs, format, &templates);
    assert_eq!(of(TERMINAL).unwrap(), "2 rows");
    assert!(of("html").unwrap().contains("/* of my own */"), "the rest is ours");
    for broken in ["one\ntwo {{ rows | lenght }}", "one\ntwo {% if %}", "one\ntwo {{ nothing.there }}"] {
        std::fs::write(folder.join("report.txt"), broken).unwrap();
        let templates = Templates::with_folder(&folder).unwrap();
        let message = render(&compare(&runs), &runs, TERMINAL, &templates).unwrap_err().to_string();
        for part in ["report.txt", "2:", "hint: "] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }
}

#[test]
fn what_is_no_finished_run_is_a_mistake() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    scripted_run(&folder);
    let path = folder.to_str().unwrap();
    assert!(mistake(&["report", "/no/such/run"]).contains("/no/such/run is not there"));
    assert!(mistake(&["report", &format!("{path}/record.json")]).contains("is not a folder"));
    assert!(mistake(&["report", path, "--format", "jnit"]).contains("did you mean `junit`"));
    assert!(mistake(&["report", path, "--out", "/no/such/folder/report.html"]).contains("--out"));
    assert!(mistake(&["report", path, "--templates", "/no/such"]).contains("no template in /no/such"));
    let journal = folder.join("f16/journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text.split_inclusive('\n').skip(1).collect::<String>()).unwrap();
    assert!(mistake(&["report", path]).contains("holds 4 completions"));
    std::fs::remove_file(folder.join("record.json")).unwrap();
    assert!(mistake(&["report", path]).contains("has not finished"));
    std::fs::remove_file(folder.join("plan.json")).unwrap();
    assert!(mistake(&["report", path]).contains("plan.json"));
}

#[test]
fn a_run_of_before_questions_were_kept_is_shown_without_them() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    scripted_run(&folder);
    std::fs::remove_file(folder.join("samples.jsonl")).unwrap();
    let runs = [StoredRun::read(&folder).unwrap()];
    for format in EVERY {
        assert!(!rendered(&runs, format).is_empty(), "{format:?}");
    }
    let page = rendered(&runs, "html");
    assert!(page.contains("the folder holds no questions"));
    assert_eq!(page_data(&page)["groups"][0]["samples"][0]["q"], Value::Null);
}

#[test]
fn github_gets_annotations_and_a_step_summary() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    scripted_run(&folder);
    let summary = scratch.path().join("summary.md");
    std::fs::write(&summary, "before\n").unwrap();
    let run = || {
        evalsuite()
            .args(["report", folder.to_str().unwrap(), "--format", "github"])
            .env("GITHUB_STEP_SUMMARY", &summary)
            .output()
            .unwrap()
    };
    let output = run();
    assert_eq!(output.status.code(), Some(0));
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.lines().all(|line| line.starts_with("::")), "{lines}");
    assert!(
        lines.contains("::warning title=cut-answers::f32: 1 of 5 answers (20.0 %25) were cut off")
            && lines.contains("::notice title=evalsuite::f16")
    );
    let text = std::fs::read_to_string(&summary).unwrap();
    assert!(
        text.starts_with("before\n# scripted") && text.contains("| f16 | f32 | strict, flexible, numeric | -40.0 |"),
        "{text}"
    );
    run();
    assert_eq!(std::fs::read_to_string(&summary).unwrap().matches("# scripted").count(), 2, "appended, not replaced");
}

#[test]
fn a_run_of_gsm8ks_size_becomes_a_page_quickly() {
    let scratch = tempfile::tempdir().unwrap();
    large_run(scratch.path(), 1319);
    let begun = Instant::now();
    let runs = [StoredRun::read(&scratch.path().join("large")).unwrap()];
    let page = rendered(&runs, "html");
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("a page of 3 × 1319 samples: {:.1} MB in {seconds:.2} s", page.len() as f64 / 1e6);
    // Three answers of 640 bytes, a question and a reference a row are 3.2 MB; the 2 kB that all prompts share come once.
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
    // Reading, counting and writing take well under a second on an idle core; ten times that on a busy machine.
    assert!(seconds < 10.0, "{seconds} s");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_model_says_comes_through_every_format(
        parts in prop::collection::vec(
            prop_oneof![
                Just("</script>".to_owned()), Just("<!--<script>".to_owned()), Just("]]>".to_owned()),
                Just("\"'&amp;&<>\\".to_owned()), Just("\r\n\t,;".to_owned()), Just("é𝄞\u{2028}\u{0}\u{1b}[31m\u{fffe}".to_owned()),
                Just("{{ rows }}{% raw %}".to_owned()), Just("::error::%0A|`".to_owned()), any::<String>(),
            ],
            0..6,
        )
    ) {
        let text = parts.concat();
        let run = HOSTILE.with(|run| {
            let mut run = run.clone();
            for (_, completions) in &mut run.completions {
                completions[2].text.clone_from(&text);
                completions[2].finish = Finish::Length;
                completions[2].scores[0].value = Some(text.clone());
                completions[2].scores[0].correct = false;
            }
            Arc::make_mut(&mut run.samples)[2].question.clone_from(&text);
            run.record.plan.target.model.name.clone_from(&text);
            counted_anew(run)
        });
        let runs = [run];

        let page = rendered(&runs, "html");
        // The data's script and the page's own: no text opens or ends another.
        prop_assert_eq!(page.matches("</script>").count(), 2);
        prop_assert_eq!(page.matches("<script").count(), 2);
        let data = page_data(&page);
        prop_assert_eq!(&data["groups"][0]["samples"][2]["c"][0][0], &Value::from(text.clone()));
        prop_assert_eq!(&data["groups"][0]["samples"][2]["q"], &Value::from(text.clone()));

        let csv = rendered(&runs, "csv");
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        prop_assert_eq!(lines.len(), 10);
        prop_assert_eq!(lines[2].iter().next_back(), Some(text.as_str()));

        let json: Value = serde_json::from_str(&rendered(&runs, "json")).unwrap();
        prop_assert_eq!(&json["rows"][0]["model"], &Value::from(text.clone()));

        let junit = rendered(&runs, "junit");
        let report = quick_junit::Report::deserialize_from_str(&junit);
        prop_assert!(report.is_ok(), "{:?}", report.err());
        prop_assert_eq!(report.unwrap().tests, 12 + compare(&runs).notes.len());

        prop_assert!(rendered(&runs, "github").lines().all(|line| line.starts_with("::")));
        rendered(&runs, "markdown");
        rendered(&runs, TERMINAL);
    }
}

thread_local! {
    static HOSTILE: StoredRun = {
        let scratch = tempfile::tempdir().unwrap();
        let run = scripted_run(&scratch.path().join("run"));
        write_run(&run, &scratch.path().join("again"));
        StoredRun::read(&scratch.path().join("again")).unwrap()
    };
}

#[test]
fn a_thousand_runs_stand_in_one_report() {
    const RUNS: usize = 1000;
    let scratch = tempfile::tempdir().unwrap();
    let run = |index: usize| scratch.path().join(format!("run-{index}"));
    scripted_run(&run(0));
    let files: Vec<_> = ["plan.json", "record.json", "samples.jsonl", "answers.jsonl"]
        .into_iter()
        .map(str::to_owned)
        .chain(
            ["f32", "f16"]
                .iter()
                .flat_map(|dtype| ["journal.jsonl", "sessions.json"].map(|file| format!("{dtype}/{file}"))),
        )
        .map(|name| (std::fs::read(run(0).join(&name)).unwrap(), name))
        .collect();
    for index in 1..RUNS {
        for (bytes, name) in &files {
            let path = run(index).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    for format in ["json", "markdown", "html"] {
        let out = scratch.path().join(format);
        let started = Instant::now();
        let mut command = evalsuite();
        command.arg("report").args((0..RUNS).map(run)).args(["--format", format, "--out"]).arg(&out);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seconds = started.elapsed().as_secs_f64();
        println!("{format}: {seconds:.1} s");
        assert!(seconds < 10.0, "{format} took {seconds:.1} s");
        if format == "json" {
            let comparison: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
            let (rows, rules) = (comparison["rows"].as_array().unwrap(), comparison["rules"].as_array().unwrap());
            assert_eq!(rows.len(), 2 * RUNS);
            // Pairs of every two rows would be two million a rule.
            assert_eq!(comparison["pairs"].as_array().unwrap().len(), RUNS * rules.len());
            for (index, row) in rows.iter().enumerate().filter(|(index, _)| index % 2 == 1) {
                assert_eq!((&row["reference"], &row["precision"]), (&(index - 1).into(), &"f16".into()));
                assert_eq!(
                    (&row["scores"][0]["against"]["lost"], &row["scores"][0]["against"]["gained"]),
                    (&2.into(), &0.into())
                );
                assert_eq!(comparison["divergences"][row["divergence"].as_u64().unwrap() as usize]["row"], index);
            }
        }
    }
}

#[test]
fn a_model_card_is_the_hub_s_yaml_and_a_table() {
    let scratch = tempfile::tempdir().unwrap();
    let runs = [scripted_run(&scratch.path().join("run"))];
    let card = rendered(&runs, "model-card");
    let (_, rest) = card.split_once("---\n").expect("the card begins with YAML");
    let (yaml, table) = rest.split_once("---\n").expect("which ends");
    for part in [
        "model-index:\n",
        "type: \"exact_match\"\n",
        "type: \"text-generation\"\n",
        "value: 0.6\n",
        "variant: \"f16\"\n",
    ] {
        assert!(yaml.contains(part), "{part:?} is not in\n{yaml}");
    }
    assert!(table.contains("| f16 | 60.0 |") && table.contains("-40.0"), "{table}");
    let Some(python) = python_with("huggingface_hub") else { return };
    let path = scratch.path().join("README.md");
    std::fs::write(&path, &card).unwrap();
    let told: Value = serde_json::from_str(&run_client(&python, "model_card.py", &[path.to_str().unwrap()])).unwrap();
    let told: Vec<(&str, f64)> =
        told.as_array().unwrap().iter().map(|one| (one[0].as_str().unwrap(), one[1].as_f64().unwrap())).collect();
    let rule = runs[0].record.headline();
    let wanted = [(format!("f32, rule {rule}"), 1.0), (format!("f16, rule {rule}"), 0.6)];
    assert_eq!(told, wanted.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>());
}
