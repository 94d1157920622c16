//! `evalsuite report`, and `--baseline`, which `gsm8k` has too.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::commands::{colour, print_data};
use super::exit::Exit;
use super::printer::{print_error, say};
use crate::files::write_atomically;
use crate::record::StoredRun;
use crate::report::{
    Comparison, Gate, Limits, ReportFormat, Templates, no_shared_precision, read_outside, refusal, render_comparison,
};
use crate::run::{Job, RunError};
use crate::task::Protocol;

/// For `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite report runs/RUN
      the table, the comparison and a verdict
  evalsuite report runs/RUN --format html --out report.html
      one page with charts and every sample; it needs no network
  evalsuite report runs/CPU runs/GPU --vs elsewhere.json --format markdown
      several runs and figures measured elsewhere in one table
  evalsuite report runs/NEW --baseline runs/OLD --margin 2 \\
      --min-speed-ratio 0.9 --format junit --out report.xml
      exits with 1 where NEW is worse than OLD";

/// `evalsuite report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArguments {
    /// Run folders
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// `terminal`, `markdown`, `html`, `csv`, `json`, `junit`, or `github`
    #[arg(long, default_value = "terminal")]
    pub format: String,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// A folder with templates of your own: report.txt, report.md, report.html,
    /// report.css, charts.js, report.js; what it lacks is ours
    #[arg(long, value_name = "DIR")]
    pub templates: Option<PathBuf>,
    /// Rows measured elsewhere, as JSON; repeatable
    #[arg(long, value_name = "FILE")]
    pub vs: Vec<PathBuf>,
    #[command(flatten)]
    /// What a stored run demands.
    pub baseline: BaselineArguments,
}

/// Holding a run against a stored one.
#[derive(Debug, Clone, Args)]
pub struct BaselineArguments {
    /// Exit with 1 if the run is worse than this one, paired by sample
    #[arg(long, value_name = "RUN", help_heading = "Gate")]
    pub baseline: Option<PathBuf>,
    /// Percentage points of accuracy that may be lost [default: 2]
    #[arg(long, value_name = "POINTS", requires = "baseline", allow_negative_numbers = true, help_heading = "Gate")]
    pub margin: Option<f64>,
    /// The least tokens/s, as a multiple of the baseline's
    #[arg(long, value_name = "RATIO", requires = "baseline", allow_negative_numbers = true, help_heading = "Gate")]
    pub min_speed_ratio: Option<f64>,
}

/// A stored run, and what it demands.
#[derive(Debug, Clone)]
pub(super) struct Baseline {
    run: StoredRun,
    limits: Limits,
}

impl BaselineArguments {
    /// Reads the baseline, so that a wrong one is known before hours are spent.
    pub(super) fn open(&self) -> Result<Option<Baseline>, RunError> {
        let Some(path) = &self.baseline else { return Ok(None) };
        let limits = Limits {
            margin_points: self.margin.unwrap_or(Limits::default().margin_points),
            min_speed_ratio: self.min_speed_ratio,
        };
        let numbers = [
            (
                "--margin",
                limits.margin_points,
                (0.0..=100.0).contains(&limits.margin_points),
                "percentage points, 0 to 100",
            ),
            (
                "--min-speed-ratio",
                limits.min_speed_ratio.unwrap_or(1.0),
                limits.min_speed_ratio.is_none_or(|ratio| ratio > 0.0 && ratio.is_finite()),
                "a ratio above 0, such as 0.9",
            ),
        ];
        for (flag, value, holds, range) in numbers {
            if !holds {
                return Err(RunError::invalid(format!("{flag} {value} is out of range"), format!("give {range}")));
            }
        }
        Ok(Some(Baseline { run: StoredRun::read(path)?, limits }))
    }
}

impl Baseline {
    /// Refuses a job whose run could not be held against it, before hours are spent. Its problems are compared once they are known.
    pub(super) fn check_job(&self, job: &Job) -> Result<(), RunError> {
        let (stored, dtypes) = (&self.run.record, &job.subject.dtypes);
        let protocol = Protocol::open(&job.protocol)?;
        if protocol.sha256 != stored.plan.protocol.sha256 {
            let why = format!("its protocol is {}, the baseline's {}", protocol.name, stored.plan.protocol.name);
            let hint = "give the baseline's `--protocol`, or make a new baseline";
            return Err(refusal("this run", &self.run, &why, hint).into());
        }
        if !dtypes.is_empty() && !stored.dtypes.iter().any(|one| dtypes.contains(&one.dtype)) {
            return Err(no_shared_precision("this run", &self.run).into());
        }
        Ok(())
    }

    /// Holds a run that has just finished against it, and says what came of it.
    pub(super) fn check(&self, folder: &Path) -> Result<Exit, RunError> {
        let runs = [StoredRun::read(folder)?];
        let gate = Gate::new(&runs, &self.run, self.limits)?;
        tell(&gate);
        Ok(exit(Some(&gate)))
    }
}

pub(super) fn report(arguments: &ReportArguments, command: Vec<String>) -> Result<Exit, RunError> {
    let to_terminal = colour() && arguments.out.is_none();
    let format = ReportFormat::parse(&arguments.format, to_terminal)?;
    let templates = match &arguments.templates {
        Some(folder) => Templates::with_folder(folder)?,
        None => Templates::bundled(),
    };
    let mut outside = Vec::new();
    for file in &arguments.vs {
        outside.extend(read_outside(file)?);
    }
    let baseline = arguments.baseline.open()?;
    let runs = arguments.runs.iter().map(|path| StoredRun::read(path)).collect::<Result<Vec<_>, _>>()?;
    let gate = baseline.map(|baseline| Gate::new(&runs, &baseline.run, baseline.limits)).transpose()?;
    let comparison = Comparison::new(&runs, outside, gate, command);
    let text = render_comparison(&comparison, &runs, format, &templates)?;
    match &arguments.out {
        Some(path) => {
            let mut bytes = text.into_bytes();
            if bytes.last() != Some(&b'\n') {
                bytes.push(b'\n');
            }
            write_atomically(path, &bytes).map_err(|error| {
                RunError::invalid(
                    format!("cannot write {}: {error}", path.display()),
                    "give `--out` a file in a folder that is there and may be written to",
                )
            })?;
            say(&format!("report: {}", path.display()));
        }
        None => print_data(&text)?,
    }
    if format == ReportFormat::Github {
        append_summary(&render_comparison(&comparison, &runs, ReportFormat::Markdown, &templates)?)?;
    }
    if let Some(gate) = &comparison.gate {
        gate.failures().for_each(print_error);
    }
    Ok(exit(comparison.gate.as_ref()))
}

fn exit(gate: Option<&Gate>) -> Exit {
    if gate.is_none_or(|gate| gate.passed) { Exit::Success } else { Exit::BelowMinimum }
}

fn tell(gate: &Gate) {
    for note in &gate.notes {
        say(&format!("baseline: {note}"));
    }
    for check in &gate.checks {
        if check.passed { say(&format!("baseline: {}", check.message)) } else { print_error(&check.message) }
    }
}

/// GitHub shows what stands in the file that it names so as the step's summary.
fn append_summary(markdown: &str) -> Result<(), RunError> {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else { return Ok(()) };
    let path = PathBuf::from(path);
    let append = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        writeln!(file, "{}", markdown.trim_end())
    };
    append().map_err(|error| {
        RunError::invalid(
            format!("cannot append to the step summary {}: {error}", path.display()),
            "unset GITHUB_STEP_SUMMARY, or let it name a file that may be written to",
        )
    })
}
