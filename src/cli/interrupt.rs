//! Ctrl-C, and whatever else asks the program to end: after the current step where steps come, and soon where none does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
use nix::sys::signal::{SigHandler, Signal};

use super::exit::Exit;
use super::printer::say;
use crate::jobs::{Event, JobError};

/// Whether Ctrl-C was pressed since it is caught; a signal is the whole process's, and so is this.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// When the last step came, where steps come.
static STEPS: Mutex<Steps> = Mutex::new(Steps::None);

/// How long whatever is being done may take to end by itself where no step comes: a fifo that nobody writes to, a disk or a server that hangs,
/// a template, a queue.
const WITHOUT_STEPS: Duration = Duration::from_secs(2);
/// The same since the last step. What a step longer than this has computed is lost; what was done before it is kept.
const SINCE_STEP: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy)]
enum Steps {
    /// None is to come.
    None,
    /// The last came then.
    Since(Instant),
    /// They come, however long they take.
    Always,
}

pub(super) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// For what must know of it while it waits.
pub(super) fn flag() -> &'static AtomicBool {
    &INTERRUPTED
}

/// Learns from a run's events whether steps come, after each of which the run looks whether it is to end.
pub(super) fn watch(event: &Event) {
    match event {
        Event::Loaded { .. } | Event::Estimate(_) | Event::Progress(_) | Event::Window(_) | Event::Reading(_) => {
            set(Steps::Since(Instant::now()));
        }
        Event::Loading { .. } | Event::Ended(_) | Event::Failed { .. } => set(Steps::None),
        Event::Note(_) | Event::Folder { .. } => {}
    }
}

/// From now on the work looks by itself whether it is to end, often enough: the blocks of a checkpoint, a server that lets answers finish.
pub(super) fn steps_come() {
    set(Steps::Always);
}

fn set(steps: Steps) {
    *STEPS.lock().unwrap_or_else(PoisonError::into_inner) = steps;
}

fn steps() -> Steps {
    *STEPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first Ctrl-C asks the run to end after its current step, or soon where no step comes; the second ends the program at once.
pub(super) fn catch_interrupts() -> Result<&'static AtomicBool, JobError> {
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
        say(match steps() {
            Steps::None => "\ninterrupted: ending; Ctrl-C again ends at once",
            _ => "\ninterrupted: ending after the current step; Ctrl-C again ends at once",
        });
        // The second signal comes to this thread.
        thread::spawn(end_without_steps);
    };
    #[cfg(unix)]
    let ignored = ignored_signals();
    ctrlc::set_handler(handler).map_err(|error| {
        JobError::invalid(format!("cannot listen for Ctrl-C: {error}"), "run from an ordinary shell")
    })?;
    #[cfg(unix)]
    for signal in ignored {
        ignore(signal);
    }
    Ok(&INTERRUPTED)
}

/// Ends the program where it does not end by itself.
fn end_without_steps() {
    let interrupted = Instant::now();
    // Since when no step comes.
    let mut without = interrupted;
    loop {
        let steps = steps();
        if !matches!(steps, Steps::None) {
            without = Instant::now();
        }
        let is_over = match steps {
            Steps::None => without.elapsed() > WITHOUT_STEPS,
            Steps::Since(last) => last.max(interrupted).elapsed() > SINCE_STEP,
            Steps::Always => false,
        };
        if is_over {
            say("interrupted: no step came to end after; what was done before is kept");
            std::process::exit(Exit::Interrupted as i32);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Signals that the parent process has set to be ignored, as `nohup` does with the end of a terminal. They are ignored from here on,
/// until a handler is set.
#[cfg(unix)]
fn ignored_signals() -> Vec<Signal> {
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]
        .into_iter()
        .filter(|signal| matches!(ignore(*signal), Some(SigHandler::SigIgn)))
        .collect()
}

/// Ignores a signal; what was done about it before.
#[cfg(unix)]
#[expect(unsafe_code, reason = "handlers are set through C; to ignore a signal runs no code of ours")]
pub(super) fn ignore(signal: Signal) -> Option<SigHandler> {
    // SAFETY: no handler is installed, so none can do what a handler may not.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }.ok()
}
