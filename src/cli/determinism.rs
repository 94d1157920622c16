//! `evalsuite determinism`: typed, resolved, run, said.

use std::path::PathBuf;

use clap::Args;

use super::endpoint::EndpointArguments;
use super::exit::Exit;
use super::model::{MOST_BATCH, ModelArguments};
use super::output::{OutputArguments, colour, print_and_keep, print_data};
use super::printer::say;
use super::session::{destination, print_failures, with_context};
use super::values::at_least_one;
use crate::engine::Batching;
use crate::jobs::JobError;
use crate::jobs::determinism::{DeterminismJob, execute, progress_path};
use crate::jobs::eval::{EvalJob, SamplingOptions};
use crate::task::{DatasetSpec, Task};

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite determinism --model ./model --dtype f16 --batching fast
      64 prompts one at a time, then at batch 8, 32 and all at once, each twice
      and shuffled: which answers and tokens move
  evalsuite determinism --endpoint http://localhost:8000/v1 --limit 200 \\
      --out floor.json
      the same of a server: the floor below which a difference is noise
  evalsuite determinism --model ./model --out floor.json --resume
      on from the last pass that was done before Ctrl-C, a failure or a full disk
  evalsuite report runs/RUN --noise floor.json
      a run whose differences are held against that floor

Exit code 1 means that something moved.";

/// Prompts, where nobody says.
const PROMPTS: usize = 64;

/// `evalsuite determinism`.
#[derive(Debug, Clone, Args)]
pub struct DeterminismArguments {
    #[command(flatten)]
    /// Which model, and by which engine.
    pub model: ModelArguments,
    #[command(flatten)]
    /// Servers in place of a model's files, and how they are asked.
    pub endpoint: EndpointArguments,

    /// Prompts: the first so many of the dataset
    #[arg(long, value_name = "N", default_value_t = PROMPTS, help_heading = "Problems")]
    pub limit: usize,
    /// `bundled`, `openai/gsm8k` or another hub id, or a data file
    #[arg(long, value_name = "DATASET", help_heading = "Problems")]
    pub dataset: Option<String>,
    /// How to ask and how to score [default: stepwise]
    #[arg(long, help_heading = "Problems")]
    pub protocol: Option<String>,
    /// Tokens to generate at most [default: the protocol's]
    #[arg(long, value_name = "N", help_heading = "Generation")]
    pub max_tokens: Option<usize>,
    /// Of the shuffled orders
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Generation")]
    pub seed: u64,

    /// Write the record, which `--noise` of other commands reads, to this file
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Go on where an interrupted or failed run with the same `--out` ended, which
    /// keeps its passes in FILE.partial
    #[arg(long, help_heading = "Results", requires = "out")]
    pub resume: bool,
    #[command(flatten)]
    /// How to print the table.
    pub output: OutputArguments,
}

/// Checks the arguments. `command` is the whole command line; `colour` is for a terminal's table.
fn resolve(arguments: &DeterminismArguments, command: Vec<String>, colour: bool) -> Result<DeterminismJob, JobError> {
    at_least_one(&[("--limit", Some(arguments.limit)), ("--max-tokens", arguments.max_tokens)])?;
    if arguments.limit > MOST_BATCH {
        return Err(JobError::invalid(
            format!("--limit {} is more than {MOST_BATCH}, and all prompts are asked at once", arguments.limit),
            "give a smaller one",
        ));
    }
    let task = Task::gsm8k()?;
    // All prompts at once are one of the passes.
    let target = arguments.model.resolve(Batching::default(), Some(arguments.limit.max(32)))?;
    let dataset = DatasetSpec::of(&task, arguments.dataset.as_deref(), None);
    let asked = EvalJob {
        format: arguments.output.table_format(colour)?,
        ..EvalJob::questions(
            (command, arguments.endpoint.add_to(target)?, destination(None)),
            (task, dataset),
            Some(arguments.limit),
            arguments.protocol.as_deref(),
            SamplingOptions::greedy(arguments.seed, arguments.max_tokens),
        )
    };
    Ok(DeterminismJob { asked, out: arguments.out.clone(), resume: arguments.resume })
}

/// Runs the command.
pub(super) fn run(arguments: &DeterminismArguments, command: Vec<String>) -> Result<Exit, JobError> {
    let job = resolve(arguments, command, colour())?;
    let hub = arguments.model.start()?;
    let finished = with_context(|context| execute(&job, &hub, context))?;
    if finished.interrupted {
        if let Some((_, report)) = &finished.results {
            print_data(report)?;
        }
        say(&match job.out.as_deref().map(progress_path).filter(|path| path.exists()) {
            Some(path) => format!(
                "interrupted: the passes that are done are kept in {}; give the same command with --resume to go on",
                path.display()
            ),
            None if job.out.is_none() => "interrupted: without --out FILE nothing is kept".to_owned(),
            None => "interrupted before a pass was done: nothing is kept".to_owned(),
        });
        return Ok(Exit::Interrupted);
    }
    if let Some((record, report)) = &finished.results {
        print_and_keep(report, job.out.as_deref(), false, |path| record.write(path))?;
    }
    let exit = print_failures(&finished.failures);
    let moves = finished.results.is_some_and(|(record, _)| record.moves());
    Ok(if exit == Exit::Success && moves { Exit::BelowMinimum } else { exit })
}
