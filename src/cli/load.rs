//! `evalsuite load`: typed, resolved, run, said.

use std::path::PathBuf;

use clap::Args;

use super::endpoint::EndpointArguments;
use super::exit::Exit;
use super::model::ModelArguments;
use super::output::{OutputArguments, colour, print_and_keep};
use super::printer::say;
use super::session::{destination, of_requests, print_failures, with_context};
use super::values::at_least_one;
use crate::engine::Batching;
use crate::jobs::eval::{EvalJob, SamplingOptions};
use crate::jobs::load::{Arrivals, LevelPlan, LoadFinished, LoadJob, LoadPrompts, Slo, execute};
use crate::jobs::{JobError, Target};
use crate::task::{DatasetSpec, Task};

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite load --endpoint http://localhost:8000/v1 --users 20,50,80
      three levels of users who wait for their answers
  evalsuite load --endpoint http://localhost:8000/v1 --rate 2,5,10 \\
      --arrivals poisson --duration 60 --slo ttft=200ms,itl=20ms
      arrivals that wait for nobody, a minute each, and what kept its limits
  evalsuite load --model ./tinyllama --dtype f16,awq --users 8 \\
      --prompt-tokens 128 --output-tokens 64
      our own engine, exact lengths, two precisions
  evalsuite load --endpoint http://localhost:8000/v1 --users 8,32 \\
      --score gsm8k --limit 200 --slo e2e=5s
      what load does to accuracy, and right answers a second
  evalsuite load --endpoint http://localhost:8000/v1 --trace arrivals.jsonl
      as a trace says, its moments and its lengths

A failed request is counted with its cause and never sent again; the exit code
is 3 then. Requests of a
level are sent in its own time, whatever the server does; what this client was
late by is measured, and said where it touches a figure.";

/// `evalsuite load`.
#[derive(Debug, Clone, Args)]
pub struct LoadArguments {
    #[command(flatten)]
    /// Which model, and by which engine.
    pub model: ModelArguments,
    /// Requests that an engine of ours advances together at most
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub batch: Option<usize>,
    #[command(flatten)]
    /// Servers in place of a model's files, and how they are asked.
    pub endpoint: EndpointArguments,

