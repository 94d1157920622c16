//! The rule that decides, and what follows where it reads too little; notes as failures.

use std::path::Path;

use evalsuite::compare::{Comparison, Gate, Limits};
use evalsuite::jobs::eval::{StoredRun, lowest_accuracy};
use evalsuite::report::Templates;
use evalsuite::score::Extraction;

use crate::comparisons::render;
use crate::program::{evalsuite, text};
use crate::report_runs::{counted_anew, large_run, write_run};

/// 120 questions; `strict`, the first rule, finds a value in so many answers of every variant, `flexible` in all.
fn barely_read(folder: &Path, read: usize) -> StoredRun {
    let mut run = large_run(folder, 120);
    let mut flexible = run.record.dtypes[0].rules[0].clone();
    "flexible".clone_into(&mut flexible.rule);
    run.record.dtypes[0].rules.push(flexible);
    for (index, one) in run.completions.iter_mut().flat_map(|(_, completions)| completions.iter_mut().enumerate()) {
        let strict = one.scores[0].clone();
        one.scores.push(Extraction { rule: "flexible".to_owned(), ..strict });
        if index >= read {
            one.scores[0] = Extraction { rule: one.scores[0].rule.clone(), value: None, span: None, correct: false };
        }
    }
    let run = StoredRun { path: folder.join("barely"), ..counted_anew(run) };
    write_run(&run, &run.path);
    run
}

fn compared(run: &StoredRun, gate: Option<Gate>) -> Comparison {
    Comparison::new(std::slice::from_ref(run), Vec::new(), gate, Vec::new())
}

#[test]
fn a_rule_that_reads_under_half_gives_no_verdict_and_passes_no_gate() {
    let scratch = tempfile::tempdir().unwrap();
    let run = barely_read(scratch.path(), 59);
    let verdict = compared(&run, None).verdict;
    assert!(
        verdict.contains("no verdict: f16: the rule strict finds a value in 59 of 120 answers, under half"),
        "{verdict}"
    );
    assert!(verdict.contains("flexible does from 120: give `--rule flexible`"), "{verdict}");
    let gate = Gate::new(std::slice::from_ref(&run), &run, Limits::default()).unwrap();
    assert!(
        !gate.passed && gate.checks.iter().all(|check| !check.passed),
        "token for token the same, and yet: {gate:?}"
    );
    assert!(compared(&run, Some(gate)).verdict.starts_with("FAIL, 3 of 3 checks: f32: the rule strict finds"));
    // Half is enough to speak.
    let half = barely_read(&scratch.path().join("half"), 60);
    assert!(!compared(&half, None).verdict.contains("no verdict"));
    assert!(Gate::new(std::slice::from_ref(&half), &half, Limits::default()).unwrap().passed);
    assert!(lowest_accuracy(&half.record).is_ok());
    // A baseline that the rule does not read is none either.
    let gate = Gate::new(std::slice::from_ref(&half), &run, Limits::default()).unwrap();
    assert!(!gate.passed, "{gate:?}");
    assert!(gate.checks[0].message.starts_with("the baseline's f32: the rule strict finds a value in 59"), "{gate:?}");
    let why = lowest_accuracy(&run.record).unwrap_err();
    assert!(why.starts_with("f32: the rule strict finds a value in 59 of 120 answers"), "{why}");
}

#[test]
fn another_rule_decides_where_it_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let run = barely_read(scratch.path(), 0);
    let folder = run.path.to_str().unwrap();
    let program = |arguments: &[&str]| evalsuite().args(arguments).output().expect("the program starts");
    let by_default = text(&program(&["report", folder]).stdout);
    assert!(by_default.contains("rule strict") && by_default.contains("no verdict"), "{by_default}");
    let first = |text: &str| text.lines().find(|line| line.starts_with("f32")).unwrap_or_default().to_owned();
    for command in [&["report", folder, "--rule", "flexible"][..], &["show", folder, "--rule", "flexible"]] {
        let output = program(command);
        let table = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        assert!(table.contains("rule flexible") && !table.contains("no verdict"), "{command:?}: {table}");
        assert_ne!(first(&table), first(&by_default), "{command:?}");
    }
    let held = program(&["report", folder, "--baseline", folder]);
    assert_eq!(held.status.code(), Some(1), "{}", text(&held.stderr));
    assert!(text(&held.stderr).contains("give `--rule flexible`"), "{}", text(&held.stderr));
    let held = program(&["report", folder, "--baseline", folder, "--rule", "flexible"]);
    assert_eq!(held.status.code(), Some(0), "{}", text(&held.stderr));
    let wrong = program(&["report", folder, "--rule", "flexibel"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        text(&wrong.stderr).contains("unknown rule `flexibel`")
            && text(&wrong.stderr).contains("did you mean `flexible`")
    );
}

#[test]
fn denied_notes_are_failures_in_every_format_that_knows_them() {
    let scratch = tempfile::tempdir().unwrap();
    let run = barely_read(scratch.path(), 60);
    let folder = run.path.to_str().unwrap();
    let program = |arguments: &[&str]| evalsuite().args(arguments).output().expect("the program starts");
    let allowed = program(&["report", folder]);
    assert_eq!(allowed.status.code(), Some(0), "{}", text(&allowed.stderr));
    let table = text(&allowed.stdout);
    let one_line = crate::program::flowing(&table);
    assert!(one_line.contains("strict finds a value in 60 of 120 answers (50.0 %)"), "{table}");
    let denied = program(&["report", folder, "--deny-notes"]);
    assert_eq!(denied.status.code(), Some(1));
    assert!(
        text(&denied.stderr).contains("--deny-notes: f32: strict finds a value in 60 of 120"),
        "{}",
        text(&denied.stderr)
    );

    let mut comparison = compared(&run, None);
    let of = |comparison: &Comparison, format| {
        render(comparison, std::slice::from_ref(&run), format, &Templates::bundled()).unwrap()
    };
    let junit = |comparison: &Comparison| quick_junit::Report::deserialize_from_str(&of(comparison, "junit")).unwrap();
    let kinds = comparison.notes.iter().filter(|note| note.row.is_some()).count();
    assert!(kinds >= 3, "one a variant at least: {:?}", comparison.notes);
    assert_eq!(junit(&comparison).failures, 0);
    assert!(of(&comparison, "junit").contains("warning: f32: strict finds a value in 60 of 120"));
    assert!(of(&comparison, "github").contains("::warning title=few-extracted::f32: strict finds"));
    assert!(of(&comparison, "markdown").contains("- Note: "));
    assert!(of(&comparison, "html").contains("strict finds a value in 60 of 120"));
    assert!(of(&comparison, "csv").contains("few-extracted"));
    assert!(of(&comparison, "json").contains("\"kind\": \"few-extracted\""));
    comparison.deny_notes = true;
    assert_eq!(junit(&comparison).failures, comparison.notes.len());
    assert!(of(&comparison, "github").contains("::error title=few-extracted::f32: strict finds"));
}

#[test]
fn the_first_table_of_a_report_of_many_variants_fits_80_columns() {
    let scratch = tempfile::tempdir().unwrap();
    let mut run = barely_read(scratch.path(), 120);
    for dtype in &mut run.record.dtypes {
        dtype.output_tokens_per_second = Some(142_513.4);
        dtype.load_seconds = Some(312.5);
        dtype.cut = 1319;
    }
    let comparison = compared(&run, None);
    let table = render(&comparison, std::slice::from_ref(&run), "terminal", &Templates::bundled()).unwrap();
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[2].starts_with("variant"), "the table is what stands first: {table}");
}
