//! `evalsuite synth`: what was typed becomes a job, and its progress lines or a bar.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::interrupt::{catch_interrupts, steps_come};
use super::output::{DataArguments, print_json};
use super::printer::{Printer, duration, note, remaining_text, say};
use super::session::start_threads;
use super::values::at_least_one;
use crate::fault::Fault;
use crate::jobs::JobError;
use crate::synth::{ModelShape, SynthEnd, SynthFormat, SynthJob, SynthProgress, synthesise};
use crate::text::bytes;

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite synth --shape tinyllama-1.1b --dtype f16 --out ./tinyllama
      2.2 GB of random weights, with config and tokenizer
  evalsuite synth --shape tinyllama-1.1b --dtype awq --out ./tinyllama-awq
      the same shape in four bits; `--model ./tinyllama` finds it by its name
  evalsuite bench --model ./tinyllama --dtype f16,awq
      how fast they run

The answers of such a model are noise; its speed is a real model's.

--format json prints the keys kind (\"synth\"), format (1), folder, bytes and
seconds when the checkpoint is written.";

/// `evalsuite synth`.
#[derive(Debug, Clone, Args)]
pub struct SynthArguments {
    // Whose shape.
    #[arg(long, help = shapes_help())]
    #[expect(missing_docs, reason = "a doc comment would take the place of the help that lists the shapes")]
    pub shape: String,
    /// How weights are stored: f32, f16, bf16, or awq
    #[arg(long, value_name = "DTYPE")]
    pub dtype: String,
    /// Folder to make; it must not be there yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of all values
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Only the first N blocks
    #[arg(long, value_name = "N")]
    pub layers: Option<usize>,
    /// With awq: inputs that share a scale [default: 128, or 64 or 32 where that
    /// does not fit]
    #[arg(long, value_name = "N")]
    pub group_size: Option<usize>,
    /// CPU threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    #[command(flatten)]
    /// How to print what was made.
    pub data: DataArguments,
}

/// Runs the command.
pub(super) fn run(arguments: &SynthArguments) -> Result<Exit, JobError> {
    let is_json = arguments.data.is_json()?;
    let job = resolve(arguments)?;
    start_threads(arguments.threads)?;
    let interrupted = catch_interrupts()?;
    steps_come();
    let mut printer = Printer::new();
    let begun = Instant::now();
    let finished = synthesise(&job, &mut |progress| show(&mut printer, &progress), interrupted)?;
    printer.end();
    let seconds = begun.elapsed().as_secs_f64();
    Ok(match finished {
        SynthEnd::Written(size) => {
            let folder = job.out.display();
            note(&format!("{} written in {}: {folder}", bytes(size), duration(seconds)));
            note(&format!("measure it with `evalsuite bench --model {folder}`"));
            if is_json {
                print_json("synth", &json!({ "folder": folder.to_string(), "bytes": size, "seconds": seconds }))?;
            }
            Exit::Success
        }
        SynthEnd::Interrupted => {
            say("interrupted: nothing is left of it\nhint: the same command begins anew");
            Exit::Interrupted
        }
    })
}

fn show(printer: &mut Printer, progress: &SynthProgress) {
    let SynthProgress { done_bytes, total_bytes, seconds } = *progress;
    let speed =
        if seconds > 0.0 { format!(", {}/s", bytes((done_bytes as f64 / seconds) as u64)) } else { String::new() };
    let remaining = remaining_text(progress.remaining_seconds());
    let line = format!("{} of {}{speed}{remaining}", bytes(done_bytes), bytes(total_bytes));
    printer.show(done_bytes, total_bytes, &line, None);
}

fn resolve(arguments: &SynthArguments) -> Result<SynthJob, JobError> {
    let shape = ModelShape::parse(&arguments.shape)
        .ok_or_else(|| Fault::unknown("shape", &arguments.shape, &ModelShape::names()))?;
    at_least_one(&[("--threads", arguments.threads)])?;
    let group_size = shape.group_size(arguments.group_size)?;
    let format = SynthFormat::parse(&arguments.dtype, group_size)
        .ok_or_else(|| Fault::unknown("dtype", &arguments.dtype, &SynthFormat::NAMES))?;
    if let Some(size) = arguments.group_size.filter(|_| !matches!(format, SynthFormat::Awq { .. })) {
        return Err(JobError::invalid(
            format!("--group-size {size} has no use with --dtype {}", arguments.dtype),
            "leave it out, or give `--dtype awq`",
        ));
    }
    Ok(SynthJob { shape, format, out: arguments.out.clone(), seed: arguments.seed, layers: arguments.layers })
}

fn shapes_help() -> String {
    format!("Whose shape: {}", ModelShape::names().join(", "))
}
