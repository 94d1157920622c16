//! A child process for what a file can drive without bound: the libraries that read templates and pickles have no limit of their own on
//! stack, memory and time.
//!
//! The child is this very program, started as [`WORD`] and a job's name; it limits itself (`cli/isolated.rs`), answers requests of one pipe
//! on another, and ends with them. A request that it does not survive costs its sender an error, and the next one a new child.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What stands first on the command line of a child.
pub const WORD: &str = "isolated-job";
/// Bytes of memory that a child may have, its own program included.
pub const MEMORY: u64 = 768 << 20;
/// Bytes of stack that a child works on.
pub const STACK: usize = 2 << 20;
/// Seconds of a processor that a child has for a request; the clock that ends it may count one of them before.
pub const SECONDS: u64 = 2;
/// Bytes of a request or an answer at most.
const LONGEST: u64 = 256 << 20;

/// Whether this program knows [`WORD`]: a test's or a bench's does not, and works in its own process.
static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Says that this program, started with [`WORD`], is such a child.
pub fn make_available() {
    AVAILABLE.store(true, Ordering::Relaxed);
}

/// Whether jobs can be done in a child.
pub fn is_available() -> bool {
    AVAILABLE.load(Ordering::Relaxed)
}

/// What came of a request instead of an answer.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The child did not survive it.
    #[error("it {0}")]
    Limit(&'static str),
    /// No child could be started or talked to.
    #[error("the process for it cannot be started: {0}")]
    Start(#[from] io::Error),
}

/// A job in a child of its own, which starts with the first request.
#[derive(Debug)]
pub struct Sandbox {
    job: &'static str,
    child: Mutex<Option<Child>>,
}

impl Sandbox {
    /// A job by its name, which the child is told.
    pub const fn new(job: &'static str) -> Self {
        Self { job, child: Mutex::new(None) }
    }

    /// Asks the child; one request at a time.
    pub fn ask<A: DeserializeOwned>(&self, request: &impl Serialize) -> Result<A, Broken> {
        let request = serde_json::to_vec(request).map_err(io::Error::other)?;
        let mut held = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = match held.take() {
            Some(child) => child,
            None => start(self.job)?,
        };
        let answer = exchange(&mut child, &request);
        match answer {
            Ok(answer) => {
                *held = Some(child);
                Ok(serde_json::from_slice(&answer).map_err(io::Error::other)?)
            }
            Err(_) => Err(Broken::Limit(cause(child)?)),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start(job: &str) -> io::Result<Child> {
    // The program's file may have been replaced since it was started.
    let program = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
    let mut command = Command::new(program);
    command.args([WORD, job]).env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C is meant for the parent, which ends its child.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn()
}

fn exchange(child: &mut Child, request: &[u8]) -> io::Result<Vec<u8>> {
    let (Some(to), Some(from)) = (&mut child.stdin, &mut child.stdout) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    write_frame(to, request)?;
    read_frame(from)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Why a child ended.
fn cause(mut child: Child) -> io::Result<&'static str> {
    drop(child.stdin.take());
    drop(child.stdout.take());
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What it says is a line of the runtime's.
        stderr.take(4096).read_to_end(&mut said)?;
    }
    let status = child.wait()?;
    let said = String::from_utf8_lossy(&said);
    Ok(if said.contains("overflowed its stack") {
        "is nested too deeply"
    } else if said.contains("memory allocation") || said.contains("capacity overflow") {
        "needs more memory than it is given (768 MB)"
    } else if is_out_of_time(status) {
        "takes longer than it is given (2 s)"
    } else if said.contains("panicked") {
        "is damaged"
    } else {
        "ended the process that it was given to"
    })
}

#[cfg(unix)]
fn is_out_of_time(status: std::process::ExitStatus) -> bool {
    /// The number of SIGXCPU on Linux and macOS.
    const SIGXCPU: i32 = 24;
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGXCPU)
}

#[cfg(not(unix))]
fn is_out_of_time(_: std::process::ExitStatus) -> bool {
    false
}

/// Writes a request or an answer: its length, eight bytes, and itself.
pub fn write_frame(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(bytes)?;
    to.flush()
}

/// Reads a request or an answer; `None` where no more comes.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u64::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    if from.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut pipe = Vec::new();
        write_frame(&mut pipe, b"one").unwrap();
        write_frame(&mut pipe, b"").unwrap();
        let mut read = pipe.as_slice();
        assert_eq!(read_frame(&mut read).unwrap().unwrap(), b"one");
        assert_eq!(read_frame(&mut read).unwrap().unwrap(), b"");
        assert!(read_frame(&mut read).unwrap().is_none());
        assert!(read_frame(&mut &pipe[..9]).is_err(), "cut off");
        assert!(read_frame(&mut &[0xff; 16][..]).is_err(), "no length");
    }
}
