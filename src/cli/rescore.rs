//! `evalsuite rescore`: a run's stored answers under another protocol's rules.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::output::{OutputArguments, colour, print_data};
use super::printer::note;
use super::session::open_hub;
use crate::jobs::JobError;
use crate::jobs::eval::{render, rescore};

/// `evalsuite rescore`.
#[derive(Debug, Clone, Args)]
pub struct RescoreArguments {
    /// The run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The protocol whose rules to use: a name, or a .toml file
    #[arg(long)]
    pub protocol: String,
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
    let (record, path) = rescore(&arguments.run, &arguments.protocol, &hub)?;
    for text in &record.notes {
        note(&format!("note: {text}"));
    }
    print_data(&render(&record, &format)?)?;
    note(&format!("results: {}", path.display()));
    Ok(Exit::Success)
}
