//! `evalsuite bench`: typed, resolved, run, said.

use std::path::PathBuf;

use clap::Args;

use super::endpoint::EndpointArguments;
use super::exit::Exit;
use super::model::ModelArguments;
use super::output::{OutputArguments, colour, print_and_keep};
use super::printer::say;
use super::session::{of_requests, print_failures, with_context};
use super::values::at_least_one;
use crate::engine::Batching;
use crate::fault::Fault;
use crate::jobs::JobError;
use crate::jobs::bench::{BenchFinished, BenchJob, PARTS, Part, execute};

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite bench
      the bundled model: load, one request, many requests, a workload
  evalsuite bench --model ./tinyllama --dtype f16,f32,awq --out bench.json
      three precisions, every repetition kept
  evalsuite bench --model ./tinyllama --dtype f16 --only load,single
      minutes less on a CPU
  evalsuite bench --model ./tinyllama --workload lengths.json --vs peers.json
      a workload of your own, beside what others measured
  evalsuite bench --model ./opt-125m --dtype f16 --only sweep --format html
      three sweeps as a page with charts; --requests 8 on a CPU
  evalsuite bench --endpoint http://localhost:8000/v1 --only single,sweep
      the same of a server

Parts: `load` opens the engine --repeats times and asks each for a first token;
`single` runs one request of 128 prompt and 129 output tokens --repeats times;
`concurrent` runs 500 requests of 128 and 64 tokens at once; `workload` submits
all requests of a workload at once. Weights are read once beforehand, so that
loads find them in the page cache.

Only where they are named: `sweep` runs 1 to 32 requests at once and 10 to 500,
of 128 prompt and 64 output tokens, and 64 of 32 to 512 tokens in and out, each
point once uncounted and then --repeats times; `startup` opens the engine once
with its weights on the disk alone and then --repeats times with them in the
page cache. Points that the model's context does not hold are left out and said;
--requests N leaves out those of more requests.

An endpoint runs all parts but `load` and `startup`. Its requests are sent once:
what fails is counted, and the exit code is 3 then. Prompts are token ids, or
words where the server takes none; lengths other than asked for are told.

--workload FILE is JSON, lengths in tokens; the built-in one, gsm8k-like, has
1,319 requests shaped like a zero-shot GSM8K run, 256 output tokens each. With
the folder of a finished run, its own lengths are run again: the engine's rate
beside that of the whole program.
  {\"requests\": [{\"prompt_tokens\": 96, \"output_tokens\": 256}, ...],
   \"shared_prefix_tokens\": 0}

With --vs, rows with a model are taken if that is part of the model's name, else
those without one; of them, those with a figure in the precisions at hand.";

/// `evalsuite bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArguments {
    #[command(flatten)]
    /// Which model, and by which engine.
    pub model: ModelArguments,
    /// Requests that advance together at most, on each GPU [default: the engine's
    /// choice]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub batch: Option<usize>,
    #[command(flatten)]
    /// Servers in place of a model's files, and how they are asked.
    pub endpoint: EndpointArguments,

    /// Parts: load, single, concurrent, workload; sweep and startup, which run
    /// only where they are named [default: the first four]
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Measurement")]
    pub only: Vec<String>,
    /// Repetitions of loading, of the single request and of a sweep's points
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Measurement")]
    pub repeats: usize,
    /// Lengths of the requests of the workload: a file, or the folder of a
    /// finished run [default: gsm8k-like, built in]
    #[arg(long, value_name = "FILE", help_heading = "Measurement")]
    pub workload: Option<PathBuf>,
    /// At most N requests of the workload, of the concurrent part and at a
    /// sweep's points
    #[arg(long, value_name = "N", help_heading = "Measurement")]
    pub requests: Option<usize>,
    /// All prompts of the workload begin with the same N tokens more
    #[arg(long, value_name = "N", help_heading = "Measurement")]
    pub shared_prefix: Option<usize>,
    /// Seed of the prompts' token ids
    #[arg(long, default_value_t = 0, help_heading = "Measurement")]
    pub seed: u64,

    /// Show what others measured below: rows in a JSON file, as said below
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub vs: Option<PathBuf>,
    /// Write every repetition, with its provenance, to this file
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    /// How to print the tables.
    pub output: OutputArguments,
}

