//! The child's side of [`crate::sandbox`]: a process that limits itself, answers requests on its pipes, and ends with them.

use std::ffi::{OsStr, OsString};
use std::io;

use super::exit::Exit;
use crate::sandbox::{STACK, WORD, make_available, read_frame, write_frame};

/// From a request to its answer.
type Answers = Box<dyn FnMut(&[u8]) -> Vec<u8> + Send>;

/// The job of this name, which [`crate::sandbox::Sandbox::new`] is given.
fn job(name: &OsStr) -> Option<Answers> {
    match name.to_str()? {
        crate::task::CHAT_JOB => Some(Box::new(crate::task::chat_answers())),
        crate::report::TEMPLATE_JOB => Some(Box::new(crate::report::template_answer)),
        crate::engine::model::PICKLE_JOB => Some(Box::new(crate::engine::model::pickle_answer)),
        _ => None,
    }
}

/// The program's beginning: does a job, if these words ask for one, and then says how it ended.
pub fn run_isolated(mut words: impl Iterator<Item = OsString>) -> Option<Exit> {
    make_available();
    if words.nth(1).as_deref() != Some(OsStr::new(WORD)) {
        return None;
    }
    let job = job(&words.next()?)?;
    // On a stack of a known size: the main thread's is what the parent process's limit says.
    let work = std::thread::Builder::new().stack_size(STACK).spawn(|| answer(job));
    let done = work.ok().and_then(|work| work.join().ok()).is_some_and(|result| result.is_ok());
    Some(if done { Exit::Success } else { Exit::EngineFailure })
}

fn answer(mut job: impl FnMut(&[u8]) -> Vec<u8>) -> io::Result<()> {
    limits::begin()?;
    let (mut requests, mut answers) = (io::stdin().lock(), io::stdout().lock());
    while let Some(request) = read_frame(&mut requests)? {
        limits::of_request()?;
        write_frame(&mut answers, &job(&request))?;
    }
    Ok(())
}

#[cfg(unix)]
mod limits {
    //! What the process may have, as far as it is not less already.

    use std::io;

    use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

    use crate::sandbox::{MEMORY, SECONDS};

    pub(super) fn begin() -> io::Result<()> {
        limit(Resource::RLIMIT_CORE, 0)?;
        limit(Resource::RLIMIT_AS, MEMORY)
    }

    /// The limit of time is of the process's whole life, which may serve for days.
    pub(super) fn of_request() -> io::Result<()> {
        let used = getrusage(UsageWho::RUSAGE_SELF)?;
        let seconds = used.user_time().tv_sec() + used.system_time().tv_sec();
        limit(Resource::RLIMIT_CPU, seconds as u64 + SECONDS)
    }

    fn limit(resource: Resource, most: u64) -> io::Result<()> {
        let (_, hard) = getrlimit(resource)?;
        Ok(setrlimit(resource, most.min(hard), hard)?)
    }
}

#[cfg(not(unix))]
mod limits {
    //! The system limits no process by itself: a child is one for its stack and its crashes alone (docs/models.md).

    use std::io;

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(super) fn begin() -> io::Result<()> {
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(super) fn of_request() -> io::Result<()> {
        Ok(())
    }
}
