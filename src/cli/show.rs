//! `evalsuite show`: the table of any command's record again.

use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::Exit;
use super::headline::set_rule;
use super::output::{OutputArguments, colour, print_data};
use super::quality::DIFFS;
use crate::jobs::JobError;
use crate::jobs::bench::{BenchRecord, render_bench};
use crate::jobs::eval::{EvalRecord, render};
use crate::jobs::perplexity::{PerplexityRecord, render_perplexity};
use crate::jobs::quality::{QualityRecord, render_quality};
use crate::report::Format;
use crate::text::command_line;

/// `evalsuite show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArguments {
    /// The run folder, or a record's .json file, of any command
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The rule that decides: first table and verdict
    /// [default: the one that the run names]
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    #[command(flatten)]
    /// How to print the table.
    pub output: OutputArguments,
}

/// For `--help`.
pub(super) const JSON: &str = "\
--format json prints the record itself: its key format, bench_format,
perplexity_format or quality_format says which command's it is, and its version.";

/// Runs the command.
pub(super) fn run(arguments: &ShowArguments) -> Result<Exit, JobError> {
    let format = arguments.output.format(colour())?;
    let path = if arguments.run.is_dir() { arguments.run.join("record.json") } else { arguments.run.clone() };
    if !path.exists() && arguments.run.join("plan.json").exists() {
        return Err(JobError::invalid(
            format!("the run in {} has not finished", arguments.run.display()),
            format!("finish it with `{}`", command_line(["evalsuite", "resume", &arguments.run.display().to_string()])),
        ));
    }
    print_record(&path, &format, arguments.rule.as_deref())?;
    Ok(Exit::Success)
}

/// Prints the table of a record of any kind.
pub(super) fn print_record(path: &Path, format: &Format, rule: Option<&str>) -> Result<(), JobError> {
    let report = if let Some(record) = PerplexityRecord::read(path)? {
        render_perplexity(&record, format, 0)?
    } else if let Some(record) = BenchRecord::read(path)? {
        render_bench(&record, format)?
    } else if let Some(record) = QualityRecord::read(path)? {
        render_quality(&record, format, DIFFS)?
    } else {
        let mut record = EvalRecord::read(path)?;
        set_rule(&mut record, rule, path)?;
        render(&record, format)?
    };
    print_data(&report)
}
