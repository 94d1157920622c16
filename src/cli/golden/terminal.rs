//! The terminal while keys are asked for: it is left as it was, whatever ends the program.

use std::io;

/// From now on a signal that ends the program gives the terminal its settings back first. A key is read without echo and line by line
/// editing, which a shell does not set right.
#[cfg(unix)]
pub(super) fn keep() -> io::Result<()> {
    use std::sync::{Mutex, PoisonError};
    use std::thread;

    use nix::sys::signal::{SigSet, Signal};
    use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

    use crate::cli::exit::Exit;

    static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
    let restore = || {
        if let Some(before) = &*BEFORE.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
        std::process::exit(Exit::Interrupted as i32);
    };
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(tcgetattr(io::stdin())?);
    let others =
        [Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGXCPU, Signal::SIGVTALRM];
    let signals: SigSet = others.into_iter().collect();
    // Before any thread that would take them in the usual way.
    signals.thread_block()?;
    // Ctrl-C, the end of the terminal, and SIGTERM.
    ctrlc::set_handler(restore).map_err(io::Error::other)?;
    thread::spawn(move || {
        if signals.wait().is_ok() {
            restore();
        }
    });
    Ok(())
}

/// A terminal keeps its own settings here.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(super) fn keep() -> io::Result<()> {
    Ok(())
}
