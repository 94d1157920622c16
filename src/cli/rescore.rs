//! `evalsuite rescore`: a run's stored answers under another protocol's rules.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::output::{OutputArguments, colour, print_data};
use super::printer::{note, print_notes};
use super::session::open_hub;
use crate::jobs::JobError;
use crate::jobs::eval::{Rescored, render, rescore};

/// For `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite rescore runs/RUN --protocol direct
      the same answers under the rules of another protocol
  evalsuite report runs/RUN runs/RUN-rescored-direct
      both side by side

The table goes to stdout, and the results become a run folder, --out or a new one
beside RUN, RUN-rescored-PROTOCOL, which report, show, rescore and golden check
take like any other. Its plan names the protocol whose rules scored the answers,
and the one that they were generated under; nothing can be resumed there. RUN
itself gets the file rescore-PROTOCOL.json.";

/// `evalsuite rescore`.
#[derive(Debug, Clone, Args)]
pub struct RescoreArguments {
    /// The run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The protocol whose rules to use: a name, or a .toml file
    #[arg(long)]
    pub protocol: String,
    /// Run folder of the results [default: `RUN-rescored-PROTOCOL` beside RUN]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Use only what is on this machine; ask no hub
    #[arg(long)]
    pub offline: bool,
    #[command(flatten)]
    /// How to print the table.
    pub output: OutputArguments,
}

/// Runs the command.
pub(super) fn run(arguments: &RescoreArguments) -> Result<Exit, JobError> {
    let format = arguments.output.table_format(colour())?;
    let hub = open_hub(arguments.offline)?;
    let Rescored { record, file, folder } =
        rescore(&arguments.run, &arguments.protocol, &hub, arguments.out.as_deref())?;
    print_notes(&record.notes);
    print_data(&render(&record, &format)?)?;
    note(&format!("run folder: {}", folder.display()));
    note(&format!("results: {}", file.display()));
    Ok(Exit::Success)
}
