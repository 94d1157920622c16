//! The whole command line as it is typed: the commands there are, each with its own arguments.

use clap::{Parser, Subcommand};

use super::bench::BenchArguments;
use super::exit::HELP as EXIT_CODES;
use super::golden::GoldenArguments;
use super::gsm8k::Gsm8kArguments;
use super::perplexity::PerplexityArguments;
use super::protocol::ProtocolArguments;
use super::quality::QualityArguments;
use super::quantize::QuantizeArguments;
use super::report::ReportArguments;
use super::rescore::RescoreArguments;
use super::show::ShowArguments;
use super::synth::SynthArguments;
use super::{bench, golden, gsm8k, perplexity, protocol, quality, quantize, report, synth};

/// Does a language model still think straight in FP16 and in AWQ-int4, and what does that buy in speed and load time?
#[derive(Debug, Parser)]
#[command(name = "evalsuite", version, max_term_width = 80, after_help = EXIT_CODES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run grade-school maths problems through a model and compare precisions
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", gsm8k::EXAMPLES))]
    Gsm8k(Box<Gsm8kArguments>),
    /// Read a text and say how well each precision predicts it
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", perplexity::EXAMPLES))]
    Perplexity(Box<PerplexityArguments>),
    /// Measure how fast a model loads and generates, precision by precision
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", bench::EXAMPLES))]
    Bench(Box<BenchArguments>),
    /// Ask a fixed set of prompts and compare every precision's answers with f32's
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", quality::EXAMPLES))]
    Quality(Box<QualityArguments>),
    /// Keep outputs as golden files, and say where they have changed
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", golden::EXAMPLES))]
    Golden(GoldenArguments),
    /// Score a run's stored answers anew by another protocol's rules
    #[command(after_help = EXIT_CODES)]
    Rescore(RescoreArguments),
    /// Print the table of a run again
    #[command(after_help = EXIT_CODES)]
    Show(ShowArguments),
    /// Put runs side by side, as a table, a page or for CI, and gate on a baseline
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", report::EXAMPLES))]
    Report(Box<ReportArguments>),
    /// Write, check and explain the files that say how to ask and how to score
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", protocol::EXAMPLES))]
    Protocol(ProtocolArguments),
    /// Write a model as an AWQ-int4 checkpoint that vLLM and transformers read too
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", quantize::EXAMPLES))]
    Quantize(QuantizeArguments),
    /// Write a random checkpoint at a real model's shape, to measure speed with
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", synth::EXAMPLES))]
    Synth(SynthArguments),
    /// Say what this machine offers: CPU, GPU, caches, hub
    #[command(after_help = EXIT_CODES)]
    Doctor,
}
