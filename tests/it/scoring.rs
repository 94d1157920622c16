//! Every row of the shared conformance files: what lm-evaluation-harness 0.4.13 extracts and how it scores.

use evalsuite::score::{Extraction, score};
use evalsuite::task::Protocol;
use serde::Deserialize;

use crate::shared_file;

#[derive(Deserialize)]
struct Row {
    protocol: String,
    completion: String,
    target: String,
    strict: String,
    flexible: String,
    strict_exact_match: f64,
    flexible_exact_match: f64,
}

fn by_name<'a>(extractions: &'a [Extraction], rule: &str) -> &'a Extraction {
    extractions.iter().find(|extraction| extraction.rule == rule).unwrap()
}

fn check(file: &str, expected_rows: usize) {
    let Some(path) = shared_file(&format!("conformance/{file}")) else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows = 0;
    for line in text.lines() {
        let row: Row = serde_json::from_str(line).unwrap();
        let protocol = Protocol::open(&row.protocol.replace('_', "-")).unwrap();
        let extractions = score(&protocol.rules, &row.completion, &row.target);
        for (rule, value, exact_match) in
            [("strict", &row.strict, row.strict_exact_match), ("flexible", &row.flexible, row.flexible_exact_match)]
        {
            let extraction = by_name(&extractions, rule);
            let context = || format!("{file} row {rows}, {rule}: {:?} on {:?}", extraction, row.completion);
            assert_eq!(extraction.value.as_deref().unwrap_or("[invalid]"), value, "{}", context());
            assert_eq!(extraction.correct, exact_match > 0.5, "{}", context());
        }
        for Extraction { value, span, .. } in &extractions {
            assert_eq!(value.as_deref(), span.map(|[start, end]| &row.completion[start..end]));
        }
        rows += 1;
    }
    assert_eq!(rows, expected_rows, "{file}");
}

#[test]
fn gsm8k_completions_are_scored_as_published() {
    check("gsm8k.jsonl", 2638);
}

#[test]
fn gsm8k_cot_completions_are_scored_as_published() {
    check("gsm8k_cot.jsonl", 2638);
}

#[test]
fn edge_cases_are_scored_as_published() {
    check("edge_gsm8k.jsonl", 250);
    check("edge_gsm8k_cot.jsonl", 250);
    check("edge_gsm8k_cot_llama.jsonl", 250);
}

#[test]
fn our_own_extractor_agrees_with_the_labels_of_marked_answers() {
    #[derive(Deserialize)]
    struct Labelled {
        completion: String,
        target: String,
        #[serde(rename = "labelled_correct")]
        right: bool,
    }
    let Some(path) = shared_file("conformance/gsm8k.jsonl") else { return };
    let rules = Protocol::open("stepwise").unwrap().rules;
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<Labelled> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wrong: Vec<&Labelled> = rows
        .iter()
        .filter(|row| by_name(&score(&rules, &row.completion, &row.target), "numeric").correct != row.right)
        .collect();
    for row in &wrong {
        eprintln!("{:?} / {:?} labelled {}", row.completion, row.target, row.right);
    }
    assert_eq!(wrong.len(), 0);
}

#[test]
fn every_protocol_of_gsm8k_is_scored_by_the_faithful_rules_and_by_ours() {
    let is_of_gsm8k =
        |protocol: &Protocol| protocol.source.starts_with("lm-evaluation-harness") || protocol.name == "direct";
    for name in Protocol::names() {
        let protocol = Protocol::open(name).unwrap();
        if !is_of_gsm8k(&protocol) && name != "stepwise" {
            continue;
        }
        let mut rules: Vec<&str> = protocol.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(rules[0], if name == "stepwise" { "numeric" } else { "strict" }, "{name}");
        rules.sort_unstable();
        assert_eq!(rules, ["flexible", "numeric", "strict"], "{name}");
    }
}

#[test]
fn the_instances_of_each_kind_are_read_as_a_person_reads_them() {
    #[derive(Deserialize)]
    struct Instance {
        text: String,
        right: String,
    }
    let rules = Protocol::open("direct").unwrap().rules;
    for kind in
        ["calculation", "digit-groups", "latex-numbers", "other-digits", "point-before-digits", "sign-lost", "think"]
    {
        let Some(path) = shared_file(&format!("cases/scoring/{kind}.jsonl")) else { return };
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let Instance { text, right } = serde_json::from_str(line).unwrap();
            let numeric = score(&rules, &text, &right);
            assert!(by_name(&numeric, "numeric").correct, "{kind}: {text:?} is {right}: {numeric:?}");
        }
    }
}

#[test]
fn the_zero_shot_protocol_compares_with_the_full_answer_as_its_source_does() {
    let strict = |protocol: &str, answer: &str| {
        let rules = Protocol::open(protocol).unwrap().rules;
        by_name(&score(&rules, "The answer is 18.", answer), "strict").correct
    };
    // The source takes `####` off a full answer with the space behind it alone.
    for (protocol, without_space) in [("gsm8k-cot-zeroshot", false), ("gsm8k-cot", true)] {
        assert_eq!(strict(protocol, "9 + 9 = 18\n####18"), without_space, "{protocol}");
    }
    assert!(strict("gsm8k-cot-zeroshot", "9 + 9 = 18\n#### 18"));
}
