//! `evalsuite perplexity`: typed, resolved, run, said.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::model::ModelArguments;
use super::of_run::with_model_of_run;
use super::output::{OutputArguments, colour, print_and_keep};
use super::printer::say;
use super::session::{print_failures, with_context};
use super::values::{at_least_one, chat};
use crate::engine::Batching;
use crate::jobs::JobError;
use crate::jobs::perplexity::{PerplexityFinished, PerplexityJob, execute};

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite perplexity
      the bundled model on the bundled problems, in every precision
  evalsuite perplexity --model ./model.gguf --text book.txt --dtype f32,f16
      how much worse f16 predicts a book, and where it differs from f32 most
  evalsuite perplexity --model ./model --text book.txt --limit-tokens 20000 \\
      --window 1024 --stride 512 --out perplexity.json --worst 5
      its first 20,000 tokens in longer windows, with a record in JSON
  evalsuite perplexity --run runs/RUN --worst 5
      f32's own answers of a run, read by every precision of it: where each
      would first have written something else

A text is read in windows of --window tokens that begin --stride apart. Every
token but the first is scored once, in the first window that holds it, with
window - stride tokens or more before it (fewer in the first window). Special
tokens written out in the text become their ids; BOS is put before the text
where the model's tokenizer does so.

Rows of a dataset are read each by itself, cut into such windows where they are
long: the question through the model's chat template, then the answer, and only
the answer is scored. Without a template, or with --chat never, they are joined
to one text: question, line break, answer, and a blank line between rows.

--run reads a finished run of eval in the place of a text: each answer of the
reference behind its own prompt, in one window, its own tokens scored. The model,
its precisions and further checkpoints are the run's unless others are named. The
first token of an answer in whose place a precision finds another more probable
is its departure: a near-tie where the reference finds the two within 0.1 nats,
else real. Answers drawn at random have no departures.

Standard errors take each row read by itself, or each window of a text, as one
observation, of a run all answers to a question, or to the questions of a
cluster: neighbouring tokens are no independent draws. Logits are held for 128
tokens at a time, and compared where they are: on the GPU, if all are there.";

/// `evalsuite perplexity`.
#[derive(Debug, Clone, Args)]
pub struct PerplexityArguments {
    #[command(flatten)]
    /// Which model, and by which engine.
    pub model: ModelArguments,

    /// A text file; `bundled`, a .jsonl or .parquet file, or a hub dataset
    #[arg(long, value_name = "TEXT", default_value = crate::bundled::NAME, help_heading = "Text")]
    pub text: String,
    /// Split, where the text is a dataset
    #[arg(long, default_value = "test", help_heading = "Text")]
    pub split: String,
    /// Rows through the chat template: auto, never, or required
    #[arg(long, value_name = "USE", default_value = "auto", help_heading = "Text")]
    pub chat: String,
    /// Tokens in a window [default: 512, or the model's context if shorter]
    #[arg(long, value_name = "N", help_heading = "Text")]
    pub window: Option<usize>,
    /// Tokens from a window's begin to the next one's [default: half a window]
    #[arg(long, value_name = "N", help_heading = "Text")]
    pub stride: Option<usize>,
    /// Only the first N tokens of the text
    #[arg(long, value_name = "N", help_heading = "Text")]
    pub limit_tokens: Option<usize>,

    /// Finished run folder whose reference's own answers are read in the place of
    /// a text
    #[arg(
        long,
        value_name = "RUN",
        help_heading = "Text",
        conflicts_with_all = ["text", "split", "chat", "window", "stride", "limit_tokens"]
    )]
    pub run: Option<PathBuf>,
    /// Of a run: only the answers to its first N samples
    #[arg(long, value_name = "N", help_heading = "Text", requires = "run")]
    pub limit: Option<usize>,

    /// Write the record, with every number and its provenance, to this file
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Show the N tokens of each precision that diverge most from f32, and of a
    /// run's answers the N largest real departures
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Results")]
    pub worst: usize,
    #[command(flatten)]
    /// How to print the tables.
    pub output: OutputArguments,
}

/// Checks the arguments of `perplexity`. `command` is the whole command line; `colour` is for a terminal's tables.
pub fn resolve_perplexity(
    arguments: &PerplexityArguments,
    command: Vec<String>,
    colour: bool,
) -> Result<PerplexityJob, JobError> {
    let at_least = [
        ("--window", arguments.window, 2),
        ("--stride", arguments.stride, 1),
        ("--limit-tokens", arguments.limit_tokens, 2),
    ];
    for (flag, value, least) in at_least {
        if let Some(value) = value.filter(|value| *value < least) {
            return Err(JobError::invalid(
                format!("{flag} {value} leaves nothing to score"),
                format!("give {flag} {least} or more"),
            ));
        }
    }
    at_least_one(&[("--limit", arguments.limit)])?;
    let target = arguments.model.resolve(Batching::default(), Some(1))?;
    Ok(PerplexityJob {
        command,
        target,
        text: arguments.text.clone(),
        split: arguments.split.clone(),
        chat: chat(&arguments.chat)?,
        window: arguments.window,
        stride: arguments.stride,
        limit_tokens: arguments.limit_tokens,
        run: arguments.run.clone(),
        limit: arguments.limit,
        out: arguments.out.clone(),
        worst: arguments.worst,
        format: arguments.output.table_format(colour)?,
    })
}

/// Runs the command.
pub(super) fn run(arguments: &PerplexityArguments, command: Vec<String>) -> Result<Exit, JobError> {
    let mut arguments = arguments.clone();
    if let Some(run) = &arguments.run {
        arguments.model = with_model_of_run(&arguments.model, &command, run)?;
    }
    let job = resolve_perplexity(&arguments, command, colour())?;
    let hub = arguments.model.start()?;
    let finished = with_context(|context| execute(&job, &hub, context))?;
    conclude(&job, &finished)
}

/// Prints what was measured, and says what was not.
fn conclude(job: &PerplexityJob, finished: &PerplexityFinished) -> Result<Exit, JobError> {
    let windows = &finished.record.windows;
    let Some(report) = &finished.report else {
        say("interrupted before the first window was done: there is nothing to report");
        return Ok(Exit::Interrupted);
    };
    print_and_keep(report, job.out.as_deref(), windows.done < windows.count, |path| finished.record.write(path))?;
    let exit = print_failures(&finished.failures);
    if windows.done < windows.count {
        say(&format!(
            "interrupted: {} of {} windows are done, and the figures are theirs\nhint: `{}` asks for less",
            windows.done,
            windows.count,
            if job.run.is_some() { "--limit" } else { "--limit-tokens" }
        ));
        return Ok(Exit::Interrupted);
    }
    Ok(exit)
}
