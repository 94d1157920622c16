//! `evalsuite golden`: a file an action.

mod accept;
mod arguments;
mod check;
mod ci;
mod data;
mod list;
mod review;
mod scope;
mod terminal;

pub(super) use arguments::EXAMPLES;
pub use arguments::{GoldenAction, GoldenArguments};

use super::exit::Exit;
use crate::jobs::JobError;

/// Runs the command.
pub(super) fn run(arguments: &GoldenArguments) -> Result<Exit, JobError> {
    match &arguments.action {
        GoldenAction::Check(arguments) => check::check(arguments),
        GoldenAction::Review(arguments) => review::review(arguments),
        GoldenAction::Accept(arguments) => accept::accept(arguments),
        GoldenAction::List(arguments) => list::list(arguments),
    }
}
