//! The program: everything it can do is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let isolated = evalsuite::cli::run_isolated(std::env::args_os());
    isolated.unwrap_or_else(|| evalsuite::cli::run(std::env::args_os())).into()
}
