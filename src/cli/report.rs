//! `evalsuite report`: runs side by side, or records of speed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;

use super::baseline::{Baseline, BaselineArguments, exit};
use super::exit::Exit;
use super::headline::{deny, set_rule};
use super::output::{colour, print_bytes};
use super::printer::{note, print_error, print_notes};
use super::{report_records, report_tables};
use crate::compare::{Comparison, Digest, Report, RunChecks, read_outside, report_format};
use crate::fault::IoCause;
use crate::files::write_atomically;
use crate::jobs::JobError;
use crate::jobs::eval::StoredRun;
use crate::report::Templates;
use crate::shown::{commands, outgoing};

/// For `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite report runs/RUN
      the table, the comparison and a verdict
  evalsuite report runs/RUN --format html --out report.html
      one page with charts and every sample; it needs no network
  evalsuite report runs/CPU runs/GPU --vs elsewhere.json --format markdown
      several runs and figures measured elsewhere in one table
  evalsuite report before.json after.json --vs peers.json --format html \\
      --out speed.html
      benchmarks and load tests side by side: tables, and charts by point
  evalsuite report runs/RUN --noise floor.json
      the same, with what cannot be told from noise, as `determinism` found it
  evalsuite report runs/NEW --baseline runs/OLD --margin 2 \\
      --min-speed-ratio 0.9 --format junit --out report.xml
      exits with 1 where NEW is worse than OLD";

/// `evalsuite report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArguments {
    /// Run folders, or files that `bench`, `load` or `perplexity` wrote with --out
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// `terminal`, `markdown`, `html`, `csv`, `json`; of runs also `junit`,
    /// `github` and `model-card`; no `html` of perplexities, probes, determinism
    #[arg(long, default_value = "terminal")]
    pub format: String,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// A folder with templates of your own: report.txt, report.md, model-card.md,
    /// report.html, report.css, charts.js, report.js; what it lacks is ours
    #[arg(long, value_name = "DIR")]
    pub templates: Option<PathBuf>,
    /// In CSV, every cell as it is: else a spreadsheet's formulas have a quote before
    /// them, and control characters are marked
    #[arg(long)]
    pub csv_raw: bool,
    /// Rows measured elsewhere, as JSON; repeatable
    #[arg(long, value_name = "FILE")]
    pub vs: Vec<PathBuf>,
    /// The rule that decides: first table, verdict, --baseline
    /// [default: the one that the first run names]
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// Exit with 1 if anything about the results is implausible
    #[arg(long)]
    pub deny_notes: bool,
    #[command(flatten)]
    /// What a stored run demands.
    pub baseline: BaselineArguments,
}

/// Runs the command.
pub(super) fn run(arguments: &ReportArguments, command: Vec<String>) -> Result<Exit, JobError> {
    let to_terminal = colour() && arguments.out.is_none();
    if arguments.csv_raw && arguments.format != "csv" {
        return Err(JobError::invalid("--csv-raw is for `--format csv`", "give both, or leave it out"));
    }
    if let Some(records) = report_records::read(&arguments.runs)? {
        refuse_flags_of_runs(arguments)?;
        let ReportArguments { runs, format, vs, out, .. } = arguments;
        let text = report_records::render(&records, runs, format, vs, arguments.csv_raw, to_terminal)?;
        emit(if arguments.csv_raw { text } else { outgoing(&text, to_terminal) }, out.as_deref())?;
        return Ok(Exit::Success);
    }
    if let Some(records) = report_tables::read(&arguments.runs)? {
        refuse_flags_of_runs(arguments)?;
        if !arguments.vs.is_empty() {
            return Err(JobError::invalid("--vs is for runs and records of speed", "leave it out"));
        }
        let ReportArguments { runs, format, out, csv_raw, .. } = arguments;
        let text = report_tables::render(&records, runs, format, *csv_raw, to_terminal)?;
        emit(if *csv_raw { text } else { outgoing(&text, to_terminal) }, out.as_deref())?;
        return Ok(Exit::Success);
    }
    let format = report_format(&arguments.format)?;
    let templates = match &arguments.templates {
        Some(folder) => Templates::with_folder(folder)?,
        None => Templates::bundled(),
    };
    let mut outside = Vec::new();
    for file in &arguments.vs {
        outside.extend(read_outside(file)?);
    }
    let baseline = arguments.baseline.open()?;
    let floors_alone = if baseline.is_none() { arguments.baseline.floors()? } else { None };
    let floors = baseline.as_ref().and_then(Baseline::floors).or(floors_alone.as_ref());
    let Runs { stored: runs, digests, checks } = read_runs(arguments, baseline.as_ref(), format.most_answers())?;
    for run in &runs {
        print_notes(&run.notes);
    }
    let gate = baseline.as_ref().map(|baseline| baseline.gate(checks));
    let mut comparison = Comparison::of(&runs, &digests, outside, gate, command);
    comparison.deny_notes = arguments.deny_notes;
    if let Some(floors) = floors {
        runs.iter().try_for_each(|run| floors.check(run))?;
        floors.name_in(&mut comparison);
    }
    let csv_raw = arguments.csv_raw;
    let made_from =
        Report { comparison: &comparison, runs: &runs, templates: &templates, csv_raw, colour: to_terminal };
    emit(shown(format.render(&made_from)?, format.name(), csv_raw, to_terminal), arguments.out.as_deref())?;
    if format.name() == "github" {
        append_summary(&outgoing(&report_format("markdown")?.render(&made_from)?, false))?;
    }
    if let Some(gate) = &comparison.gate {
        gate.failures().for_each(print_error);
    }
    Ok(match exit(comparison.gate.as_ref()) {
        Exit::Success => deny(arguments.deny_notes, comparison.notes.iter().map(|note| note.message.as_str())),
        failed => failed,
    })
}

