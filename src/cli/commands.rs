//! One function a command, and the way from an error to an exit code.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigHandler, Signal};

use super::args::{Command, Gsm8kArguments, RescoreArguments, ShowArguments};
use super::bench::bench;
use super::doctor;
use super::exit::Exit;
use super::golden::golden;
use super::parser::parse;
use super::perplexity::perplexity;
use super::plan::{format, resolve, table_format};
use super::printer::{Printer, print, print_error, say};
use super::quality::{DIFFS, quality};
use super::report::{Baseline, report};
use super::{quantize, synth};
use crate::engine::Dtype;
use crate::hub::Hub;
use crate::record::{BenchRecord, PerplexityRecord, QualityRecord, Record, RecordError};
use crate::report::{render, render_bench, render_perplexity, render_quality};
use crate::run::{Destination, Finished, Inputs, Job, RunError, Surroundings, execute, rescore, show_prompt};
use crate::text::command_line;

/// Runs the program on a command line, the program's own name first.
pub fn run(words: impl Iterator<Item = OsString>) -> Exit {
    let words: Vec<OsString> = words.collect();
    let arguments = match parse(&words) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
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
        Command::Report(arguments) => report(arguments, command),
        Command::Quantize(arguments) => quantize::run(arguments),
        Command::Synth(arguments) => synth::run(arguments),
        Command::Doctor => print_data(&doctor::report()).map(|()| Exit::Success),
    };
    result.unwrap_or_else(|error| {
        print_error(&error.to_string());
        // The hub was given up because the user broke off.
        if error.is_hub_failure() && is_interrupted() { Exit::Interrupted } else { Exit::from(&error) }
    })
}

fn gsm8k(arguments: &Gsm8kArguments, command: Vec<String>) -> Result<Exit, RunError> {
    let job = resolve(arguments, command, colour())?;
    let baseline = arguments.baseline.open()?;
    if let Some(baseline) = &baseline {
        baseline.check_job(&job)?;
    }
    let hub = arguments.model.start()?;
    if let Some(row) = arguments.show_prompt {
        print_data(&show_prompt(&Inputs::load(&job, &hub)?, &job, row)?)?;
        return Ok(Exit::Success);
    }
    let finished = with_surroundings(|surroundings| execute(&job, &hub, surroundings))?;
    conclude(&job, &finished, arguments.min_accuracy, baseline.as_ref())
}

/// Gives a job what surrounds it here: the engines there are, a printer of progress, and Ctrl-C.
pub(super) fn with_surroundings<T>(job: impl FnOnce(&mut Surroundings) -> Result<T, RunError>) -> Result<T, RunError> {
    let mut printer = Printer::new();
    let interrupted = catch_interrupts()?;
    job(&mut Surroundings {
        open_engine: &mut crate::engine::open,
        tell: &mut |event| printer.tell(event),
        interrupted,
    })
}

/// Prints what came of a run, and whether it is good enough.
fn conclude(
    job: &Job,
    finished: &Finished,
    min_accuracy: Option<f64>,
    baseline: Option<&Baseline>,
) -> Result<Exit, RunError> {
    let exit = conclude_run(finished, &job.command, &job.destination, job.resume)?;
    let (Exit::Success, Some((record, _))) = (exit, &finished.results) else { return Ok(exit) };
    let held = baseline.map_or(Ok(Exit::Success), |baseline| baseline.check(&finished.folder))?;
    let Some(minimum) = min_accuracy else { return Ok(held) };
    let exit = Exit::of_accuracy(record, minimum);
    if exit == Exit::BelowMinimum {
        let lowest = record.lowest_accuracy();
        let lowest = lowest.map_or_else(|| "n/a".to_owned(), |lowest| format!("{:.1} %", lowest * 100.0));
        say(&format!("the lowest accuracy, {lowest}, is below --min-accuracy {minimum} %"));
        return Ok(exit);
    }
    Ok(held)
}

