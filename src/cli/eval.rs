//! `evalsuite eval TASK`, and `evalsuite gsm8k`, which is `eval gsm8k`: typed, resolved, run, said.

use std::path::PathBuf;

use clap::Args;

use super::baseline::{Baseline, BaselineArguments};
use super::endpoint::EndpointArguments;
use super::exit::Exit;
use super::headline::deny;
use super::model::ModelArguments;
use super::output::{OutputArguments, colour, print_data, print_json};
use super::printer::say;
use super::session::{conclude_run, destination, with_context};
use super::values::{at_least_one, chat, on_gpu_failure, switch};
use crate::engine::Batching;
use crate::jobs::eval::{
    EvalInputs, EvalJob, EvalRecord, SamplingOptions, Until, execute, lowest_accuracy, show_prompt,
};
use crate::jobs::{Finished, JobError};
use crate::report::Format;
use crate::task::{DatasetSpec, Protocol, Selection, Task};

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite gsm8k
      the bundled model on the bundled problems, in every precision
  evalsuite gsm8k --model HuggingFaceTB/SmolLM2-135M-Instruct \\
      --dataset openai/gsm8k --limit 100
      a real model on real problems, the first 100 of them
  evalsuite gsm8k --model ./model.gguf --dtype f32,f16 --protocol gsm8k-cot
      a GGUF file, two precisions, lm-evaluation-harness's 8-shot prompt
  evalsuite gsm8k --show-prompt 0
      what the model would read, as text and as token ids
  evalsuite gsm8k --dtype f32,awq --until 'no worse than 2'
      a verdict in as few questions as it takes
  evalsuite gsm8k --dtype f32,awq --placebo
      what awq changes beyond what bf16, which should not matter, changes
  evalsuite gsm8k --resume
      go on where Ctrl-C, a crash or a full disk ended the newest run";

pub(super) const EVAL_EXAMPLES: &str = "\
Examples:
  evalsuite eval svamp --model HuggingFaceTB/SmolLM2-135M-Instruct --limit 50
      another task's problems, from the hub
  evalsuite eval mgsm-de --model ./model --dataset ./mgsm_de.tsv
      the same from a file
  evalsuite eval --task mine.toml --dataset rows.csv
      a task of your own: which columns hold what, and what counts as right
  evalsuite eval gsm8k
      what `evalsuite gsm8k` does";

/// `evalsuite eval`.
#[derive(Debug, Clone, Args)]
pub struct EvalArguments {
    // Which task.
    #[arg(value_name = "TASK", required_unless_present = "task", help = tasks_help())]
    #[expect(missing_docs, reason = "a doc comment would take the place of the help that lists the tasks")]
    pub name: Option<String>,
    /// A task's file instead of a built-in one (see docs/tasks.md); TASK then
    /// chooses among its variants, if it has some
    #[arg(long, value_name = "FILE", help_heading = "Problems")]
    pub task: Option<PathBuf>,
    #[command(flatten)]
    /// Everything else.
    pub flags: EvalFlags,
}

/// `evalsuite gsm8k`, and all of `eval` but the task.
#[derive(Debug, Clone, Args)]
pub struct EvalFlags {
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

