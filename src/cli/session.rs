//! What every command that runs something needs around it: threads, the hub, Ctrl-C, and the last words.

use std::path::PathBuf;

use super::exit::Exit;
use super::interrupt::{catch_interrupts, flag, watch};
use super::output::print_data;
use super::printer::{Printer, is_quiet, note, print_error, say};
use crate::hub::Hub;
use crate::jobs::{Destination, Finished, JobContext, JobError, open_engine};
use crate::record::VariantName;
use crate::text::command_line;

/// Where runs go unless `--out` says otherwise.
pub(super) const RUNS: &str = "runs";

/// The folder that `--out` names, else a new one under [`RUNS`].
pub(super) fn destination(out: Option<&PathBuf>) -> Destination {
    out.cloned().map_or_else(|| Destination::Under(RUNS.into()), Destination::Folder)
}

/// Gives a job what surrounds it here: the engines there are, a printer of progress, and Ctrl-C.
pub(super) fn with_context<T>(job: impl FnOnce(&mut JobContext) -> Result<T, JobError>) -> Result<T, JobError> {
    let mut printer = Printer::new();
    let interrupted = catch_interrupts()?;
    let mut emit = |event| {
        watch(&event);
        printer.event(event);
    };
    job(&mut JobContext { open_engine: &mut open_engine, emit: &mut emit, interrupted })
}

/// Prints what came of a run with a folder, and says how to go on where it did not finish.
pub(super) fn conclude_run<R>(finished: &Finished<R>, command: &[String]) -> Result<Exit, JobError> {
    let folder = finished.folder.display();
    let program = command.first().map_or("evalsuite", String::as_str);
    let go_on = command_line([program, "resume", &folder.to_string()]);
    let Some((_, report)) = &finished.results else {
        say(&format!("interrupted: what is done is kept in {folder}\nhint: go on with `{go_on}`"));
        return Ok(Exit::Interrupted);
    };
    print_data(report)?;
    note(&format!("results: {folder}/record.json"));
    let exit = print_failures(&finished.failures);
    if exit != Exit::Success {
        say(&format!("what is done is kept; try the rest again with `{go_on}`"));
    }
    Ok(exit)
}

/// Prints why variants did not finish; the exit code that follows.
pub(super) fn print_failures(failures: &[(VariantName, JobError)]) -> Exit {
    for (variant, error) in failures {
        print_error(&format!("{variant}: {error}"));
    }
    // An engine's failure weighs more than a mistake: the latter may be its consequence.
    match failures {
        [] => Exit::Success,
        failures if failures.iter().any(|(_, error)| error.is_engine_failure()) => Exit::EngineFailure,
        _ => Exit::UserMistake,
    }
}

/// The exit code where a server did not answer so many requests of a measurement: as an engine's failure, where nothing weighs more.
pub(super) fn of_requests(exit: Exit, failed: usize) -> Exit {
    if failed == 0 || exit != Exit::Success {
        return exit;
    }
    print_error(&format!(
        "{failed} requests failed and were not sent again; the figures are of the others\nhint: the causes are counted above; a longer \
         `--timeout`, or fewer requests at once, may be enough"
    ));
    Exit::EngineFailure
}

/// More than the machines have that this runs on; starting many more takes minutes.
const MOST_THREADS: usize = 1024;

pub(super) fn start_threads(threads: Option<usize>) -> Result<(), JobError> {
    let Some(threads) = threads else { return Ok(()) };
    if threads > MOST_THREADS {
        return Err(JobError::invalid(
            format!("--threads {threads} is more than {MOST_THREADS}"),
            "give at most as many as the machine has cores, or leave it out",
        ));
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|error| {
        JobError::invalid(format!("cannot start {threads} threads: {error}"), "give a smaller number to `--threads`")
    })
}

/// The hub's client, which Ctrl-C ends where it is caught.
pub(super) fn open_hub(offline: bool) -> Result<Hub, JobError> {
    Ok(Hub::from_environment(offline)?.until(flag()).quiet(is_quiet()))
}