/// Checks the arguments of `bench`. `command` is the whole command line; `colour` is for a terminal's tables.
pub fn resolve_bench(arguments: &BenchArguments, command: Vec<String>, colour: bool) -> Result<BenchJob, JobError> {
    at_least_one(&[("--repeats", Some(arguments.repeats)), ("--requests", arguments.requests)])?;
    let parts = parts(&arguments.only, !arguments.endpoint.endpoint.is_empty())?;
    let of_workload =
        [("--workload", arguments.workload.is_some()), ("--shared-prefix", arguments.shared_prefix.is_some())];
    if let Some((flag, _)) =
        of_workload.into_iter().find(|(_, given)| *given && !parts.iter().any(|part| part == "workload"))
    {
        return Err(JobError::invalid(
            format!("{flag} has no use without the part `workload`"),
            "add workload to `--only`, or leave one of the two out",
        ));
    }
    if arguments.requests.is_some()
        && !parts.iter().any(|part| ["workload", "concurrent", "sweep"].contains(&part.as_str()))
    {
        return Err(JobError::invalid(
            "--requests has no use without the parts `workload`, `concurrent` or `sweep`",
            "add one of them to `--only`, or leave it out",
        ));
    }
    let target = arguments.model.resolve(Batching::Fast, arguments.batch)?;
    Ok(BenchJob {
        command,
        target: arguments.endpoint.add_to(target)?,
        workload: arguments.workload.clone(),
        requests: arguments.requests,
        parts,
        repeats: arguments.repeats,
        shared_prefix_tokens: arguments.shared_prefix,
        seed: arguments.seed,
        peers: arguments.vs.clone(),
        out: arguments.out.clone(),
        format: arguments.output.format(colour)?,
    })
}

/// The named parts in the order in which they run; those that are the default if none is named.
fn parts(names: &[String], on_endpoint: bool) -> Result<Vec<String>, JobError> {
    let known = PARTS.map(Part::name);
    if let Some(stranger) = names.iter().find(|name| !known.contains(&name.trim())) {
        return Err(Fault::unknown("part", stranger, &known).into());
    }
    let is_named = |part: &dyn Part| names.iter().any(|name| name.trim() == part.name());
    if let Some(part) = PARTS.into_iter().find(|part| on_endpoint && is_named(*part) && !part.runs_on_endpoints()) {
        return Err(JobError::invalid(
            format!("the part {} opens an engine here, and an endpoint is open already", part.name()),
            "leave it out of `--only`, or give the model's files as `--model`",
        ));
    }
    let asked_for = |part: &&dyn Part| {
        let is_default = part.is_default() && (part.runs_on_endpoints() || !on_endpoint);
        if names.is_empty() { is_default } else { is_named(*part) }
    };
    Ok(PARTS.into_iter().filter(asked_for).map(|part| part.name().to_owned()).collect())
}

/// Runs the command.
pub(super) fn run(arguments: &BenchArguments, command: Vec<String>) -> Result<Exit, JobError> {
    let job = resolve_bench(arguments, command, colour())?;
    let hub = arguments.model.start()?;
    let finished = with_context(|context| execute(&job, &hub, context))?;
    conclude(&job, &finished)
}

/// Prints what was measured, and says what was not.
fn conclude(job: &BenchJob, finished: &BenchFinished) -> Result<Exit, JobError> {
    print_and_keep(&finished.report, job.out.as_deref(), finished.record.interrupted, |path| {
        finished.record.write(path)
    })?;
    let exit = print_failures(&finished.failures);
    if finished.record.interrupted {
        say("interrupted: the figures above are of what was done\nhint: `--only` and `--requests` ask for less");
        return Ok(Exit::Interrupted);
    }
    Ok(of_requests(exit, finished.failed_requests))
}
