//! Texts of others as they are shown: nothing that a terminal obeys comes through, and what was shown once is shown the same again.

#![no_main]

use evalsuite::shown::{is_obeyed, plain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let shown = plain(text);
    assert!(!shown.chars().any(is_obeyed), "{shown:?}");
    assert_eq!(plain(&shown), shown);
});