    /// `bundled`, `openai/gsm8k` or another hub id, or a .parquet, .jsonl,
    /// .json, .csv or .tsv file [default: the task's; of gsm8k, bundled]
    #[arg(long, value_name = "DATASET", help_heading = "Problems")]
    pub dataset: Option<String>,
    /// Split of the dataset [default: the task's, as a rule test]
    #[arg(long, help_heading = "Problems")]
    pub split: Option<String>,
    /// Only the first N problems; changes no prompt
    #[arg(long, value_name = "N", help_heading = "Problems", conflicts_with = "samples")]
    pub limit: Option<usize>,
    /// Only these rows, such as 3,17,40-60; changes no prompt
    #[arg(long, value_name = "ROWS", help_heading = "Problems")]
    pub samples: Option<String>,
    // How to ask and how to score.
    #[arg(long, help_heading = "Problems", help = protocols_help())]
    #[expect(missing_docs, reason = "a doc comment would take the place of the help that lists the protocols")]
    pub protocol: Option<String>,
    /// Worked examples instead of the protocol's own: a data file with the
    /// columns question and target, or lm-evaluation-harness's YAML file
    #[arg(long, value_name = "FILE", help_heading = "Problems")]
    pub fewshot: Option<PathBuf>,
    /// Chat template: auto, never, or required [default: the protocol's]
    #[arg(long, value_name = "USE", help_heading = "Problems")]
    pub chat: Option<String>,
    /// A system message instead of the protocol's own; `''` for none
    #[arg(long, value_name = "TEXT", help_heading = "Problems")]
    pub system: Option<String>,
    /// Tell the model's chat template to let it think: on or off [default: the
    /// template's own]
    #[arg(long, value_name = "SWITCH", help_heading = "Problems")]
    pub thinking: Option<String>,
    /// Print the prompt of row N as text and token ids, and run nothing
    #[arg(long, value_name = "N", help_heading = "Problems")]
    pub show_prompt: Option<usize>,

    /// Tokens to generate at most [default: the protocol's]
    #[arg(long, value_name = "N", help_heading = "Generation")]
    pub max_tokens: Option<usize>,
    /// 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true, help_heading = "Generation")]
    pub temperature: f64,
    /// Sample from the smallest set of tokens with this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, help_heading = "Generation")]
    pub top_p: f64,
    /// Sample from the K most probable tokens; 0 means all
    #[arg(long, value_name = "K", default_value_t = 0, help_heading = "Generation")]
    pub top_k: usize,
    /// Seed of the run
    #[arg(long, default_value_t = 0, help_heading = "Generation")]
    pub seed: u64,
    /// Completions a problem; every one counts
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Generation")]
    pub repeats: usize,
    /// A string that ends a generation, besides the protocol's; repeatable
    #[arg(long, value_name = "STRING", help_heading = "Generation")]
    pub stop: Vec<String>,
    /// A string that ends a thought, besides `</think>` and its like; what
    /// stands before it is kept apart and not scored
    #[arg(long, value_name = "STRING", help_heading = "Generation")]
    pub think_end: Option<String>,

    /// Run folder [default: `runs/TIME-MODEL-PROTOCOL`, in UTC]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Finish what the same command began: in --out, else the newest that fits
    #[arg(long, help_heading = "Results")]
    pub resume: bool,
    /// `"no worse than 2"`: ask in random order until every variant is shown to
    /// be worse than the reference or no worse by so many points (5 % error);
    /// exit with 1 unless none is worse. `evalsuite resume RUN` asks the rest
    #[arg(long, value_name = "CLAIM", help_heading = "Results")]
    pub until: Option<String>,
    /// Add columns that should not matter (bf16; another batch where tokens may
    /// depend on it; another seed where they are drawn), and say what each variant
    /// changes beyond them
    #[arg(long, help_heading = "Results", conflicts_with = "until")]
    pub placebo: bool,
    /// What an hour of the machine costs: adds what right answers cost in money
    #[arg(long, value_name = "PRICE", allow_negative_numbers = true, help_heading = "Results")]
    pub price_per_hour: Option<f64>,
    /// Exit with 1 if any variant's accuracy (headline rule) is below this
    #[arg(long, value_name = "PERCENT", help_heading = "Results")]
    pub min_accuracy: Option<f64>,
    /// The rule that decides: first table, verdict, --min-accuracy, --baseline
    /// [default: the protocol's headline]
    #[arg(long, value_name = "RULE", help_heading = "Results")]
    pub rule: Option<String>,
    /// Exit with 1 if anything about the results is implausible
    #[arg(long, help_heading = "Results")]
    pub deny_notes: bool,
    #[command(flatten)]
    /// What a stored run demands.
    pub baseline: BaselineArguments,
    #[command(flatten)]
    /// How to print the table.
    pub output: OutputArguments,
}

