//! What a shell and `man` know of the command line, made of the command line itself.

use clap::{Args, Command};
use clap_complete::Shell;

use super::exit::Exit;
use super::output::print_bytes;
use crate::fault::Fault;
use crate::jobs::JobError;

pub(super) const COMPLETIONS: &str = "\
Examples:
  evalsuite completions bash > ~/.local/share/bash-completion/completions/evalsuite
  evalsuite completions zsh > \"${fpath[1]}/_evalsuite\"
  evalsuite completions fish > ~/.config/fish/completions/evalsuite.fish";

pub(super) const MAN: &str = "\
Examples:
  evalsuite man | man -l -
  evalsuite man golden check > evalsuite-golden-check.1";

/// `evalsuite completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArguments {
    /// bash, elvish, fish, powershell, or zsh
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// `evalsuite man`.
#[derive(Debug, Clone, Args)]
pub struct ManArguments {
    /// The command whose page it is [default: the program's own]
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Prints what a shell completes words by; `program` is the whole command line.
pub(super) fn completions(arguments: &CompletionsArguments, mut program: Command) -> Result<Exit, JobError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "evalsuite", &mut script);
    print_bytes(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}

/// Prints a page for `man`; `program` is the whole command line.
pub(super) fn man(arguments: &ManArguments, program: Command) -> Result<Exit, JobError> {
    let mut command = program;
    command.build();
    for name in &arguments.command {
        let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        let unknown = Fault::unknown("command", name, &names);
        command = command.find_subcommand(name).cloned().ok_or(unknown)?;
    }
    // A page of its own has a name without blanks.
    let name = ["evalsuite"].into_iter().chain(arguments.command.iter().map(String::as_str)).collect::<Vec<_>>();
    let mut page = Vec::new();
    // Writing to memory cannot fail.
    let _ = clap_mangen::Man::new(command.display_name(name.join("-"))).render(&mut page);
    print_bytes(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Success)
}
