//! `evalsuite show`: the table of any command's record again, or a run's answers to read.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};

use super::exit::Exit;
use super::headline::set_rule;
use super::output::{OutputArguments, colour, print_data};
use super::printer::{note, print_notes};
use super::report_tables::TableRecord;
use super::values::at_least_one;
use crate::jobs::JobError;
use crate::jobs::bench::{BenchRecord, render_bench};
use crate::jobs::eval::{EvalRecord, ReadingChoice, StoredRun, read_answers, render, render_reading};
use crate::jobs::load::{LoadRecord, render_load};
use crate::jobs::quality::QualityRecord;
use crate::report::Format;
use crate::task::Selection;
use crate::text::command_line;

/// `evalsuite show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArguments {
    /// The run folder, or a record's .json file, of any command
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The rule that decides: first table, verdict, and which answers are right
    /// [default: the one that the run names]
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    #[command(flatten)]
    /// Answers instead of the table.
    pub reading: ReadingArguments,
    #[command(flatten)]
    /// How to print the table.
    pub output: OutputArguments,
}

/// Which answers are shown in the place of the table. Each of these narrows.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new(READING).multiple(true))]
pub struct ReadingArguments {
    /// The answers to these rows, such as 7 or 3,17,40-60; repeatable
    #[arg(long, value_name = "ROWS", help_heading = "Answers", group = READING)]
    pub sample: Vec<String>,
    /// The answers that are not right
    #[arg(long, help_heading = "Answers", group = READING)]
    pub wrong: bool,
    /// The answers that are right in VARIANT and wrong in the reference, or
    /// the other way round; with --wrong or --cut, those of VARIANT are meant
    #[arg(long, value_name = "VARIANT", help_heading = "Answers", group = READING)]
    pub flipped: Option<String>,
    /// The answers that the limit of tokens or the context cut off
    #[arg(long, help_heading = "Answers", group = READING)]
    pub cut: bool,
    /// Samples shown at most [default: 10, or all that --sample names]
    #[arg(long, value_name = "N", help_heading = "Answers", requires = READING)]
    pub limit: Option<usize>,
}

const READING: &str = "reading";
const LIMIT: usize = 10;

impl ReadingArguments {
    /// The choice, if answers are asked for.
    fn choice(&self, rule: Option<&str>) -> Result<Option<ReadingChoice>, JobError> {
        let Self { sample, wrong, flipped, cut, limit } = self;
        if sample.is_empty() && !wrong && flipped.is_none() && !cut {
            return Ok(None);
        }
        at_least_one(&[("--limit", *limit)])?;
        let samples = if sample.is_empty() { Vec::new() } else { Selection::parse_indices(&sample.join(","))? };
        let unnamed = samples.is_empty().then_some(LIMIT);
        Ok(Some(ReadingChoice {
            samples,
            wrong: *wrong,
            flipped: flipped.clone(),
            cut: *cut,
            rule: rule.map(str::to_owned),
            limit: limit.or(unnamed),
        }))
    }
}

/// For `--help`.
pub(super) const JSON: &str = "\
--format json prints the record itself: its key format, bench_format, blame_format,
perplexity_format or quality_format says which command's it is, and its version.

Examples:
  evalsuite show runs/RUN --sample 7
      one question, every variant's answer, what each rule took and where
  evalsuite show runs/RUN --flipped awq --wrong
      what awq lost against f32";

/// Runs the command.
pub(super) fn run(arguments: &ShowArguments) -> Result<Exit, JobError> {
    let format = arguments.output.format(colour())?;
    if !arguments.run.join("record.json").exists() && arguments.run.join("plan.json").exists() {
        return Err(JobError::invalid(
            format!("the run in {} has not finished", arguments.run.display()),
            format!("finish it with `{}`", command_line(["evalsuite", "resume", &arguments.run.display().to_string()])),
        ));
    }
    match arguments.reading.choice(arguments.rule.as_deref())? {
        Some(choice) => print_answers(&arguments.run, &choice, &format)?,
        None if arguments.run.is_dir() => print_run(&arguments.run, &format, arguments.rule.as_deref())?,
        None => print_record(&arguments.run, &format, arguments.rule.as_deref())?,
    }
    Ok(Exit::Success)
}

fn print_answers(run: &Path, choice: &ReadingChoice, format: &Format) -> Result<(), JobError> {
    let run = StoredRun::read(run)?;
    print_notes(&run.notes);
    let reading = read_answers(&run, choice)?;
    if reading.samples.is_empty() {
        note(&format!("note: no answer of {} is: {}", run.path.display(), reading.conditions.join(", ")));
        if *format != Format::Json {
            return Ok(());
        }
    }
    print_data(&render_reading(&reading, format)?)
}

/// Prints the table of the record in a folder; in a run's it must be that of the folder's other files.
pub(super) fn print_run(folder: &Path, format: &Format, rule: Option<&str>) -> Result<(), JobError> {
    if !folder.join("plan.json").exists() {
        return print_record(&folder.join("record.json"), format, rule);
    }
    let notes = match QualityRecord::read_run(folder)? {
        Some((_, notes)) => notes,
        None => StoredRun::read(folder)?.notes,
    };
    print_notes(&notes);
    print_record(&folder.join("record.json"), format, rule)
}

/// Prints the table of a record of any kind.
fn print_record(path: &Path, format: &Format, rule: Option<&str>) -> Result<(), JobError> {
    let report = if let Some(record) = TableRecord::read(path)? {
        record.render(format)?
    } else if let Some(record) = LoadRecord::read(path)? {
        render_load(&record, format)?
    } else if let Some(record) = BenchRecord::read(path)? {
        render_bench(&record, format)?
    } else {
        let mut record = EvalRecord::read(path)?;
        set_rule(&mut record, rule, path)?;
        render(&record, format)?
    };
    print_data(&report)
}
