//! `evalsuite protocol`: write, check and explain the files that say how to ask and how to score.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::exit::{Exit, HELP as EXIT_CODES};
use super::output::{DataArguments, print_data, print_json};
use super::printer::note;
use crate::jobs::JobError;
use crate::score::Rule;
use crate::task::{Protocol, Sample, new_protocol};

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite protocol new mine
      mine.toml with every key, each told what it does
  evalsuite protocol check mine.toml --completion 'So it is 36.'
      whether it is sound, a prompt of it, and what its rules find
  evalsuite protocol explain gsm8k-cot
      every key of a built-in one, with its value and what it does

--format json has the keys kind (\"protocol new\", \"protocol check\" or \"protocol
explain\") and format (1); path of a new file; name, version, sha256, rules (each
with name and extracts) and text, as people read it, of the others.";

/// `evalsuite protocol`.
#[derive(Debug, Clone, Args)]
pub struct ProtocolArguments {
    #[command(subcommand)]
    command: ProtocolCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum ProtocolCommand {
    /// Write a file with every key, ready to be changed
    #[command(after_help = EXIT_CODES)]
    New(NewArguments),
    /// Say whether a file is sound, and show a prompt of it
    #[command(after_help = EXIT_CODES)]
    Check(CheckArguments),
    /// Tell every key of a protocol, its value and what it does
    #[command(after_help = EXIT_CODES)]
    Explain(ExplainArguments),
}

#[derive(Debug, Clone, Args)]
struct NewArguments {
    /// The protocol's name, for NAME.toml here, or a path that ends in .toml
    #[arg(value_name = "NAME|FILE")]
    name: String,
    #[command(flatten)]
    data: DataArguments,
}

#[derive(Debug, Clone, Args)]
struct CheckArguments {
    /// The protocol's file, or a built-in one's name
    #[arg(value_name = "FILE|NAME")]
    protocol: String,
    /// The question to show a prompt of
    #[arg(long, value_name = "TEXT", default_value = "A box holds 12 pencils. How many do 3 boxes hold?")]
    question: String,
    /// Its answer, as a dataset in GSM8K's form has it
    #[arg(long, value_name = "TEXT", default_value = "3 boxes hold 3 * 12 = 36 pencils.\n#### 36")]
    answer: String,
    /// A completion to apply the rules to
    #[arg(long, value_name = "TEXT")]
    completion: Option<String>,
    #[command(flatten)]
    data: DataArguments,
}

#[derive(Debug, Clone, Args)]
struct ExplainArguments {
    /// A built-in protocol's name, or a file
    #[arg(value_name = "NAME|FILE")]
    protocol: String,
    #[command(flatten)]
    data: DataArguments,
}

/// Runs the command.
pub(super) fn run(arguments: &ProtocolArguments) -> Result<Exit, JobError> {
    match &arguments.command {
        ProtocolCommand::New(arguments) => write_new(arguments)?,
        ProtocolCommand::Check(arguments) => {
            let sample = Sample::new(0, arguments.question.as_str(), arguments.answer.as_str());
            let protocol = Protocol::open(&arguments.protocol)?;
            let text = protocol.check(&sample, arguments.completion.as_deref())?;
            print("protocol check", &protocol, &text, &arguments.data)?;
        }
        ProtocolCommand::Explain(arguments) => {
            let protocol = Protocol::open(&arguments.protocol)?;
            print("protocol explain", &protocol, &protocol.explain(), &arguments.data)?;
        }
    }
    Ok(Exit::Success)
}

fn print(kind: &'static str, protocol: &Protocol, text: &str, data: &DataArguments) -> Result<(), JobError> {
    if !data.is_json()? {
        return print_data(text);
    }
    let rule = |rule: &Rule| json!({ "name": rule.name, "extracts": rule.in_words() });
    let about = json!({
        "name": protocol.name,
        "version": protocol.version,
        "sha256": protocol.sha256,
        "rules": protocol.rules.iter().map(rule).collect::<Vec<_>>(),
        "text": text,
    });
    print_json(kind, &about)
}

/// Writes a new protocol's file; one that is there stays as it is.
fn write_new(arguments: &NewArguments) -> Result<(), JobError> {
    let is_json = arguments.data.is_json()?;
    let (path, text): (PathBuf, String) = new_protocol(&arguments.name)?;
    let file = path.display();
    let written = std::fs::File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let hint = if error.kind() == std::io::ErrorKind::AlreadyExists {
            "give another name: a file that is there is never replaced"
        } else {
            "check the path and its permissions"
        };
        JobError::invalid(format!("cannot write {file}: {error}"), hint)
    })?;
    note(&format!("written: {file}\nhint: change it, then `evalsuite protocol check {file}`"));
    if is_json { print_json("protocol new", &json!({ "path": file.to_string() })) } else { Ok(()) }
}
