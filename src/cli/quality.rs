//! `evalsuite quality`: typed, resolved, run or imported, said.

use std::path::{Path, PathBuf};

use clap::Args;

use super::endpoint::EndpointArguments;
use super::exit::Exit;
use super::flags::import_excludes;
use super::model::ModelArguments;
use super::output::{OutputArguments, colour, print_data};
use super::printer::note;
use super::session::{conclude_run, destination, with_context};
use super::values::{at_least_one, chat, on_gpu_failure};
use crate::engine::Batching;
use crate::jobs::JobError;
use crate::jobs::quality::{ImportJob, QualityJob, execute, import};

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite quality
      the bundled model on the built-in prompts, in every precision
  evalsuite quality --model ./model.gguf --dtype f32,f16,awq --awq ./awq
      a model of your own; runs/…/record.json holds every answer
  evalsuite quality --only copying,json-person --diffs 10
      some kinds or prompts, with the ten answers that differ most
  evalsuite quality --prompts mine.toml --format html > page.html
      prompts of your own (TOML or JSON), as a page with every answer
  evalsuite quality --import answers.json --ground-truth f32
      answers made elsewhere: a list of objects with model, id and one text a
      column; exact matches compare the texts byte for byte

Greedy, so that every difference is the precision's. Against f32: equal texts,
normalised Levenshtein and Jaro-Winkler similarity over characters, agreement
token by token, the first token that differs with the logit margin there, the
ratio of lengths in characters, and the checks that each prompt declares.";

/// Answers shown as word diffs unless the user says otherwise.
pub(super) const DIFFS: usize = 3;

/// `evalsuite quality`.
#[derive(Debug, Clone, Args)]
pub struct QualityArguments {
    #[command(flatten)]
    /// Which model, and by which engine.
    pub model: ModelArguments,
    /// Requests that advance together at most, on each GPU; of an endpoint, at a
    /// time [default: the engine's choice; 32 of an endpoint]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub batch: Option<usize>,
    /// When a GPU fails in mid-run: `stop`, what is done is kept; or `cpu`, which
    /// goes on with what has no answer, and the record says so
    #[arg(long, value_name = "ACTION", default_value = "stop", help_heading = "Model")]
    pub on_gpu_failure: String,
    #[command(flatten)]
    /// Servers in place of a model's files, and how they are asked.
    pub endpoint: EndpointArguments,

    /// A prompt set, .toml or .json [default: the built-in one]
    #[arg(long, value_name = "FILE", help_heading = "Prompts")]
    pub prompts: Option<PathBuf>,
    /// Only these prompts or kinds, by name
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Prompts")]
    pub only: Vec<String>,
    /// Chat template: auto, never, or required
    #[arg(long, value_name = "USE", default_value = "auto", help_heading = "Prompts")]
    pub chat: String,
    /// Tokens to generate at most [default: the set's]
    #[arg(long, value_name = "N", help_heading = "Prompts")]
    pub max_tokens: Option<usize>,

    /// Compare the answers in this JSON file; run no model
    #[arg(long, value_name = "FILE", help_heading = "Import", conflicts_with_all = import_excludes())]
    pub import: Option<PathBuf>,
    /// The import's column to compare with [default: `ground_truth`]
    #[arg(long, value_name = "COLUMN", help_heading = "Import")]
    pub ground_truth: Option<String>,

    /// Run folder [default: `runs/TIME-MODEL-SET`, in UTC]; with --import, the
    /// record's file [default: none]
    #[arg(long, value_name = "PATH", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Finish what the same command began: in --out, else the newest that fits
    #[arg(long, help_heading = "Results")]
    pub resume: bool,
    /// Show word diffs of the N answers that differ most (html shows all)
    #[arg(long, value_name = "N", default_value_t = DIFFS, help_heading = "Results")]
    pub diffs: usize,
    #[command(flatten)]
    /// How to print the report.
    pub output: OutputArguments,
}

/// Checks the arguments of a `quality` run. `command` is the whole command line; `colour` is for a terminal's tables.
pub fn resolve_quality(
    arguments: &QualityArguments,
    command: Vec<String>,
    colour: bool,
) -> Result<QualityJob, JobError> {
    at_least_one(&[("--max-tokens", arguments.max_tokens)])?;
    if let Some(column) = &arguments.ground_truth {
        return Err(JobError::invalid(
            format!("--ground-truth {column} names a column of an import, and nothing is imported"),
            "add `--import FILE`, or leave `--ground-truth` out: a run is compared with f32, or else its most exact dtype",
        ));
    }
    let mut target = arguments.model.resolve(Batching::default(), arguments.batch)?;
    target.on_gpu_failure = on_gpu_failure(&arguments.on_gpu_failure)?;
    let target = arguments.endpoint.add_to(target)?;
    Ok(QualityJob {
        command,
        target,
        prompts: arguments.prompts.clone(),
        only: arguments.only.clone(),
        chat: chat(&arguments.chat)?,
        max_tokens: arguments.max_tokens,
        destination: destination(arguments.out.as_ref()),
        resume: arguments.resume,
        format: arguments.output.format(colour)?,
        diffs: arguments.diffs,
    })
}

/// Runs the command.
pub(super) fn run(arguments: &QualityArguments, command: Vec<String>) -> Result<Exit, JobError> {
    if let Some(file) = &arguments.import {
        return compare_import(arguments, file, command);
    }
    let job = resolve_quality(arguments, command, colour())?;
    let hub = arguments.model.start()?;
    let finished = with_context(|context| execute(&job, &hub, context))?;
    conclude_run(&finished, &job.command)
}

fn compare_import(arguments: &QualityArguments, file: &Path, command: Vec<String>) -> Result<Exit, JobError> {
    let job = ImportJob {
        command,
        file: file.to_path_buf(),
        ground_truth: arguments.ground_truth.clone().unwrap_or_else(|| "ground_truth".to_owned()),
        prompts: arguments.prompts.clone(),
        out: arguments.out.clone(),
        format: arguments.output.format(colour())?,
        diffs: arguments.diffs,
    };
    let (_, report) = import(&job)?;
    print_data(&report)?;
    if let Some(path) = &job.out {
        note(&format!("results: {}", path.display()));
    }
    Ok(Exit::Success)
}
