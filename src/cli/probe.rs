//! `evalsuite probe`: typed, resolved, run, said.

use std::path::PathBuf;

use clap::Args;

use super::endpoint::AskingArguments;
use super::exit::Exit;
use super::output::{OutputArguments, colour, print_and_keep};
use super::printer::say;
use super::session::{open_hub, start_threads, with_context};
use super::values::at_least_one;
use crate::engine::model::ModelSpec;
use crate::hub::DEFAULT_REVISION;
use crate::jobs::JobError;
use crate::jobs::endpoint_probe::{EndpointProbeJob, execute};
use crate::openai::Address;

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite probe http://localhost:8000/v1
      what the server does to an evaluation, by some fifty small requests
  evalsuite probe http://localhost:8000/v1 --tokenizer ./smollm2
      the same, with prompts and counts held against the model's tokenizer
  evalsuite probe http://localhost:8000/v1 --model ./smollm2 --out probe.json
      the same, and whether its tokens are those of the model in 16 bits
  evalsuite probe http://localhost:8000/v1 --only greedy-twice,stops
      two checks alone

Exit code 1 means that a check found what harms an evaluation. A check that
could not be asked says why, and is no failure.";

/// `evalsuite probe`.
#[derive(Debug, Clone, Args)]
pub struct ProbeArguments {
    /// The root of the API, such as `http://localhost:8000/v1`
    #[arg(value_name = "URL")]
    pub address: String,

    /// The same model's files, a folder, a hub id or a .gguf file: the endpoint's
    /// tokens are held against f32 here
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// Revision of a hub model
    #[arg(long, default_value = DEFAULT_REVISION, requires = "model", help_heading = "Model")]
    pub revision: String,
    /// CPU threads [default: one a core]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub threads: Option<usize>,
    /// Use only what is on this machine; ask no hub
    #[arg(long, help_heading = "Model")]
    pub offline: bool,

    #[command(flatten)]
    /// How it is asked.
    pub asking: AskingArguments,

    /// Only these checks, by their names in the table
    #[arg(long, value_name = "CHECKS", value_delimiter = ',', help_heading = "Results")]
    pub only: Vec<String>,
    /// Write every request and answer, with provenance, to this file
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    /// How to print the table.
    pub output: OutputArguments,
}

/// Seconds for an answer, where nobody says: they are short.
const TIMEOUT: usize = 120;

/// Checks the arguments of `probe`. `command` is the whole command line; `colour` is for a terminal's table.
fn resolve_probe(arguments: &ProbeArguments, command: Vec<String>, colour: bool) -> Result<EndpointProbeJob, JobError> {
    at_least_one(&[("--threads", arguments.threads)])?;
    let model = arguments.model.as_ref();
    if model.is_some() && arguments.asking.tokenizer.is_some() {
        return Err(JobError::invalid(
            "--tokenizer beside --model: the model's files hold its tokenizer",
            "leave `--tokenizer` out",
        ));
    }
    Ok(EndpointProbeJob {
        command,
        address: Address::parse(&arguments.address)?,
        settings: arguments.asking.settings(TIMEOUT)?,
        model: model.map(|source| ModelSpec { source: source.clone(), revision: arguments.revision.clone() }),
        only: arguments.only.iter().map(|name| name.trim().to_owned()).collect(),
        out: arguments.out.clone(),
        format: arguments.output.table_format(colour)?,
    })
}

/// Runs the command.
pub(super) fn run(arguments: &ProbeArguments, command: Vec<String>) -> Result<Exit, JobError> {
    let job = resolve_probe(arguments, command, colour())?;
    start_threads(arguments.threads)?;
    let hub = open_hub(arguments.offline)?;
    let finished = with_context(|context| execute(&job, &hub, context))?;
    let record = &finished.record;
    print_and_keep(&finished.report, job.out.as_deref(), record.interrupted, |path| record.write(path))?;
    if record.interrupted {
        say("interrupted: what was found until then is above");
        return Ok(Exit::Interrupted);
    }
    Ok(if record.harms() { Exit::BelowMinimum } else { Exit::Success })
}
