//! From a command line to its command, and from an error to an exit code.

use std::ffi::OsString;

use clap::CommandFactory as _;

use super::args::{Arguments, Command};
use super::exit::Exit;
use super::interrupt::is_interrupted;
use super::parser::parse;
use super::printer::{print_error, set_quiet};
use super::resume::{self, Next, ResumeArguments};
use super::{
    bench, blame, determinism, doctor, eval, export, generated, golden, import, list, load, perplexity, probe,
    protocol, quality, quantize, report, rescore, score, serve, show, synth,
};
use crate::jobs::JobError;

/// Runs the program on a command line, the program's own name first.
pub fn run(words: impl Iterator<Item = OsString>) -> Exit {
    // A file that may grow no longer is an error like a full disk's, and not the program's end.
    #[cfg(unix)]
    super::interrupt::ignore(nix::sys::signal::Signal::SIGXFSZ);
    let words: Vec<OsString> = words.collect();
    let arguments = match parse(&words) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    set_quiet(arguments.quiet);
    let command: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let result = match &arguments.command {
        Command::Resume(arguments) => resume(arguments, &command),
        own => dispatch(own, command),
    };
    result.unwrap_or_else(|error| {
        print_error(&error.to_string());
        // The hub was given up because the user broke off.
        if error.is_hub_failure() && is_interrupted() { Exit::Interrupted } else { Exit::from(&error) }
    })
}

fn dispatch(own: &Command, command: Vec<String>) -> Result<Exit, JobError> {
    match own {
        Command::Gsm8k(arguments) => eval::run_gsm8k(arguments, command),
        Command::Eval(arguments) => eval::run(arguments, command),
        Command::Perplexity(arguments) => perplexity::run(arguments, command),
        Command::Blame(arguments) => blame::run(arguments, command),
        Command::Bench(arguments) => bench::run(arguments, command),
        Command::Load(arguments) => load::run(arguments, command),
        Command::Probe(arguments) => probe::run(arguments, command),
        Command::Determinism(arguments) => determinism::run(arguments, command),
        Command::Serve(arguments) => serve::run(arguments, command),
        Command::Quality(arguments) => quality::run(arguments, command),
        Command::Golden(arguments) => golden::run(arguments),
        Command::Rescore(arguments) => rescore::run(arguments),
        Command::Score(arguments) => score::run(arguments, command),
        Command::Show(arguments) => show::run(arguments),
        Command::Report(arguments) => report::run(arguments, command),
        Command::Export(arguments) => export::run(arguments),
        Command::Import(arguments) => import::run(arguments, command),
        Command::Protocol(arguments) => protocol::run(arguments),
        Command::Quantize(arguments) => quantize::run(arguments),
        Command::Synth(arguments) => synth::run(arguments),
        Command::List(arguments) => list::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Completions(arguments) => generated::completions(arguments, Arguments::command()),
        Command::Man(arguments) => generated::man(arguments, Arguments::command()),
        Command::Resume(_) => Err(JobError::invalid(
            "a run's plan says that `evalsuite resume` began it, which begins none",
            "the file plan.json was changed; start a new run",
        )),
    }
}

/// Runs the command that a run folder knows.
fn resume(arguments: &ResumeArguments, command: &[String]) -> Result<Exit, JobError> {
    let program = command.first().map_or("evalsuite", String::as_str);
    match resume::run(arguments, program)? {
        Next::Done(exit) => Ok(exit),
        Next::Command(words) => {
            let typed: Vec<OsString> = words.iter().map(OsString::from).collect();
            parse(&typed).map_or_else(Ok, |arguments| dispatch(&arguments.command, words))
        }
    }
}
