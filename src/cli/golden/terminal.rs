//! The terminal while keys are asked for: it is left as it was, whatever ends the program.

#[cfg(unix)]
pub(super) use settings::keep;

#[cfg(unix)]
mod settings {
    use std::sync::{Mutex, PoisonError};
    use std::{io, thread};

    use nix::sys::signal::{SigSet, Signal, raise};
    use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

    use crate::cli::exit::Exit;

    /// The terminal's settings from before a key was asked for.
    static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

    /// What ends a program, or stops it, unless it is caught; beside these Ctrl-C, the end of the terminal, and SIGTERM. A fault of the program's
    /// own ends it as ever: that its signal is blocked does not hold it up.
    const OTHERS: [Signal; 13] = [
        Signal::SIGQUIT,
        Signal::SIGILL,
        Signal::SIGTRAP,
        Signal::SIGABRT,
        Signal::SIGFPE,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGXCPU,
        Signal::SIGVTALRM,
        Signal::SIGPROF,
        Signal::SIGSYS,
        Signal::SIGTSTP,
    ];
    #[cfg(target_os = "linux")]
    const OF_LINUX: [Signal; 3] = [Signal::SIGIO, Signal::SIGPWR, Signal::SIGSTKFLT];
    #[cfg(not(target_os = "linux"))]
    const OF_LINUX: [Signal; 0] = [];

    /// From now on a signal that ends or stops the program gives the terminal its settings back first. A key is read without echo and line by
    /// line editing, which a shell does not set right. SIGKILL and SIGSTOP cannot be caught.
    pub(in crate::cli::golden) fn keep() -> io::Result<()> {
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(tcgetattr(io::stdin())?);
        let signals: SigSet = OTHERS.into_iter().chain(OF_LINUX).collect();
        // Before any thread that would take them in the usual way.
        signals.thread_block()?;
        ctrlc::set_handler(end).map_err(io::Error::other)?;
        thread::spawn(move || {
            while matches!(signals.wait(), Ok(Signal::SIGTSTP)) {
                stop();
            }
            end();
        });
        Ok(())
    }

    fn restore() {
        if let Some(before) = &*BEFORE.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }

    fn end() {
        restore();
        std::process::exit(Exit::Interrupted as i32);
    }

    /// Stops as SIGTSTP would, and goes on asking once SIGCONT comes.
    fn stop() {
        let asking = tcgetattr(io::stdin());
        restore();
        let _ = raise(Signal::SIGSTOP);
        if let Ok(asking) = asking {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &asking);
        }
    }
}

/// A terminal keeps its own settings here.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(super) fn keep() -> std::io::Result<()> {
    Ok(())
}
