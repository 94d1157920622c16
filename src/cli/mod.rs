//! The command line: typed, resolved, run, said.

mod args;
mod commands;
mod doctor;
mod exit;
mod perplexity;
mod plan;
mod printer;
mod quantize;
mod report;

pub use args::{Arguments, Command, Gsm8kArguments};
pub use commands::run;
pub use exit::Exit;
pub use perplexity::{PerplexityArguments, resolve_perplexity};
pub use plan::resolve;