    /// So many users at a time, each of whom waits for an answer and asks again;
    /// a level each
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Load")]
    pub users: Vec<usize>,
    /// So many requests a second on the mean, whether or not others are answered;
    /// a level each
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "users", help_heading = "Load")]
    pub rate: Vec<f64>,
    /// Gaps between arrivals at a rate: constant, poisson, or gamma:SHAPE (below 1
    /// in bursts) [default: poisson]
    #[arg(long, value_name = "KIND", requires = "rate", help_heading = "Load")]
    pub arrivals: Option<String>,
    /// Requests of each level [default: 10 a user; 100 at a rate; as many as fit
    /// --duration]
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub requests: Option<usize>,
    /// Send nothing later than so many seconds into a level
    #[arg(long, value_name = "SECONDS", help_heading = "Load")]
    pub duration: Option<f64>,
    /// Requests before each level, which are not counted [default: one a user, 8
    /// at a rate]
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub warm_up: Option<usize>,
    /// Limits that an answer must keep to count for goodput, such as
    /// ttft=200ms,itl=20ms,e2e=5s
    #[arg(long, value_name = "LIMITS", help_heading = "Load")]
    pub slo: Option<String>,

    /// A prompt set of your own [default: the built-in one]
    #[arg(long, value_name = "FILE", help_heading = "Prompts", conflicts_with_all = ["workload", "trace", "prompt_tokens"])]
    pub prompts: Option<PathBuf>,
    /// Tokens of an answer at most, with a prompt set or a task's questions
    /// [default: 80; the protocol's with --score]
    #[arg(long, value_name = "N", help_heading = "Prompts")]
    pub max_tokens: Option<usize>,
    /// Random prompts of exactly so many tokens
    #[arg(long, value_name = "N", requires = "output_tokens", help_heading = "Prompts", conflicts_with_all = ["workload", "trace"])]
    pub prompt_tokens: Option<usize>,
    /// Answers of exactly so many tokens, ends of sequence ignored
    #[arg(long, value_name = "N", requires = "prompt_tokens", help_heading = "Prompts")]
    pub output_tokens: Option<usize>,
    /// Random prompts of a workload's lengths: a file as bench takes it, or the
    /// folder of a finished run
    #[arg(long, value_name = "FILE", help_heading = "Prompts", conflicts_with = "trace")]
    pub workload: Option<PathBuf>,
    /// Random prompts of a trace's lengths at its moments, one JSON object a line:
    /// `at_seconds` (or `timestamp`, ms), `prompt_tokens`, `output_tokens`
    #[arg(long, value_name = "FILE", help_heading = "Prompts", conflicts_with_all = ["users", "rate", "requests"])]
    pub trace: Option<PathBuf>,
    /// Ask a task's questions, such as gsm8k, each once a level, and score the
    /// answers: accuracy, and right answers a second within --slo, beside an idle
    /// run of one user, which comes first
    #[arg(long, value_name = "TASK", help_heading = "Score", conflicts_with_all = ["prompts", "workload", "trace", "prompt_tokens", "requests", "duration"])]
    pub score: Option<String>,
    /// The questions: `bundled`, a hub id, or a file [default: the task's]
    #[arg(long, value_name = "DATASET", requires = "score", help_heading = "Score")]
    pub dataset: Option<String>,
    /// Split of the dataset [default: the task's]
    #[arg(long, requires = "score", help_heading = "Score")]
    pub split: Option<String>,
    /// Only the first N questions
    #[arg(long, value_name = "N", requires = "score", help_heading = "Score")]
    pub limit: Option<usize>,
    /// How to ask and how to score [default: the task's]
    #[arg(long, requires = "score", help_heading = "Score")]
    pub protocol: Option<String>,
    /// Seed of prompts and arrivals
    #[arg(long, default_value_t = 0, help_heading = "Prompts")]
    pub seed: u64,

    /// Show what others measured below: rows in a JSON file (docs/reports.md), or
    /// another load test's record, at the same users or rates
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub vs: Option<PathBuf>,
    /// Write every request, with its provenance, to this file
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    /// How to print the tables.
    pub output: OutputArguments,
}

/// Checks the arguments of `load`. `command` is the whole command line; `colour` is for a terminal's tables.
pub(super) fn resolve_load(arguments: &LoadArguments, command: Vec<String>, colour: bool) -> Result<LoadJob, JobError> {
    at_least_one(&[
        ("--requests", arguments.requests),
        ("--max-tokens", arguments.max_tokens),
        ("--limit", arguments.limit),
        ("--prompt-tokens", arguments.prompt_tokens),
        ("--output-tokens", arguments.output_tokens),
        ("--users", arguments.users.iter().min().copied()),
    ])?;
    let mut levels = levels(arguments)?;
    if arguments.score.is_some() {
        // What the others are held against comes first.
        levels.retain(|level| *level != IDLE);
        levels.insert(0, IDLE);
    }
    let requests = requests(arguments, &levels);
    let target = arguments.endpoint.add_to(arguments.model.resolve(Batching::Fast, arguments.batch)?)?;
    let prompts = match &arguments.score {
        Some(task) => LoadPrompts::Questions(Box::new(questions(task, arguments, &target, &command)?)),
        None => prompts(arguments),
    };
    Ok(LoadJob {
        command,
        target,
        warm_up: arguments.warm_up.unwrap_or(warm_up(&levels)),
        levels,
        requests,
        duration_seconds: duration(arguments.duration)?,
        max_tokens: arguments.max_tokens.unwrap_or(MAX_TOKENS),
        prompts,
        slo: arguments.slo.as_deref().map(Slo::parse).transpose()?.unwrap_or_default(),
        seed: arguments.seed,
        vs: arguments.vs.clone(),
        out: arguments.out.clone(),
        format: arguments.output.format(colour)?,
    })
}

/// One user at a time.
const IDLE: LevelPlan = LevelPlan::Users { users: 1 };

/// Tokens of an answer to a prompt of a set.
const MAX_TOKENS: usize = 80;