/// Runs that were read.
struct Runs {
    /// With their completions, where a report can show so many.
    stored: Vec<StoredRun>,
    digests: Vec<Digest>,
    /// One a run where there is a baseline.
    checks: Vec<RunChecks>,
}

/// Reads the runs. Of more answers than `most_answers` none is kept once it has been counted: a thousand runs have more texts than memory
/// should hold.
fn read_runs(arguments: &ReportArguments, baseline: Option<&Baseline>, most_answers: usize) -> Result<Runs, JobError> {
    let (paths, rule, held) = (&arguments.runs, arguments.rule.as_deref(), AtomicUsize::new(0));
    let digest = |place: usize, mut run: StoredRun| -> Result<_, JobError> {
        set_rule(&mut run.record, rule, &run.path)?;
        let digest = Digest::new(&run);
        let checks = baseline.map(|baseline| baseline.checks((place, paths.len()), &run)).transpose()?;
        let answers = run.answers();
        if held.fetch_add(answers, Ordering::Relaxed) + answers > most_answers {
            run.forget_answers();
        }
        Ok((run, digest, checks))
    };
    let mut read = Runs { stored: Vec::new(), digests: Vec::new(), checks: Vec::new() };
    for (run, digest, checks) in StoredRun::read_each(paths, digest)? {
        read.stored.push(run);
        read.digests.push(digest);
        read.checks.extend(checks);
    }
    if held.into_inner() > most_answers {
        read.stored.iter_mut().for_each(StoredRun::forget_answers);
    }
    Ok(read)
}

/// A report as it may leave the program.
fn shown(text: String, format: &str, csv_raw: bool, to_terminal: bool) -> String {
    match format {
        "github" => commands(&text),
        "csv" if csv_raw => text,
        _ => outgoing(&text, to_terminal),
    }
}

/// What benchmarks have no use for.
fn refuse_flags_of_runs(arguments: &ReportArguments) -> Result<(), JobError> {
    let ReportArguments { templates, rule, deny_notes, baseline, .. } = arguments;
    let given = [
        ("--templates", templates.is_some()),
        ("--rule", rule.is_some()),
        ("--deny-notes", *deny_notes),
        ("--baseline", baseline.baseline.is_some()),
        ("--noise", baseline.noise.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => {
            Err(JobError::invalid(format!("{flag} is for runs of questions with answers"), "leave it out"))
        }
        None => Ok(()),
    }
}

/// Writes a report to `--out`, or prints it.
fn emit(text: String, out: Option<&Path>) -> Result<(), JobError> {
    let Some(path) = out else { return print_bytes(&text) };
    let mut bytes = text.into_bytes();
    if bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    write_atomically(path, &bytes).map_err(|error| {
        let hint = match IoCause::of(&error) {
            IoCause::Full => "the disk is full: make room, or give `--out` a file on another one",
            IoCause::TooLarge => "files may not grow so far: raise `ulimit -f`, or give `--out` a file on another disk",
            _ => "give `--out` a file in a folder that is there and may be written to",
        };
        JobError::invalid(format!("cannot write {}: {error}", path.display()), hint)
    })?;
    note(&format!("report: {}", path.display()));
    Ok(())
}

/// GitHub shows what stands in the file that it names so as the step's summary.
fn append_summary(markdown: &str) -> Result<(), JobError> {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else { return Ok(()) };
    let path = PathBuf::from(path);
    let append = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        writeln!(file, "{}", markdown.trim_end())
    };
    append().map_err(|error| {
        JobError::invalid(
            format!("cannot append to the step summary {}: {error}", path.display()),
            "unset GITHUB_STEP_SUMMARY, or let it name a file that may be written to",
        )
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        report: ReportArguments,
    }

    /// Answers that are held of so many runs of twelve each, where a report can show `most`.
    fn held(runs: usize, most: usize) -> Vec<usize> {
        let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/e113425/run");
        let words = std::iter::once("report").chain(std::iter::repeat_n(run, runs));
        let read = read_runs(&Line::parse_from(words).report, None, most).unwrap();
        assert_eq!((read.digests.len(), read.checks.len()), (runs, 0));
        read.stored.iter().map(StoredRun::answers).collect()
    }

    #[test]
    fn runs_hold_their_answers_while_all_of_them_can_be_shown() {
        assert_eq!(held(2, usize::MAX), [12, 12]);
        assert_eq!(held(2, 24), [12, 12]);
        assert_eq!(held(2, 23), [0, 0]);
        assert_eq!(held(1, 0), [0]);
    }
}
