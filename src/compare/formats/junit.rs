//! `JUnit` XML, for what CI systems show.
//!
//! A suite is a row of the table. Its checks against a baseline are test cases that fail; its samples are test cases that
//! never do: right ones pass, wrong ones are *skipped* with the reason. A wrong answer is a measurement and not a defect,
//! whether accuracy suffices is the gate's to say, and a build that is red for 73 wrong answers of 240 says nothing. Every CI
//! system counts skipped cases apart, so its own totals read `167 passed, 73 skipped`, and shows by name which changed.

use super::ReportFormat;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::compare::comparison::{Comparison, Note};
use crate::compare::samples::Questions;
use crate::compare::source::{Source, sources};
use crate::engine::Finish;
use crate::jobs::eval::StoredRun;
use crate::record::StoredCompletion;
use crate::report::ReportError;
use crate::score::Extraction;

/// `--format junit`.
#[derive(Debug)]
pub(super) struct Junit;

impl ReportFormat for Junit {
    fn name(&self) -> &'static str {
        "junit"
    }

    fn description(&self) -> &'static str {
        "test cases for CI"
    }

    fn most_answers(&self) -> usize {
        usize::MAX
    }

    fn render(&self, report: &super::Report) -> Result<String, ReportError> {
        junit(report.comparison, report.runs)
    }
}

fn junit(comparison: &Comparison, runs: &[StoredRun]) -> Result<String, ReportError> {
    let mut report = Report::new("evalsuite");
    let questions: Vec<Questions> = runs.iter().map(Questions::new).collect();
    for (index, source) in sources(runs).iter().enumerate() {
        report.add_test_suite(suite(comparison, index, source, &questions[source.run]));
    }
    report.to_string().map_err(|error| ReportError::fault("JUnit XML", &error))
}

fn suite(comparison: &Comparison, index: usize, source: &Source, questions: &Questions) -> TestSuite {
    let row = &comparison.rows[index];
    let provenance = &comparison.runs[source.run];
    let mut suite = TestSuite::new(row.label.as_str());
    for (name, value) in [
        ("model", provenance.model.as_str()),
        ("model sha256", provenance.plan.target.model.sha256.as_deref().unwrap_or("unknown")),
        ("dataset", &provenance.dataset),
        ("dataset sha256", &provenance.plan.dataset.sha256),
        ("protocol", &provenance.protocol),
        ("engine", &row.engine),
        ("run", &provenance.folder),
        ("command", &provenance.command),
    ] {
        suite.add_property((name, value));
    }
    suite.add_test_cases(checks(comparison, index, source));
    suite.add_test_cases(notes(comparison, index, source));
    suite.add_test_cases(source.completions().iter().map(|one| sample(comparison, index, one, questions)));
    suite
}

fn checks(comparison: &Comparison, index: usize, source: &Source) -> Vec<TestCase> {
    let row = &comparison.rows[index];
    let mut cases = Vec::new();
    let mut finished = TestCaseStatus::success();
    if let Some(failure) = &row.failure {
        finished = TestCaseStatus::non_success(NonSuccessKind::Error);
        finished.set_message(failure.lines().next().unwrap_or_default()).set_description(failure.as_str());
    }
    cases.push(case("finished", &row.label, finished));
    let gate = comparison.gate.iter().flat_map(|gate| &gate.checks);
    let own = gate.filter(|check| check.run == source.run && check.dtype.as_str() == row.precision);
    cases.extend(own.map(|check| {
        let mut status = TestCaseStatus::success();
        if !check.passed {
            status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(check.message.as_str()).set_type(check.subject.name());
        }
        let mut case = case(&format!("{} against the baseline", check.subject.name()), &row.label, status);
        case.set_system_out(check.message.as_str());
        case
    }));
    cases
}

/// What is implausible: a skipped case that says so, for `JUnit` has no warning; a failure where notes are denied. What is about a run and
/// not about one of its rows stands with its first.
fn notes(comparison: &Comparison, index: usize, source: &Source) -> Vec<TestCase> {
    let is_first = comparison.rows.iter().position(|row| row.run == Some(source.run)) == Some(index);
    let own = comparison.notes.iter().filter(|note| match note.row {
        Some(row) => row == index,
        None => is_first && note.run == source.run,
    });
    let case = |note: &Note| {
        let mut status = if comparison.deny_notes {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        } else {
            TestCaseStatus::skipped()
        };
        status.set_message(format!("warning: {}", note.message)).set_type(note.finding.kind.name());
        case(&format!("note {}", note.finding.kind.name()), &comparison.rows[index].label, status)
    };
    own.map(case).collect()
}

fn case(name: &str, class: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(class);
    case
}

fn sample(comparison: &Comparison, index: usize, one: &StoredCompletion, questions: &Questions) -> TestCase {
    let rule = comparison.rules.iter().find_map(|rule| one.scores.iter().find(|score| score.rule == *rule));
    let mut status = TestCaseStatus::success();
    if let Some(score) = rule.filter(|score| !score.correct) {
        let question = questions.of(one.sample);
        let reference = question.and_then(|sample| sample.answer.rsplit("####").next()).map(str::trim);
        status = TestCaseStatus::skipped();
        status.set_message(reason(score, one, reference));
    }
    let repeat = if one.repeat > 0 { format!(", repeat {}", one.repeat) } else { String::new() };
    let mut case = case(&format!("sample {}{repeat}", one.sample), &comparison.rows[index].label, status);
    // A clock that stood still, or a damaged one, must not end the report.
    if one.finish != Finish::Unknown {
        case.set_time(Duration::try_from_secs_f64(one.timings.total_seconds).unwrap_or_default());
    }
    case
}

fn reason(score: &Extraction, one: &StoredCompletion, reference: Option<&str>) -> String {
    let cut = if one.finish.is_cut() { ", cut off" } else { "" };
    let wanted = reference.map_or_else(String::new, |reference| format!(", right is {reference}"));
    match &score.value {
        Some(value) => format!("wrong: {value}{wanted} (rule {}{cut})", score.rule),
        None => format!("nothing extracted{wanted} (rule {}{cut})", score.rule),
    }
}
