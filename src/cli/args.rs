//! What was typed. Names are checked in `plan.rs`, where the nearest right one can be offered.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::bench::BenchArguments;
use super::exit::HELP as EXIT_CODES;
use super::golden_arguments::GoldenArguments;
use super::model::ModelArguments;
use super::perplexity::PerplexityArguments;
use super::quality::QualityArguments;
use super::report::{BaselineArguments, ReportArguments};
use super::synth::SynthArguments;

const EXAMPLES: &str = "\
Examples:
  evalsuite gsm8k
      the bundled model on the bundled problems, in every precision
  evalsuite gsm8k --model HuggingFaceTB/SmolLM2-135M-Instruct \\
      --dataset openai/gsm8k --limit 100
      a real model on real problems, the first 100 of them
  evalsuite gsm8k --model ./model.gguf --dtype f32,f16 --protocol gsm8k-cot
      a GGUF file, two precisions, lm-evaluation-harness's 8-shot prompt
  evalsuite gsm8k --show-prompt 0
      what the model would read, as text and as token ids
  evalsuite gsm8k --resume
      go on where Ctrl-C, a crash or a full disk ended the newest run";

const QUANTIZE_EXAMPLES: &str = "\
Examples:
  evalsuite quantize --model ./model --out ./model-awq
      scales and limits searched for on the bundled problems' train split
  evalsuite quantize --model ./model.gguf --out ./awq \\
      --calibration train.jsonl --group-size 64
      a GGUF file, calibrated on questions and answers of your own
  evalsuite quantize --model ./model --out ./model-rtn --method rtn
      plain rounding, to see what the search is worth

Ctrl-C keeps finished blocks in DIR.partial; the same command goes on there.";

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
    #[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
    Gsm8k(Box<Gsm8kArguments>),
    /// Read a text and say how well each precision predicts it
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", super::perplexity::EXAMPLES))]
    Perplexity(Box<PerplexityArguments>),
    /// Measure how fast a model loads and generates, precision by precision
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", super::bench::EXAMPLES))]
    Bench(Box<BenchArguments>),
    /// Ask a fixed set of prompts and compare every precision's answers with f32's
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", super::quality::EXAMPLES))]
    Quality(Box<QualityArguments>),
    /// Keep outputs as golden files, and say where they have changed
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", super::golden_arguments::EXAMPLES))]
    Golden(GoldenArguments),
    /// Score a run's stored answers anew by another protocol's rules
    #[command(after_help = EXIT_CODES)]
    Rescore(RescoreArguments),
    /// Print the table of a run again
    #[command(after_help = EXIT_CODES)]
    Show(ShowArguments),
    /// Put runs side by side, as a table, a page or for CI, and gate on a baseline
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", super::report::EXAMPLES))]
    Report(Box<ReportArguments>),
    /// Write a model as an AWQ-int4 checkpoint that vLLM and transformers read too
    #[command(after_help = format!("{QUANTIZE_EXAMPLES}\n\n{EXIT_CODES}"))]
    Quantize(QuantizeArguments),
    /// Write a random checkpoint at a real model's shape, to measure speed with
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", super::synth::EXAMPLES))]
    Synth(SynthArguments),
    /// Say what this machine offers: CPU, GPU, caches, hub
    #[command(after_help = EXIT_CODES)]
    Doctor,
}

/// `evalsuite gsm8k`.
#[derive(Debug, Clone, Args)]
pub struct Gsm8kArguments {
    #[command(flatten)]
    /// Which model, and by which engine.
    pub model: ModelArguments,
    /// Requests that advance together at most [default: the engine's choice]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub batch: Option<usize>,

