//! Skipping itself: what is skipped is kept for the count, and fails where the machine is said to have what it needs.

use std::process::{Command, Output};

use crate::program::text;
use crate::skip::{log, skip};

#[test]
#[ignore = "the test below starts it"]
fn skips() {
    skip("a-need-of-its-own", "this test lacks something");
}

fn skipping(required: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "skipping::skips", "--ignored"]).env("EVALSUITE_REQUIRE", required);
    command.output().expect("the tests start")
}

#[test]
fn a_skip_is_counted_and_fails_where_it_is_required() {
    for lenient in ["", "smollm2,shared"] {
        assert!(skipping(lenient).status.success(), "{lenient}");
    }
    let kept = std::fs::read_to_string(log().unwrap()).unwrap();
    let line = format!("{}\ta-need-of-its-own\tskipping::skips", std::process::id());
    assert_eq!(kept.lines().filter(|one| *one == line).count(), 2, "{kept}");
    let strict = skipping("shared, a-need-of-its-own");
    let said = text(&strict.stdout) + &text(&strict.stderr);
    assert!(!strict.status.success() && said.contains("may not be skipped for want of a-need-of-its-own"), "{said}");
}
