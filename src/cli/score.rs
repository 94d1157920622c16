//! `evalsuite score`: completions made elsewhere, scored by a protocol's rules.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::output::{OutputArguments, colour, print_data, print_json};
use super::printer::{note, print_notes};
use super::session::destination;
use crate::jobs::JobError;
use crate::jobs::eval::{ScoreJob, ScoredCompletions, render, score_completions};
use crate::report::Format;

/// For `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite score vllm.jsonl --protocol direct
      the table of what another program's completions are worth
  evalsuite score both.jsonl --protocol gsm8k-cot --reference base --format json
      two variants of one model; every row's values by every rule

FILE has a JSON object a line: question, reference (or a GSM8K answer, of which
the value behind #### counts), completion, and optionally id and variant:
  {\"id\": \"7\", \"question\": \"2 + 2?\", \"reference\": \"4\", \"completion\": \"It is 4.\",
   \"variant\": \"f16\"}
A question that has an id may come again in a variant, as a repeat. The results
become a run folder, which report, --baseline, rescore and show take like any
other; speed, load and memory are unknown there (n/a), and nothing is resumed.

--format json has the keys kind (\"score\"), format (1), folder, record (as in
record.json), and rows, each with variant, sample, id, repeat, reference, and
scores, each with rule, value, span (bytes of the completion) and correct.";

/// `evalsuite score`.
#[derive(Debug, Clone, Args)]
pub struct ScoreArguments {
    /// The completions, as JSON lines
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The protocol whose rules to use: a name, or a .toml file
    #[arg(long)]
    pub protocol: String,
    /// What made the completions, for tables [default: the file's name]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The variant that the others are compared with [default: f32, else the first]
    #[arg(long, value_name = "NAME")]
    pub reference: Option<String>,
    /// The rule that decides: first table and verdict [default: the protocol's
    /// headline]
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Run folder [default: `runs/TIME-NAME-PROTOCOL`, in UTC]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    /// How to print the table.
    pub output: OutputArguments,
}

/// Runs the command.
pub(super) fn run(arguments: &ScoreArguments, command: Vec<String>) -> Result<Exit, JobError> {
    let format = arguments.output.table_format(colour())?;
    let job = ScoreJob {
        command,
        file: arguments.file.clone(),
        protocol: arguments.protocol.clone(),
        model: arguments.model.clone(),
        reference: arguments.reference.clone(),
        rule: arguments.rule.clone(),
        destination: destination(arguments.out.as_ref()),
    };
    let ScoredCompletions { record, rows, folder } = score_completions(&job)?;
    print_notes(&record.notes);
    if format == Format::Json {
        print_json("score", &json!({ "folder": folder, "record": record, "rows": rows }))?;
    } else {
        print_data(&render(&record, &format)?)?;
    }
    note(&format!("run folder: {}", folder.display()));
    Ok(Exit::Success)
}
