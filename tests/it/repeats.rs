//! Several answers a question, by the program itself: the table of repeats, intervals that take them together, and the same words in
//! every format.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::awq_writer::Checkpoint;
use crate::program::{flowing, says};

fn said(folder: &Path, arguments: &str) -> String {
    says(folder, 0, arguments).0
}

#[test]
fn repeats_are_taken_together_and_told_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::new("llama", Some(16), None, false);
    fs::rename(checkpoint.write_dense().keep(), folder.path().join("m")).unwrap();
    let problem = |n: usize| format!("{{\"question\": \"t{n}0 t{n}1 t{n}2\", \"answer\": \"so\\n#### {n}\"}}\n");
    fs::write(folder.path().join("problems.jsonl"), problem(1) + &problem(2) + &problem(3)).unwrap();
    let run = "gsm8k --model m --dataset problems.jsonl --protocol direct --max-tokens 6 --dtype f32,f16 --threads 2 --repeats 3 \
               --temperature 1 --out run";
    let terminal = said(folder.path(), run);
    assert!(
        flowing(&terminal).contains("variant rule questions pass@2 pass@3 maj@3 worst best sd effect"),
        "{terminal}"
    );
    let caveat = "n counts all 3 completions of every question; intervals and p take answers to one question together";
    for shown in [
        &terminal,
        &said(folder.path(), "show run --format markdown"),
        &said(folder.path(), "report run --format markdown"),
    ] {
        assert!(flowing(shown).contains(caveat), "{shown}");
    }
    let report = said(folder.path(), "report run");
    assert!(flowing(&report).contains(caveat) && flowing(&report).contains("of each pass@all maj@all"), "{report}");
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
    // The page's table, under the headline rule (the cells of the first row that it shows).
    let page = said(folder.path(), "report run --format html");
    assert!(flowing(&page).contains(caveat), "the page's caveat");
    let table =
        page.split("id=\"repeats\"").nth(1).and_then(|rest| rest.split("</table>").next()).expect("a table of repeats");
    for heading in ["Questions", "Answers of each", "pass@all", "maj@all", "Worst", "Best", "sd", "Design effect"] {
        assert!(table.contains(&format!(">{heading}</th>")), "{heading}: {table}");
    }
    let record: Value = serde_json::from_str(&said(folder.path(), "show run --format json")).unwrap();
    let rule = &record["dtypes"][1]["rules"][0];
    assert_eq!((&rule["accuracy"]["n"], &rule["accuracy"]["clustering"]["clusters"]), (&9.into(), &3.into()));
    assert_eq!(rule["against_f32"]["clustering"]["clusters"], 3);
    assert_eq!((&rule["repeats"]["repeats"], &rule["repeats"]["questions"]), (&3.into(), &3.into()));
    // A report reads completions, and finds the same.
    let comparison: Value = serde_json::from_str(&said(folder.path(), "report run --format json")).unwrap();
    let score = &comparison["rows"][1]["scores"][0];
    assert_eq!((&score["accuracy"], &score["against"]), (&rule["accuracy"], &rule["against_f32"]));
    assert_eq!(score["repeats"], rule["repeats"]);
    let row = table.split("<tr>").nth(3).expect("the second variant's row under the first rule");
    let cells: Vec<&str> =
        row.split("<td").skip(1).filter_map(|cell| cell.split('>').nth(1)?.split('<').next()).collect();
    let repeats = &score["repeats"];
    let percent = |value: &Value| format!("{:.1}", value.as_f64().unwrap() * 100.0);
    let all = percent(&repeats["pass_at"].as_array().unwrap().last().unwrap()["value"]);
    let figures = ["majority", "lowest", "highest", "standard_deviation"].map(|name| percent(&repeats[name]));
    let effect = score["accuracy"]["clustering"]["design_effect"].as_f64().unwrap();
    let wanted: Vec<String> =
        ["3".to_owned(), "3".to_owned(), all].into_iter().chain(figures).chain([format!("{effect:.2}")]).collect();
    assert!(row.contains("<th scope=\"row\">f16</th>") && cells == wanted, "{cells:?} for {wanted:?}");
}
