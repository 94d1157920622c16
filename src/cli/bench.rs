//! `evalsuite bench`: typed, resolved, run, said.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::model::ModelArguments;
use super::output::{OutputArguments, colour, print_and_keep};
use super::printer::{Printer, cache_text, duration, note, remaining_text, running_text, say, speed_text};
use super::session::{catch_interrupts, print_failures};
use super::values::at_least_one;
use crate::engine::Batching;
use crate::fault::Fault;
use crate::jobs::JobError;
use crate::jobs::bench::{BenchContext, BenchEvent, BenchFinished, BenchJob, BenchPart, BenchProgress, execute};
use crate::text::bytes;

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

Parts: `load` opens the engine --repeats times and asks each for a first token;
`single` runs one request of 128 prompt and 129 output tokens --repeats times;
`concurrent` runs 500 requests of 128 and 64 tokens at once; `workload` submits
all requests of a workload at once. Weights are read once beforehand, so that
loads find them in the page cache.

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
    /// Requests that advance together at most [default: the engine's choice]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub batch: Option<usize>,

    /// Parts: load, single, concurrent, workload [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Measurement")]
    pub only: Vec<String>,
    /// Repetitions of loading and of the single request
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Measurement")]
    pub repeats: usize,
    /// Lengths of the requests of the workload: a file, or the folder of a
    /// finished run [default: gsm8k-like, built in]
    #[arg(long, value_name = "FILE", help_heading = "Measurement")]
    pub workload: Option<PathBuf>,
    /// At most N requests of the workload and of the concurrent part
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
    let parts = parts(&arguments.only)?;
    let of_workload =
        [("--workload", arguments.workload.is_some()), ("--shared-prefix", arguments.shared_prefix.is_some())];
    if let Some((flag, _)) = of_workload.into_iter().find(|(_, given)| *given && !parts.contains(&BenchPart::Workload))
    {
        return Err(JobError::invalid(
            format!("{flag} has no use without the part `workload`"),
            "add workload to `--only`, or leave one of the two out",
        ));
    }
    let subject = arguments.model.resolve(Batching::Fast, arguments.batch)?;
    Ok(BenchJob {
        command,
        subject,
        workload: arguments.workload.clone(),
        requests: arguments.requests,
        parts,
        repeats: arguments.repeats,
        shared_prefix_tokens: arguments.shared_prefix,
        seed: arguments.seed,
        peers: arguments.vs.clone(),
        out: arguments.out.clone(),
        format: arguments.output.table_format(colour)?,
    })
}

/// The named parts in the order in which they run; all if none is named.
fn parts(names: &[String]) -> Result<Vec<BenchPart>, JobError> {
    let known = BenchPart::ALL.map(BenchPart::name);
    if let Some(stranger) = names.iter().find(|name| !known.contains(&name.trim())) {
        return Err(Fault::unknown("part", stranger, &known).into());
    }
    let named = |part: &BenchPart| names.is_empty() || names.iter().any(|name| name.trim() == part.name());
    Ok(BenchPart::ALL.into_iter().filter(named).collect())
}

/// Runs the command.
pub(super) fn run(arguments: &BenchArguments, command: Vec<String>) -> Result<Exit, JobError> {
    let job = resolve_bench(arguments, command, colour())?;
    let hub = arguments.model.start()?;
    let interrupted = catch_interrupts()?;
    let mut printer = Printer::new();
    let finished = execute(
        &job,
        &hub,
        &mut BenchContext {
            open_engine: &mut crate::engine::open,
            tell: &mut |event| tell(&mut printer, event),
            interrupted,
        },
    )?;
    conclude(&job, &finished)
}

fn tell(printer: &mut Printer, event: BenchEvent) {
    match event {
        BenchEvent::Note(text) => note(&format!("note: {text}")),
        BenchEvent::Loading { dtype, repetition: 1, repetitions: 1 } => note(&format!("{dtype:4}  loading")),
        BenchEvent::Loading { dtype, repetition: 1, repetitions } => {
            note(&format!("{dtype:4}  loading, {repetitions} times"));
        }
        BenchEvent::Loading { .. } => {}
        BenchEvent::Loaded(info, run) => note(&format!(
            "{:4}  {} engine on {}: ready in {:.3} s, first token after {:.3} s, {} of weights",
            info.dtype,
            info.name,
            info.device,
            run.seconds,
            run.first_token_seconds,
            bytes(info.weight_bytes)
        )),
        BenchEvent::Progress(progress) => {
            let (done, total) = (progress.output_tokens, progress.expected_tokens);
            printer.show(done, total, progress_line(&progress), Some(end_line(&progress)));
        }
        BenchEvent::Ended => printer.end(),
        BenchEvent::Failed { dtype, message } => note(&format!("{dtype:4}  failed: {message}")),
    }
}

fn progress_line(progress: &BenchProgress) -> String {
    let BenchProgress { dtype, part, completed, requests, running, output_tokens, expected_tokens, .. } = progress;
    let remaining = remaining_text(progress.remaining_seconds().filter(|_| output_tokens < expected_tokens));
    let (name, speed) = (part.name(), speed_text(progress.tokens_per_second()));
    let (cache, running) = (cache_text(progress.cache_bytes), running_text(*running, progress.waiting()));
    format!("{dtype:4}  {name}: {completed}/{requests} done{remaining}{speed}{cache}{running}")
}

fn end_line(progress: &BenchProgress) -> String {
    let BenchProgress { dtype, part, completed, requests, seconds, .. } = progress;
    let (name, speed) = (part.name(), speed_text(progress.tokens_per_second()));
    format!("{dtype:4}  {name}: {completed}/{requests} done in {}{speed}", duration(*seconds))
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
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Dtype;

    #[test]
    fn progress_says_speed_and_what_is_left() {
        let progress = BenchProgress {
            dtype: Dtype::F16,
            part: BenchPart::Workload,
            completed: 3,
            requests: 10,
            running: 6,
            cache_bytes: Some(12_100_000_000),
            output_tokens: 640,
            expected_tokens: 2560,
            seconds: 4.0,
        };
        assert_eq!(
            progress_line(&progress),
            "f16   workload: 3/10 done, 12 s left, 160 tokens/s, cache 12.1 GB, 6 running"
        );
        let done = BenchProgress {
            completed: 10,
            running: 0,
            cache_bytes: None,
            output_tokens: 2560,
            seconds: 16.0,
            ..progress
        };
        assert_eq!(progress_line(&done), "f16   workload: 10/10 done, 160 tokens/s");
        assert_eq!(end_line(&done), "f16   workload: 10/10 done in 16 s, 160 tokens/s");
    }
}
