//! The command line: typed, resolved, run, said.

mod args;
mod bench;
mod commands;
mod doctor;
mod exit;
mod golden;
mod golden_arguments;
mod golden_look;
mod golden_scope;
mod model;
mod parser;
mod perplexity;
mod plan;
mod printer;
mod quality;
mod quantize;
mod report;
mod synth;

pub use args::{Arguments, Command, Gsm8kArguments};
pub use bench::{BenchArguments, resolve_bench};
pub use commands::run;
pub use exit::Exit;
pub use golden_arguments::{GoldenAction, GoldenArguments};
pub use model::ModelArguments;
pub use perplexity::{PerplexityArguments, resolve_perplexity};
pub use plan::resolve;
pub use quality::{QualityArguments, resolve_quality};
pub use synth::SynthArguments;