    /// `bundled`, `openai/gsm8k`, or a .parquet or .jsonl file
    #[arg(long, value_name = "DATASET", default_value = crate::bundled::NAME, help_heading = "Problems")]
    pub dataset: String,
    /// Split of the dataset
    #[arg(long, default_value = "test", help_heading = "Problems")]
    pub split: String,
    /// Only the first N problems; changes no prompt
    #[arg(long, value_name = "N", help_heading = "Problems", conflicts_with = "samples")]
    pub limit: Option<usize>,
    /// Only these rows, such as 3,17,40-60; changes no prompt
    #[arg(long, value_name = "ROWS", help_heading = "Problems")]
    pub samples: Option<String>,
    // How to ask and how to score.
    #[arg(long, default_value = "stepwise", help_heading = "Problems", help = protocols_help())]
    #[expect(missing_docs, reason = "a doc comment would take the place of the help that lists the protocols")]
    pub protocol: String,
    /// Worked examples instead of the protocol's own
    #[arg(long, value_name = "FILE", help_heading = "Problems")]
    pub fewshot: Option<PathBuf>,
    /// Chat template: auto, never, or required [default: the protocol's]
    #[arg(long, value_name = "USE", help_heading = "Problems")]
    pub chat: Option<String>,
    /// Print the prompt of row N as text and token ids, and run nothing
    #[arg(long, value_name = "N", help_heading = "Problems")]
    pub show_prompt: Option<usize>,

    /// Tokens to generate at most [default: the protocol's]
    #[arg(long, value_name = "N", help_heading = "Generation")]
    pub max_tokens: Option<usize>,
    /// 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true, help_heading = "Generation")]
    pub temperature: f64,
    /// Sample from the smallest set of tokens with this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, help_heading = "Generation")]
    pub top_p: f64,
    /// Sample from the K most probable tokens; 0 means all
    #[arg(long, value_name = "K", default_value_t = 0, help_heading = "Generation")]
    pub top_k: usize,
    /// Seed of the run
    #[arg(long, default_value_t = 0, help_heading = "Generation")]
    pub seed: u64,
    /// Completions a problem; every one counts
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Generation")]
    pub repeats: usize,
    /// A string that ends a generation, besides the protocol's; repeatable
    #[arg(long, value_name = "STRING", help_heading = "Generation")]
    pub stop: Vec<String>,

    /// Run folder [default: `runs/TIME-MODEL-PROTOCOL`, in UTC]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Finish what the same command began: in --out, else the newest that fits
    #[arg(long, help_heading = "Results")]
    pub resume: bool,
    /// Exit with 1 if any precision's accuracy (first rule) is below this
    #[arg(long, value_name = "PERCENT", help_heading = "Results")]
    pub min_accuracy: Option<f64>,
    #[command(flatten)]
    /// What a stored run demands.
    pub baseline: BaselineArguments,
    #[command(flatten)]
    /// How to print the table.
    pub output: OutputArguments,
}

/// How a table is printed.
#[derive(Debug, Clone, Args)]
pub struct OutputArguments {
    /// `terminal`, `markdown`, `json`, or `html` (of quality runs)
    #[arg(long, default_value = "terminal", help_heading = "Results")]
    pub format: String,
    /// A tera template of your own instead
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub template: Option<PathBuf>,
}

/// `evalsuite rescore`.
#[derive(Debug, Clone, Args)]
pub struct RescoreArguments {
    /// The run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The protocol whose rules to use: a name, or a .toml file
    #[arg(long)]
    pub protocol: String,
    /// Use only what is on this machine; ask no hub
    #[arg(long)]
    pub offline: bool,
    #[command(flatten)]
    /// How to print the table.
    pub output: OutputArguments,
}

/// `evalsuite show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArguments {
    /// The run folder, or a record's .json file, of any command
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    #[command(flatten)]
    /// How to print the table.
    pub output: OutputArguments,
}

/// `evalsuite quantize`.
#[derive(Debug, Clone, Args)]
pub struct QuantizeArguments {
    /// `bundled`, a hub id, a folder, or a .gguf file
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Folder to make; it must not be there yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Inputs that share a scale: 128, 64, or 32 [default: the largest that fits]
    #[arg(long, value_name = "N")]
    pub group_size: Option<usize>,
    /// Plain text, or questions and answers (.jsonl, .parquet) [default: bundled]
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// `awq`, or `rtn` for plain rounding
    #[arg(long, default_value = "awq")]
    pub method: String,
    /// Revision of a hub model
    #[arg(long, default_value = crate::hub::DEFAULT_REVISION)]
    pub revision: String,
    /// CPU threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Use only what is on this machine; ask no hub
    #[arg(long)]
    pub offline: bool,
}

fn protocols_help() -> String {
    format!("How to ask and how to score: a .toml file, or {}", crate::task::Protocol::names().join(", "))
}