fn protocols_help() -> String {
    let names = Protocol::names().join(", ");
    format!("How to ask and how to score: a .toml file, or {names} [default: the task's; of gsm8k, stepwise]")
}

fn tasks_help() -> String {
    let described: Vec<String> = Task::names();
    format!("What is asked and what counts as right: {}", described.join(", "))
}

/// The task that `eval` is told.
pub(super) fn chosen_task(arguments: &EvalArguments) -> Result<Task, JobError> {
    Ok(match (&arguments.task, &arguments.name) {
        (Some(file), name) => Task::read(file, name.as_deref())?,
        (None, Some(name)) => Task::open(name)?,
        (None, None) => Task::gsm8k()?,
    })
}

/// Checks the flags of an evaluation. `command` is the whole command line; `colour` is for a terminal's table.
pub fn resolve(task: Task, arguments: &EvalFlags, command: Vec<String>, colour: bool) -> Result<EvalJob, JobError> {
    check_numbers(arguments)?;
    let mut target = arguments.model.resolve(Batching::default(), arguments.batch)?;
    target.on_gpu_failure = on_gpu_failure(&arguments.on_gpu_failure)?;
    let target = arguments.endpoint.add_to(target)?;
    Ok(EvalJob {
        command,
        target,
        dataset: DatasetSpec::of(&task, arguments.dataset.as_deref(), arguments.split.as_deref()),
        selection: selection(arguments)?,
        protocol: arguments.protocol.clone().unwrap_or_else(|| task.protocol.clone()),
        task,
        fewshot: arguments.fewshot.clone(),
        rule: arguments.rule.clone(),
        chat: arguments.chat.as_deref().map(chat).transpose()?,
        system: arguments.system.clone(),
        thinking: arguments.thinking.as_deref().map(switch).transpose()?,
        sampling: SamplingOptions {
            temperature: arguments.temperature,
            top_p: arguments.top_p,
            top_k: arguments.top_k,
            seed: arguments.seed,
            repeats: arguments.repeats,
            max_tokens: arguments.max_tokens,
            stop_strings: arguments.stop.clone(),
            think_end: arguments.think_end.clone(),
        },
        until: arguments.until.as_deref().map(Until::parse).transpose()?,
        placebo: arguments.placebo,
        price_per_hour: arguments.price_per_hour,
        destination: destination(arguments.out.as_ref()),
        resume: arguments.resume,
        format: arguments.output.table_format(colour)?,
    })
}

fn selection(arguments: &EvalFlags) -> Result<Selection, JobError> {
    let indices = arguments.samples.as_deref().map(Selection::parse_indices).transpose()?;
    Ok(Selection { limit: arguments.limit, indices: indices.unwrap_or_default() })
}