/// The evaluation whose questions are asked, greedily.
fn questions(name: &str, arguments: &LoadArguments, target: &Target, command: &[String]) -> Result<EvalJob, JobError> {
    let task = Task::open(name)?;
    let dataset = DatasetSpec::of(&task, arguments.dataset.as_deref(), arguments.split.as_deref());
    Ok(EvalJob::questions(
        (command.to_vec(), target.clone(), destination(None)),
        (task, dataset),
        arguments.limit,
        arguments.protocol.as_deref(),
        SamplingOptions::greedy(arguments.seed, arguments.max_tokens),
    ))
}

fn levels(arguments: &LoadArguments) -> Result<Vec<LevelPlan>, JobError> {
    if arguments.trace.is_some() {
        return Ok(vec![LevelPlan::Trace]);
    }
    if arguments.rate.is_empty() {
        let users = if arguments.users.is_empty() { &[1][..] } else { &arguments.users };
        return Ok(users.iter().map(|users| LevelPlan::Users { users: *users }).collect());
    }
    let arrivals = arguments.arrivals.as_deref().map_or(Ok(Arrivals::Poisson), Arrivals::parse)?;
    if let Some(rate) = arguments.rate.iter().find(|rate| !rate.is_finite() || **rate <= 0.0) {
        return Err(JobError::invalid(format!("--rate {rate} is no rate"), "give requests a second, more than 0"));
    }
    Ok(arguments.rate.iter().map(|rate| LevelPlan::Rate { rate: *rate, arrivals }).collect())
}

/// Requests of each level; without a word of the user, enough for a look.
fn requests(arguments: &LoadArguments, levels: &[LevelPlan]) -> Option<usize> {
    let most = levels.iter().map(|level| match level {
        LevelPlan::Users { users } => users.saturating_mul(10),
        LevelPlan::Rate { rate, .. } => {
            arguments.duration.map_or(100, |seconds| 2 * (rate * seconds).ceil() as usize + 100)
        }
        LevelPlan::Trace => 0,
    });
    match (arguments.requests, arguments.duration, levels.first()?) {
        (Some(requests), ..) => Some(requests),
        (None, Some(_), LevelPlan::Users { .. }) | (None, _, LevelPlan::Trace) => None,
        (None, ..) => most.max(),
    }
}

fn warm_up(levels: &[LevelPlan]) -> usize {
    let of = |level: &LevelPlan| if let LevelPlan::Users { users } = level { *users } else { 8 };
    levels.iter().map(of).max().unwrap_or(0)
}

fn duration(seconds: Option<f64>) -> Result<Option<f64>, JobError> {
    if let Some(seconds) = seconds.filter(|seconds| !seconds.is_finite() || *seconds <= 0.0) {
        return Err(JobError::invalid(format!("--duration {seconds} is no time"), "give seconds, more than 0"));
    }
    Ok(seconds)
}

fn prompts(arguments: &LoadArguments) -> LoadPrompts {
    if let Some(path) = &arguments.workload {
        return LoadPrompts::Workload(path.clone());
    }
    if let Some(path) = &arguments.trace {
        return LoadPrompts::Trace(path.clone());
    }
    match (arguments.prompt_tokens, arguments.output_tokens) {
        (Some(prompt_tokens), Some(output_tokens)) => LoadPrompts::Lengths { prompt_tokens, output_tokens },
        _ => LoadPrompts::Set(arguments.prompts.clone()),
    }
}

/// Runs the command.
pub(super) fn run(arguments: &LoadArguments, command: Vec<String>) -> Result<Exit, JobError> {
    let job = resolve_load(arguments, command, colour())?;
    let hub = arguments.model.start()?;
    let finished = with_context(|context| execute(&job, &hub, context))?;
    conclude(&job, &finished)
}

/// Prints what was measured, and says what was not.
fn conclude(job: &LoadJob, finished: &LoadFinished) -> Result<Exit, JobError> {
    print_and_keep(&finished.report, job.out.as_deref(), finished.record.interrupted, |path| {
        finished.record.write(path)
    })?;
    let exit = print_failures(&finished.failures);
    if finished.record.interrupted {
        say("interrupted: what was measured until then is above");
        return Ok(Exit::Interrupted);
    }
    Ok(of_requests(exit, finished.record.failed_requests()))
}