/// Prints what came of a run with a folder, and says how to go on where it did not finish.
pub(super) fn conclude_run<R>(
    finished: &Finished<R>,
    command: &[String],
    destination: &Destination,
    resumed: bool,
) -> Result<Exit, RunError> {
    let folder = finished.folder.display();
    let go_on = resume_command(command, destination, resumed, &finished.folder);
    let Some((_, report)) = &finished.results else {
        say(&format!("interrupted: what is done is kept in {folder}\nhint: go on with `{go_on}`"));
        return Ok(Exit::Interrupted);
    };
    print_data(report)?;
    say(&format!("results: {folder}/record.json"));
    let exit = print_failures(&finished.failures);
    if exit != Exit::Success {
        say(&format!("what is done is kept; try the rest again with `{go_on}`"));
    }
    Ok(exit)
}

/// Prints why precisions did not finish; the exit code that follows.
pub(super) fn print_failures(failures: &[(Dtype, RunError)]) -> Exit {
    for (dtype, error) in failures {
        print_error(&format!("{dtype}: {error}"));
    }
    // An engine's failure weighs more than a mistake: the latter may be its consequence.
    match failures {
        [] => Exit::Success,
        failures if failures.iter().any(|(_, error)| error.is_engine_failure()) => Exit::EngineFailure,
        _ => Exit::UserMistake,
    }
}

fn rescore_run(arguments: &RescoreArguments) -> Result<Exit, RunError> {
    let format = table_format(&arguments.output, colour())?;
    let hub = open_hub(arguments.offline)?;
    let (record, path) = rescore(&arguments.run, &arguments.protocol, &hub)?;
    for note in &record.notes {
        say(&format!("note: {note}"));
    }
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
fn resume_command(command: &[String], destination: &Destination, resumed: bool, folder: &Path) -> String {
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

/// Prints a table and writes the record that it shows: where one of the two finds no room, the other keeps the figures. What an
/// interruption left incomplete replaces no file.
pub(super) fn print_and_keep(
    report: &str,
    out: Option<&Path>,
    interrupted: bool,
    write: impl FnOnce(&Path) -> Result<(), RecordError>,
) -> Result<(), RunError> {
    let printed = print_data(report);
    match out {
        Some(path) if interrupted && path.is_file() => {
            say(&format!("results: none written, for {} is there and this is incomplete", path.display()));
        }
        Some(path) => {
            write(path)?;
            say(&format!("results: {}", path.display()));
        }
        None => {}
    }
    printed
}

/// More than the machines have that this runs on; starting many more takes minutes.
const MOST_THREADS: usize = 1024;

pub(super) fn start_threads(threads: Option<usize>) -> Result<(), RunError> {
    let Some(threads) = threads else { return Ok(()) };
    if threads > MOST_THREADS {
        return Err(RunError::invalid(
            format!("--threads {threads} is more than {MOST_THREADS}"),
            "give at most as many as the machine has cores, or leave it out",
        ));
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|error| {
        RunError::invalid(format!("cannot start {threads} threads: {error}"), "give a smaller number to `--threads`")
    })
}

/// Whether Ctrl-C was pressed since it is caught; a signal is the whole process's, and so is this.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub(super) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// The hub's client, which Ctrl-C ends where it is caught.
pub(super) fn open_hub(offline: bool) -> Result<Hub, RunError> {
    Ok(Hub::from_environment(offline)?.until(&INTERRUPTED))
}

/// The first Ctrl-C asks the run to end after its current step, the second ends the program at once.
pub(super) fn catch_interrupts() -> Result<&'static AtomicBool, RunError> {
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
        say("\ninterrupted: ending after the current step; Ctrl-C again ends at once");
    };
    let ignored = ignored_signals();
    ctrlc::set_handler(handler).map_err(|error| {
        RunError::invalid(format!("cannot listen for Ctrl-C: {error}"), "run from an ordinary shell")
    })?;
    for signal in ignored {
        ignore(signal);
    }
    Ok(&INTERRUPTED)
}

/// What whoever started the program wants it to outlive: `nohup` ignores the end of a terminal. These are ignored from here on, until
/// somebody listens for them.
fn ignored_signals() -> Vec<Signal> {
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]
        .into_iter()
        .filter(|signal| matches!(ignore(*signal), Some(SigHandler::SigIgn)))
        .collect()
}

/// Ignores a signal; what was done about it before.
#[expect(unsafe_code, reason = "handlers are set through C; to ignore a signal runs no code of ours")]
fn ignore(signal: Signal) -> Option<SigHandler> {
    // SAFETY: no handler is installed, so none can do what a handler may not.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }.ok()
}