fn check_numbers(arguments: &EvalFlags) -> Result<(), JobError> {
    at_least_one(&[
        ("--limit", arguments.limit),
        ("--max-tokens", arguments.max_tokens),
        ("--repeats", Some(arguments.repeats)),
    ])?;
    let price = arguments.price_per_hour.unwrap_or(1.0);
    let minimum = arguments.min_accuracy.unwrap_or_default();
    let in_range = [
        ("--temperature", arguments.temperature, arguments.temperature >= 0.0, "0 (greedy) or more"),
        ("--top-p", arguments.top_p, arguments.top_p > 0.0 && arguments.top_p <= 1.0, "more than 0, 1 at most"),
        ("--price-per-hour", price, price > 0.0, "a price above 0"),
        ("--min-accuracy", minimum, (0.0..=100.0).contains(&minimum), "percent, between 0 and 100"),
    ];
    if arguments.temperature == 0.0 && arguments.top_p < 1.0 && arguments.top_p > 0.0 {
        return Err(JobError::invalid(
            format!("--top-p {} has no use at --temperature 0, which takes the most probable token", arguments.top_p),
            "leave it out, or give a `--temperature` above 0",
        ));
    }
    for (flag, value, holds, range) in in_range {
        if !holds || !value.is_finite() {
            return Err(JobError::invalid(format!("{flag} {value} is out of range"), format!("give {range}")));
        }
    }
    if arguments.repeats > 1 && arguments.temperature == 0.0 {
        return Err(JobError::invalid(
            format!("--repeats {} of greedy decoding would give every answer that often", arguments.repeats),
            "give a `--temperature` above 0, such as 0.7, or leave `--repeats` out",
        ));
    }
    if arguments.stop.iter().any(String::is_empty) {
        return Err(JobError::invalid(
            "--stop \"\" would end every generation at once",
            "give a string, or leave it out",
        ));
    }
    if arguments.think_end.as_deref() == Some("") {
        return Err(JobError::invalid(
            "--think-end \"\" would end every thought at once",
            "give a string, or leave it out",
        ));
    }
    Ok(())
}

/// Runs `eval`.
pub(super) fn run(arguments: &EvalArguments, command: Vec<String>) -> Result<Exit, JobError> {
    evaluate(chosen_task(arguments)?, &arguments.flags, command)
}

/// Runs `gsm8k`.
pub(super) fn run_gsm8k(arguments: &EvalFlags, command: Vec<String>) -> Result<Exit, JobError> {
    evaluate(Task::gsm8k()?, arguments, command)
}

fn evaluate(task: Task, arguments: &EvalFlags, command: Vec<String>) -> Result<Exit, JobError> {
    let job = resolve(task, arguments, command, colour())?;
    // Whoever reads a baseline uses the threads.
    let hub = arguments.model.start()?;
    arguments.baseline.refuse_idle_noise()?;
    let baseline = arguments.baseline.open()?;
    if let Some(baseline) = &baseline {
        baseline.check_job(&job)?;
    }
    if let Some(row) = arguments.show_prompt {
        let job = EvalJob { selection: Selection { limit: None, indices: vec![row] }, ..job };
        let prompt = show_prompt(&EvalInputs::load(&job, &hub)?, &job, row)?;
        let print =
            if job.format == Format::Json { print_json("prompt", &prompt) } else { print_data(&prompt.to_string()) };
        return print.map(|()| Exit::Success);
    }
    let finished = with_context(|context| execute(&job, &hub, context))?;
    conclude(&job, &finished, arguments.min_accuracy, arguments.deny_notes, baseline.as_ref())
}

/// Prints what came of a run, and whether it is good enough.
fn conclude(
    job: &EvalJob,
    finished: &Finished<EvalRecord>,
    min_accuracy: Option<f64>,
    deny_notes: bool,
    baseline: Option<&Baseline>,
) -> Result<Exit, JobError> {
    let exit = conclude_run(finished, &job.command)?;
    let (Exit::Success, Some((record, _))) = (exit, &finished.results) else { return Ok(exit) };
    let held = baseline.map_or(Ok(Exit::Success), |baseline| baseline.check(&finished.folder))?;
    let held = if held == Exit::Success { deny(deny_notes, &record.findings) } else { held };
    let held = if held == Exit::Success { Exit::of_until(record) } else { held };
    let Some(minimum) = min_accuracy else { return Ok(held) };
    let exit = Exit::of_accuracy(record, minimum);
    if exit == Exit::BelowMinimum {
        say(&match lowest_accuracy(record) {
            Ok(lowest) => format!("the lowest accuracy, {:.1} %, is below --min-accuracy {minimum} %", lowest * 100.0),
            Err(why) => format!("--min-accuracy {minimum} % is not reached: {why}"),
        });
        return Ok(exit);
    }
    Ok(held)
}
