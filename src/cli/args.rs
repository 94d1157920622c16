//! The whole command line as it is typed: the commands there are, each with its own arguments.

use clap::{Parser, Subcommand};

use super::bench::BenchArguments;
use super::blame::BlameArguments;
use super::determinism::DeterminismArguments;
use super::doctor::DoctorArguments;
use super::eval::{EvalArguments, EvalFlags};
use super::exit::HELP as EXIT_CODES;
use super::export::ExportArguments;
use super::generated::{self, CompletionsArguments, ManArguments};
use super::golden::GoldenArguments;
use super::import::ImportArguments;
use super::list::ListArguments;
use super::load::LoadArguments;
use super::perplexity::PerplexityArguments;
use super::probe::ProbeArguments;
use super::protocol::ProtocolArguments;
use super::quality::QualityArguments;
use super::quantize::QuantizeArguments;
use super::report::ReportArguments;
use super::rescore::RescoreArguments;
use super::resume::ResumeArguments;
use super::score::ScoreArguments;
use super::serve::ServeArguments;
use super::show::ShowArguments;
use super::synth::SynthArguments;
use super::{
    bench, blame, determinism, doctor, eval, export, golden, import, list, load, perplexity, probe, protocol, quality,
    quantize, report, rescore, resume, score, serve, show, synth,
};

/// What `--vs` takes, in `report` and in `bench`.
const ELSEWHERE: &str = "\
--vs FILE is JSON; what was not measured is left out, and what bench --out, vLLM's
bench serve, guidellm, aiperf, llama-bench or lm-evaluation-harness has written
will do. Each row needs engine and precision, and a source of its own or
of the file; times are in seconds unless they say else:
  {\"format\": 1, \"source\": \"...\", \"machine\": \"...\", \"date\": \"...\", \"rows\": [
    {\"engine\": \"name version\", \"precision\": \"f16\", \"model\": \"...\",
     \"device\": \"...\", \"source\": \"...\", \"note\": \"...\",
     \"load_seconds\": 1.2, \"load_first_token_seconds\": 1.3,
     \"ttft_milliseconds\": 6.1, \"decode_tokens_per_second\": 653,
     \"concurrent_tokens_per_second\": 41370, \"workload_seconds\": 7.59,
     \"tokens_per_second\": 44490, \"accuracy_percent\": 70.1, \"n\": 1319,
     \"peak_memory_bytes\": 2100000000,
     \"sweeps\": {\"batch\": {\"1\": 433}, \"length\": {}, \"requests\": {}}}]}";

/// Does a language model still think straight in FP16 and in AWQ-int4, and what does that buy in speed and load time?
#[derive(Debug, Parser)]
#[command(name = "evalsuite", version, max_term_width = 80, after_help = EXIT_CODES)]
pub struct Arguments {
    /// Nothing on stderr but errors: no progress, no notes
    #[arg(long, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run grade-school maths problems through a model and compare precisions
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", eval::EXAMPLES))]
    Gsm8k(Box<EvalFlags>),
    /// Run a task's problems through a model and compare precisions
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", eval::EVAL_EXAMPLES))]
    Eval(Box<EvalArguments>),
    /// Read a text and say how well each precision predicts it
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", perplexity::EXAMPLES))]
    Perplexity(Box<PerplexityArguments>),
    /// Say which layers and projections of a run's int4 weights lost f32's answers
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", blame::EXAMPLES))]
    Blame(Box<BlameArguments>),
    /// Measure how fast a model loads and generates, precision by precision
    #[command(after_help = format!("{}\n\n{ELSEWHERE}\n\n{EXIT_CODES}", bench::EXAMPLES))]
    Bench(Box<BenchArguments>),
    /// Measure a server, or an engine of ours, under many requests at once
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", load::EXAMPLES))]
    Load(Box<LoadArguments>),
    /// Ask an endpoint some fifty small requests that say what it does to scores
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", probe::EXAMPLES))]
    Probe(Box<ProbeArguments>),
    /// Ask the same prompts at several batch sizes and orders, and say what moves
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", determinism::EXAMPLES))]
    Determinism(Box<DeterminismArguments>),
    /// Answer OpenAI's API with an engine of ours
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", serve::EXAMPLES))]
    Serve(Box<ServeArguments>),
    /// Ask a fixed set of prompts and compare every variant's answers with the reference's
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", quality::EXAMPLES))]
    Quality(Box<QualityArguments>),
    /// Keep outputs as golden files, and say where they have changed
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", golden::EXAMPLES))]
    Golden(GoldenArguments),
    /// Go on with a run that was interrupted, by its own command
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", resume::EXAMPLES))]
    Resume(Box<ResumeArguments>),
    /// Score a run's stored answers anew by another protocol's rules
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", rescore::EXAMPLES))]
    Rescore(RescoreArguments),
    /// Score completions that were made elsewhere
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", score::EXAMPLES))]
    Score(Box<ScoreArguments>),
    /// Print the table of a run again
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", show::JSON))]
    Show(ShowArguments),
    /// Put runs or benchmarks side by side, as a table, a page or for CI, and gate on
    /// a baseline
    #[command(alias = "compare", after_help = format!("{}\n\n{ELSEWHERE}\n\n{EXIT_CODES}", report::EXAMPLES))]
    Report(Box<ReportArguments>),
    /// Write a run as lm-evaluation-harness, Inspect AI or tables of data have theirs
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", export::EXAMPLES))]
    Export(ExportArguments),
    /// Take in results of lm-evaluation-harness or Inspect AI, as runs like any other
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", import::EXAMPLES))]
    Import(Box<ImportArguments>),
    /// Write, check and explain the files that say how to ask and how to score
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", protocol::EXAMPLES))]
    Protocol(ProtocolArguments),
    /// Write a model as an AWQ-int4 checkpoint that vLLM and transformers read too
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", quantize::EXAMPLES))]
    Quantize(QuantizeArguments),
    /// Write a random checkpoint at a real model's shape, to measure speed with
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", synth::EXAMPLES))]
    Synth(SynthArguments),
    /// List runs, tasks, protocols, families, formats, engines
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", list::EXAMPLES))]
    List(ListArguments),
    /// Say what this machine offers: CPU, GPU, caches, hub
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", doctor::JSON))]
    Doctor(DoctorArguments),
    /// Print what a shell completes this program's words by
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", generated::COMPLETIONS))]
    Completions(CompletionsArguments),
    /// Print a page for `man`
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", generated::MAN))]
    Man(ManArguments),
}
