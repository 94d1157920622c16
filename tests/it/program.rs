//! The program as a child process: how tests start it, and what they read of it.

use std::path::Path;
use std::process::{Command, Output};

/// The program, without anything that the environment of the tests could change. Nothing listens on port 9 of this machine: no
/// test may wait for a real hub.
pub(crate) fn evalsuite() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evalsuite"));
    for name in ["HF_HUB_OFFLINE", "CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", "http://127.0.0.1:9");
    command
}

/// What stands on stdout or stderr.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How the program ends in a folder: its exit code, stdout, stderr.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = evalsuite().current_dir(folder).args(arguments).output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What stands on stdout and on stderr of a command, its words as on a line, that ends with `code`.
#[track_caller]
pub(crate) fn says(folder: &Path, code: i32, line: &str) -> (String, String) {
    let (ended, shown, said) = run(folder, &line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(ended, Some(code), "{line}: {shown}{said}");
    assert!(!said.contains("panicked"), "{line}: {said}");
    (shown, said)
}

/// The message about a command, its words as on a line, that is a mistake.
#[track_caller]
pub(crate) fn refused(folder: &Path, line: &str) -> String {
    mistake(&evalsuite().current_dir(folder).args(line.split_whitespace()).output().unwrap())
}

/// Words as they flow, wherever lines are broken.
pub(crate) fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The message about a mistake of the user: exit code 2, nothing on stdout, `error:` and `hint:` on one screen of stderr, no backtrace.
#[track_caller]
pub(crate) fn mistake(output: &Output) -> String {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    assert!(message.contains("error: ") && message.contains("hint: "), "{message}");
    assert!(message.lines().count() <= 24 && !message.contains("panicked"), "{message}");
    message
}
