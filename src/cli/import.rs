//! `evalsuite import`: other tools' results as run folders.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::output::{OutputArguments, colour, print_data, print_json};
use super::printer::{note, print_notes};
use super::session::destination;
use crate::interchange::{Import, import};
use crate::jobs::JobError;
use crate::jobs::eval::render;
use crate::record::VariantName;
use crate::report::Format;

/// For `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite import results/meta-llama__Llama-3.2-1B
      a folder of lm-evaluation-harness: a run a task
  evalsuite import f16=results/base awq=results/awq --task gsm8k
      two models as variants of one run, compared by question
  evalsuite import logs/2026-11-30T16-18-39-00-00_math_Z2ma6i.json
      a JSON log of Inspect AI
  evalsuite report runs/NEW --baseline runs/IMPORTED
      an imported run is a run like any other

Verdicts are the tool's own, one rule a filter and metric, or a scorer; nothing
is scored anew (`evalsuite rescore` does that). Speed, load and memory are n/a.
--format json has the keys kind (\"import\"), format (1), and runs, each with folder
and record (as in record.json). docs/interchange.md says what becomes what.";

/// `evalsuite import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArguments {
    /// Files or folders of lm-evaluation-harness or Inspect AI, with the variant's
    /// name where they shall be variants of one run
    #[arg(value_name = "[NAME=]PATH", required = true)]
    pub sources: Vec<String>,
    /// The task to take, by the tool's name [default: all, a run each]
    #[arg(long)]
    pub task: Option<String>,
    /// What tables call the model [default: the tool's name of it]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The variant that the others are compared with [default: f32, else the first]
    #[arg(long, value_name = "NAME")]
    pub reference: Option<String>,
    /// The rule that decides: first table and verdict [default: the tool's first]
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Run folder [default: `runs/TIME-MODEL-TASK`, in UTC]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    /// How to print the tables.
    pub output: OutputArguments,
}

/// Runs the command.
pub(super) fn run(arguments: &ImportArguments, command: Vec<String>) -> Result<Exit, JobError> {
    let format = arguments.output.table_format(colour())?;
    let job = Import {
        command,
        sources: arguments.sources.iter().map(|source| split(source)).collect::<Result<_, _>>()?,
        task: arguments.task.clone(),
        model: arguments.model.clone(),
        reference: arguments.reference.clone(),
        rule: arguments.rule.clone(),
        destination: destination(arguments.out.as_ref()),
    };
    let runs = import(&job)?;
    for (record, _) in &runs {
        print_notes(&record.notes);
    }
    if format == Format::Json {
        let runs: Vec<_> = runs.iter().map(|(record, folder)| json!({"folder": folder, "record": record})).collect();
        print_json("import", &json!({"runs": runs}))?;
    } else {
        let tables = runs.iter().map(|(record, _)| render(record, &format)).collect::<Result<Vec<_>, _>>()?;
        print_data(&tables.join("\n"))?;
    }
    for (_, folder) in &runs {
        note(&format!("run folder: {}", folder.display()));
    }
    Ok(Exit::Success)
}

/// `NAME=PATH`, or a path: of something that is there as it is written, a `=` is part of the path.
fn split(source: &str) -> Result<(Option<VariantName>, PathBuf), JobError> {
    let path = PathBuf::from(source);
    let Some((name, rest)) = source.split_once('=').filter(|_| !path.exists()) else { return Ok((None, path)) };
    let name = VariantName::parse(name).map_err(|why| {
        JobError::invalid(
            format!("{name:?} in {source} is no name of a variant: {why}"),
            "give NAME=PATH with a name of up to 24 letters, digits, `.`, `_` and `-`, such as f16=results/base",
        )
    })?;
    Ok((Some(name), PathBuf::from(rest)))
}
