//! The command line: typed, resolved, run, said. A file a command; what several need stands in files of its own.

mod args;
mod baseline;
mod bench;
mod commands;
mod doctor;
mod endpoint;
mod eval;
mod exit;
mod flags;
mod golden;
mod headline;
mod list;
mod load;
mod model;
mod output;
mod parser;
mod perplexity;
mod printer;
mod probe;
mod protocol;
mod quality;
mod quantize;
mod report;
mod report_records;
mod rescore;
mod resume;
mod score;
mod serve;
mod session;
mod show;
mod synth;
mod table;
mod values;
#[cfg(test)]
mod walk_tests;

pub use args::{Arguments, Command};
pub use bench::{BenchArguments, resolve_bench};
pub use commands::run;
pub use eval::{EvalArguments, EvalFlags, resolve};
pub use exit::Exit;
pub use golden::{GoldenAction, GoldenArguments};
pub use model::ModelArguments;
pub use perplexity::{PerplexityArguments, resolve_perplexity};
pub use quality::{QualityArguments, resolve_quality};
pub use synth::SynthArguments;
