//! From words to arguments; what clap says of a mistake, with the way out behind it.

use std::ffi::OsString;
use std::io::Write as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

use super::args::Arguments;
use super::exit::Exit;
use super::printer::say;

/// What was typed; else how the program ends, for its help or what is wrong has been printed.
pub(super) fn parse(words: &[OsString]) -> Result<Arguments, Exit> {
    Arguments::try_parse_from(words).map_err(|message| {
        let printed = message.print().and_then(|()| std::io::stdout().flush());
        if !message.use_stderr() {
            // A closed pipe is no reason to fail: whoever asked for help has read enough.
            return match printed {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    say(&format!(
                        "error: cannot write to stdout: {error}\nhint: is the disk full that it is redirected to?"
                    ));
                    Exit::UserMistake
                }
                _ => Exit::Success,
            };
        }
        say(&format!("hint: {}", hint(&message, words)));
        Exit::UserMistake
    })
}

fn hint(message: &clap::Error, words: &[OsString]) -> String {
    let nearest = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let advice = match (nearest.iter().find_map(|kind| name(message.get(*kind)?)), message.kind()) {
        (Some(nearest), _) => format!("did you mean `{nearest}`? "),
        (None, ErrorKind::ArgumentConflict) => "leave one of them out; ".to_owned(),
        (None, ErrorKind::MissingRequiredArgument) => "add what is missing; ".to_owned(),
        (None, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand) => {
            "name one of the commands; ".to_owned()
        }
        (None, _) => String::new(),
    };
    format!("{advice}`{} --help` says what there is", command(words))
}

/// The first of what clap takes to be meant.
fn name(value: &ContextValue) -> Option<&str> {
    match value {
        ContextValue::String(name) => Some(name),
        ContextValue::Strings(names) => names.first().map(String::as_str),
        _ => None,
    }
}

/// `evalsuite golden check`: as much of a command line as names a command.
fn command(words: &[OsString]) -> String {
    let root = Arguments::command();
    let mut path = root.get_name().to_owned();
    let mut command = &root;
    for word in words.iter().skip(1) {
        let Some(next) = command.find_subcommand(word) else { break };
        path = format!("{path} {}", next.get_name());
        command = next;
    }
    path
}
