//! What a test leaves out on this machine: said, kept for the count in the last lines of `cargo test` (`tests/it/skipped.rs`), and a failure
//! where the machine is said to have what the test lacks.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

/// Names what this machine has, comma-separated: a test that lacks one of these fails.
const REQUIRED: &str = "EVALSUITE_REQUIRE";

/// Tells that the running test leaves something out for want of `need`: `gpu`, `nvrtc`, `shared`, `smollm2`, …
pub(crate) fn skip(need: &str, why: impl Display) {
    let required = std::env::var(REQUIRED).unwrap_or_default();
    assert!(
        !required.split(',').any(|required| required.trim() == need),
        "a test may not be skipped for want of {need} where {REQUIRED} is {required}: {why}"
    );
    eprintln!("SKIPPED: {why}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{}\t{need}\t{test}\n", std::os::unix::process::parent_id());
    let file = log().and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
    let kept = file.is_some_and(|mut file| file.write_all(line.as_bytes()).is_ok());
    assert!(kept, "a skipped test could not be counted");
}

/// One file for all test programs of a build folder: `target/release/skipped-tests`.
pub(crate) fn log() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.parent()?.join("skipped-tests"))
}
