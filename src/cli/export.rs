//! `evalsuite export`: a run in other tools' formats.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::output::print_data;
use super::printer::{note, print_notes};
use crate::interchange::{Export, ExportFormat, Exported, export};
use crate::jobs::JobError;
use crate::jobs::eval::StoredRun;

/// For `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite export runs/RUN --format lm-eval --out results
      results/MODEL-VARIANT/results_TIME.json and samples_TASK_TIME.jsonl, which
      lm-evaluation-harness's scripts read
  evalsuite export runs/RUN --format inspect --out logs
      a log a variant, for `inspect view --log-dir logs`
  evalsuite export runs/RUN --format parquet --out run.parquet
      a row an answer, for pandas, polars or DuckDB
  evalsuite export runs/RUN | jq -r 'select(.scores.strict.correct | not).text'
      JSON lines on stdout

jsonl, json and parquet have the same fields: model, variant, task, protocol,
sample, id, repeat, question, answer, reference, cluster, prompt, text, thought,
finish, prompt_tokens, output_tokens, token_ids, first_token_seconds,
total_seconds; jsonl and json have scores by rule, each with value, span (bytes
of the text) and correct, parquet has the columns RULE_value and RULE_correct.
json is one object with the keys kind (\"export\"), format (1), run and answers.
What is not known is null. docs/interchange.md says what becomes what.";

/// `evalsuite export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArguments {
    /// The run folder of gsm8k, eval, score, rescore or import
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// `lm-eval`, `inspect`, `jsonl`, `json` or `parquet`
    #[arg(long, default_value = "jsonl")]
    pub format: String,
    /// The file, or the folder of lm-eval and inspect [default: stdout of jsonl and
    /// json, else `NAME-lm-eval`, `NAME-inspect` or `NAME.parquet` here]
    #[arg(long, value_name = "PATH", visible_alias = "output")]
    pub out: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(arguments: &ExportArguments) -> Result<Exit, JobError> {
    ExportFormat::parse(&arguments.format)?;
    let run = StoredRun::read(&arguments.run)?;
    print_notes(&run.notes);
    match export(&Export { run: &run, format: &arguments.format, output: arguments.out.as_deref() })? {
        Exported::Text(text) => print_data(&text)?,
        Exported::Files(files) => files.iter().for_each(|file| note(&format!("written: {}", file.display()))),
    }
    Ok(Exit::Success)
}
