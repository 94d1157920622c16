//! `golden review` in a terminal that a signal comes to: the terminal is left as it was.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::evalsuite;

/// `golden review` of one output in a terminal that `script` makes.
struct Review {
    folder: tempfile::TempDir,
    script: Child,
    keys: ChildStdin,
    screen: ChildStdout,
}

impl Review {
    /// Waits until it asks for a key.
    fn begin() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut accept = evalsuite();
        accept.args("golden accept --suite quality --dtype f32 -- --only copying --max-tokens 4".split(' '));
        assert!(accept.current_dir(folder.path()).output().unwrap().status.success());
        let place = folder.path().join("golden/quality/bundled/f32.json");
        fs::copy(&place, place.with_extension("json.new")).unwrap();
        let program = env!("CARGO_BIN_EXE_evalsuite");
        let shell = format!(
            "tty > tty; stty -g > before; sh -c 'echo $$ > pid; exec {program} golden review'; echo $? > code; stty -g > after"
        );
        let script = Command::new("script")
            .args(["-qec", &shell, "/dev/null"])
            .current_dir(folder.path())
            .env("TERM", "xterm")
            .env_remove("CI")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut script) = script else {
            crate::skip::skip("script", "no `script` to make a terminal with: no signal comes to `golden review`");
            return None;
        };
        let (keys, screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let mut review = Self { folder, script, keys, screen };
        review.wait_for("(q)uit? ");
        // The question is written before the terminal's settings are changed.
        wait(|| review.settings() != review.file("before"));
        Some(review)
    }

    /// Reads what is shown up to a text.
    fn wait_for(&mut self, part: &str) {
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains(part) {
            let mut byte = [0];
            assert_eq!(self.screen.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&shown));
            shown.push(byte[0]);
        }
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap().trim().to_owned()
    }

    /// The terminal's settings now.
    fn settings(&self) -> String {
        let output = Command::new("stty").args(["-g", "-F", &self.file("tty")]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn send(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.file("pid")]).status().unwrap().success());
    }

    fn is_stopped(&self) -> bool {
        let stat = Path::new("/proc").join(self.file("pid")).join("stat");
        fs::read_to_string(stat).is_ok_and(|stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('T'))
    }

    /// The exit code, once it has ended with the terminal as it was.
    fn end(mut self) -> String {
        self.script.wait().unwrap();
        assert_eq!(self.file("after"), self.file("before"));
        self.file("code")
    }
}

fn wait(mut until: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !until() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come to pass");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// SIGABRT, SIGPROF and others that nothing was listening for left it without echo.
#[test]
fn any_signal_that_ends_a_review_leaves_the_terminal_as_it_was() {
    for signal in ["-INT", "-TERM", "-HUP", "-QUIT", "-ABRT", "-PROF", "-SYS", "-IO"] {
        let Some(review) = Review::begin() else { return };
        review.send(signal);
        assert_eq!(review.end(), "130", "{signal}");
    }
}

#[test]
fn a_review_that_is_stopped_gives_the_terminal_back_and_goes_on_asking() {
    let Some(mut review) = Review::begin() else { return };
    let asking = review.settings();
    review.send("-TSTP");
    wait(|| review.is_stopped());
    assert_eq!(review.settings(), review.file("before"));
    review.send("-CONT");
    wait(|| review.settings() == asking);
    write!(review.keys, "q").unwrap();
    review.wait_for("left as it is");
    assert_eq!(review.end(), "0");
}
