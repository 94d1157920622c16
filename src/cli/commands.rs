//! One function a command, and the way from an error to an exit code.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser as _;

use super::args::{Arguments, Command, Gsm8kArguments, RescoreArguments, ShowArguments};
use super::bench::bench;
use super::doctor;
use super::exit::Exit;
use super::golden::golden;
use super::perplexity::perplexity;
use super::plan::{format, resolve};
use super::printer::{Printer, print, print_error, say};
use super::quality::{DIFFS, quality};
use super::{quantize, synth};
use crate::hub::Hub;
use crate::record::{BenchRecord, PerplexityRecord, QualityRecord, Record};
use crate::report::{render, render_bench, render_perplexity, render_quality};
use crate::run::{Destination, Finished, Inputs, Job, RunError, Surroundings, execute, rescore, show_prompt};
use crate::text::command_line;

/// Runs the program on a command line, the program's own name first.
pub fn run(words: impl Iterator<Item = OsString>) -> Exit {
    let words: Vec<OsString> = words.collect();
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(message) => {
            // A closed pipe is no reason to fail: whoever asked for help has read enough.
            let _ = message.print();
            return if message.use_stderr() { Exit::UserMistake } else { Exit::Success };
        }
    };
    let command = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let result = match &arguments.command {
        Command::Gsm8k(arguments) => gsm8k(arguments, command),
        Command::Perplexity(arguments) => perplexity(arguments, command),
        Command::Bench(arguments) => bench(arguments, command),
        Command::Quality(arguments) => quality(arguments, command),
        Command::Golden(arguments) => golden(arguments),
        Command::Rescore(arguments) => rescore_run(arguments),
        Command::Show(arguments) => show(arguments),
        Command::Quantize(arguments) => quantize::run(arguments),
        Command::Synth(arguments) => synth::run(arguments),
        Command::Doctor => print_data(&doctor::report()).map(|()| Exit::Success),
    };
    result.unwrap_or_else(|error| {
        print_error(&error.to_string());
        Exit::from(&error)
    })
}

fn gsm8k(arguments: &Gsm8kArguments, command: Vec<String>) -> Result<Exit, RunError> {
    let job = resolve(arguments, command, colour())?;
    let hub = arguments.model.start()?;
    if let Some(row) = arguments.show_prompt {
        print_data(&show_prompt(&Inputs::load(&job, &hub)?, &job, row)?)?;
        return Ok(Exit::Success);
    }
    let finished = with_surroundings(|surroundings| execute(&job, &hub, surroundings))?;
    conclude(&job, &finished, arguments.min_accuracy)
}

/// Gives a job what surrounds it here: the engines there are, a printer of progress, and Ctrl-C.
pub(super) fn with_surroundings<T>(job: impl FnOnce(&mut Surroundings) -> Result<T, RunError>) -> Result<T, RunError> {
    let mut printer = Printer::new();
    let interrupted = catch_interrupts()?;
    job(&mut Surroundings {
        open_engine: &mut crate::engine::open,
        tell: &mut |event| printer.tell(event),
        interrupted: &interrupted,
    })
}

/// Prints what came of a run, and says how to go on where it did not finish.
fn conclude(job: &Job, finished: &Finished, min_accuracy: Option<f64>) -> Result<Exit, RunError> {
    let folder = finished.folder.display();
    let Some((record, report)) = &finished.results else {
        say(&format!(
            "interrupted: what is done is kept in {folder}\nhint: go on with `{}`",
            resume_command(&job.command, &job.destination, job.resume, &finished.folder)
        ));
        return Ok(Exit::Interrupted);
    };
    print_data(report)?;
    say(&format!("results: {folder}/record.json"));
    if !finished.failures.is_empty() {
        for (dtype, error) in &finished.failures {
            print_error(&format!("{dtype}: {error}"));
        }
        say(&format!(
            "what is done is kept; try the rest again with `{}`",
            resume_command(&job.command, &job.destination, job.resume, &finished.folder)
        ));
        // An engine's failure weighs more than a mistake: the latter may be its consequence.
        let failed = finished.failures.iter().any(|(_, error)| error.is_engine_failure());
        return Ok(if failed { Exit::EngineFailure } else { Exit::UserMistake });
    }
    let Some(minimum) = min_accuracy else { return Ok(Exit::Success) };
    let exit = Exit::of_accuracy(record, minimum);
    if exit == Exit::BelowMinimum {
        let lowest = record.lowest_accuracy();
        let lowest = lowest.map_or_else(|| "n/a".to_owned(), |lowest| format!("{:.1} %", lowest * 100.0));
        say(&format!("the lowest accuracy, {lowest}, is below --min-accuracy {minimum} %"));
    }
    Ok(exit)
}

fn rescore_run(arguments: &RescoreArguments) -> Result<Exit, RunError> {
    let format = format(&arguments.output, colour())?;
    let hub = Hub::from_environment(arguments.offline)?;
    let (record, path) = rescore(&arguments.run, &arguments.protocol, &hub)?;
    print_data(&render(&record, &format)?)?;
    say(&format!("results: {}", path.display()));
    Ok(Exit::Success)
}

fn show(arguments: &ShowArguments) -> Result<Exit, RunError> {
    let format = format(&arguments.output, colour())?;
    let path = if arguments.run.is_dir() { arguments.run.join("record.json") } else { arguments.run.clone() };
    if !path.exists() && arguments.run.join("plan.json").exists() {
        return Err(RunError::invalid(
            format!("the run in {} has not finished", arguments.run.display()),
            "finish it: give its command (in plan.json) with `--resume`",
        ));
    }
    let report = if let Some(record) = PerplexityRecord::read(&path)? {
        render_perplexity(&record, &format, 0)?
    } else if let Some(record) = BenchRecord::read(&path)? {
        render_bench(&record, &format)?
    } else if let Some(record) = QualityRecord::read(&path)? {
        render_quality(&record, &format, DIFFS)?
    } else {
        render(&Record::read(&path)?, &format)?
    };
    print_data(&report)?;
    Ok(Exit::Success)
}

/// The command that goes on with a run, ready to be pasted into a shell.
pub(super) fn resume_command(command: &[String], destination: &Destination, resumed: bool, folder: &Path) -> String {
    let folder = folder.display().to_string();
    let mut words: Vec<&str> = command.iter().map(String::as_str).collect();
    if matches!(destination, Destination::Under(_)) {
        words.extend(["--out", &folder]);
    }
    if !resumed {
        words.push("--resume");
    }
    command_line(words)
}

/// Colours where a person looks, unless they said no (<https://no-color.org>).
pub(super) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

pub(super) fn print_data(text: &str) -> Result<(), RunError> {
    print(text).map_err(|error| {
        RunError::invalid(format!("cannot write to stdout: {error}"), "is the disk full that it is redirected to?")
    })
}

pub(super) fn start_threads(threads: Option<usize>) -> Result<(), RunError> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|error| {
        RunError::invalid(format!("cannot start {threads} threads: {error}"), "give a smaller number to `--threads`")
    })
}

/// The first Ctrl-C asks the run to end after its current step, the second ends the program at once.
pub(super) fn catch_interrupts() -> Result<Arc<AtomicBool>, RunError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
        say("\ninterrupted: ending after the current step; Ctrl-C again ends at once");
    };
    ctrlc::set_handler(handler).map_err(|error| {
        RunError::invalid(format!("cannot listen for Ctrl-C: {error}"), "run from an ordinary shell")
    })?;
    Ok(interrupted)
}
