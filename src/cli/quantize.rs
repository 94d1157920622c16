//! `evalsuite quantize`: what was typed becomes a job, and its events lines or a bar.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::interrupt::{catch_interrupts, steps_come};
use super::output::print_json;
use super::printer::{Printer, duration, note, remaining_text, say};
use super::session::{open_hub, start_threads};
use super::values::at_least_one;
use crate::engine::model::ModelSpec;
use crate::engine::{Devices, EngineKind, check_devices};
use crate::fault::Fault;
use crate::jobs::JobError;
use crate::quantize::{
    GROUP_SIZES, Groups, Method, QuantizeEnd, QuantizeEvent, QuantizeJob, QuantizeProgress, StoredFormat, quantize,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite quantize --model ./model --out ./model-awq
      scales and limits searched for on the bundled problems' train split
  evalsuite quantize --model ./model.gguf --out ./awq \\
      --calibration train.jsonl --group-size 64
      a GGUF file, calibrated on questions and answers of your own
  evalsuite quantize --model ./model --out ./model-rtn --method rtn
      plain rounding, to see what the search is worth
  evalsuite quantize --model ./model --out ./model-kept --keep 0,29
      layers 0 and 29 stay in f16, and config.json says so to other programs
  evalsuite quantize --model ./model --out ./model-w4a16 \\
      --format compressed-tensors --symmetric
      the layout of llm-compressor, which vLLM and transformers read

Ctrl-C keeps finished blocks in DIR.partial; the same command goes on there.

--format json prints the keys kind (\"quantize\"), format (1), folder and
seconds when the checkpoint is written, and nothing before.";

/// No model has as many layers.
const MOST_LAYER: usize = 100_000;

/// `evalsuite quantize`.
#[derive(Debug, Clone, Args)]
pub struct QuantizeArguments {
    /// `bundled`, a hub id, a folder, or a .gguf file
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Folder to make; it must not be there yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Inputs that share a scale: 128, 64, 32, or `channel` for all of an output's
    /// [default: the largest that fits]
    #[arg(long, value_name = "N")]
    pub group_size: Option<String>,
    /// The checkpoint's layout, `awq` or `compressed-tensors`; and `json` beside it
    /// to print for programs what was made: `compressed-tensors,json`
    #[arg(long, value_delimiter = ',', default_values = ["awq", "terminal"])]
    pub format: Vec<String>,
    /// Codes without zero points, counted from the middle; `compressed-tensors` alone
    #[arg(long)]
    pub symmetric: bool,
    /// Plain text, or questions and answers (.jsonl, .parquet) [default: bundled]
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// `awq`, or `rtn` for plain rounding
    #[arg(long, default_value = "awq")]
    pub method: String,
    /// Layers that stay in f16, such as 0,3,28-29, counted from 0; `evalsuite blame`
    /// says which are worth it
    #[arg(long, value_name = "LAYERS")]
    pub keep: Option<String>,
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

/// Runs the command.
pub(super) fn run(arguments: &QuantizeArguments) -> Result<Exit, JobError> {
    let (format, is_json) = formats(&arguments.format)?;
    let job = resolve(arguments, format)?;
    check_devices(EngineKind::Cpu, &Devices::default())?;
    start_threads(arguments.threads)?;
    let hub = open_hub(arguments.offline)?;
    let interrupted = catch_interrupts()?;
    let mut printer = Printer::new();
    let begun = Instant::now();
    let mut emit = |event| {
        // From the first event on, nothing is waited for.
        steps_come();
        show(&mut printer, event);
    };
    let finished = quantize(&job, &hub, &mut emit, interrupted)?;
    printer.end();
    let seconds = begun.elapsed().as_secs_f64();
    Ok(match finished {
        QuantizeEnd::Written(folder) => {
            let folder = folder.display();
            note(&format!("written in {}: {folder}", duration(seconds)));
            note(&format!("run it with `evalsuite gsm8k --model {folder}`"));
            if is_json {
                print_json("quantize", &json!({ "folder": folder.to_string(), "seconds": seconds }))?;
            }
            Exit::Success
        }
        QuantizeEnd::Interrupted(folder) => {
            let folder = folder.display();
            say(&format!("interrupted: finished blocks are kept in {folder}\nhint: the same command goes on there"));
            Exit::Interrupted
        }
    })
}

/// The checkpoint's format, and whether JSON is printed: one word of each at most.
fn formats(words: &[String]) -> Result<(StoredFormat, bool), JobError> {
    let (mut stored, mut printed) = (None, None);
    for word in words {
        let twice = match (StoredFormat::parse(word), word.as_str()) {
            (Some(format), _) => stored.replace(format).is_some(),
            (None, "terminal" | "json") => printed.replace(word == "json").is_some(),
            _ => {
                let known: Vec<&str> = StoredFormat::NAMES.into_iter().chain(["terminal", "json"]).collect();
                return Err(Fault::unknown("format", word, &known).into());
            }
        };
        if twice {
            return Err(JobError::invalid(
                format!("--format {}: one checkpoint is written, and printed in one way", words.join(",")),
                "give one of `awq` and `compressed-tensors`, and `json` beside it where a program reads what is printed",
            ));
        }
    }
    Ok((stored.unwrap_or(StoredFormat::Awq), printed.unwrap_or(false)))
}

/// `128`, `channel`.
fn groups(word: &str) -> Result<Groups, JobError> {
    let size = word.parse().ok().filter(|size| GROUP_SIZES.contains(size)).map(Groups::Size);
    size.or_else(|| (word == "channel").then_some(Groups::Channel)).ok_or_else(|| {
        JobError::invalid(
            format!("--group-size {word} is not one that other programs read"),
            "give 128, 64 or 32, `channel` with `--format compressed-tensors`, or leave it out for the largest that fits",
        )
    })
}

fn resolve(arguments: &QuantizeArguments, format: StoredFormat) -> Result<QuantizeJob, JobError> {
    let method =
        Method::parse(&arguments.method).ok_or_else(|| Fault::unknown("method", &arguments.method, &Method::NAMES))?;
    at_least_one(&[("--threads", arguments.threads)])?;
    if method == Method::Rtn && arguments.calibration.is_some() {
        return Err(JobError::invalid(
            "--calibration has no use with --method rtn, which looks at the weights alone",
            "leave one of the two out",
        ));
    }
    Ok(QuantizeJob {
        model: ModelSpec { source: arguments.model.clone(), revision: arguments.revision.clone() },
        out: arguments.out.clone(),
        format,
        groups: arguments.group_size.as_deref().map(groups).transpose()?,
        symmetric: arguments.symmetric,
        calibration: arguments.calibration.clone(),
        method,
        keep: arguments.keep.as_deref().map(layers).transpose()?.unwrap_or_default(),
    })
}

/// `0,3,28-29`.
fn layers(list: &str) -> Result<BTreeSet<usize>, JobError> {
    let refused = |why: &str| {
        let what = format!("--keep {list}: {why}");
        JobError::invalid(what, "give numbers of layers from 0 and ranges of them, such as `--keep 0,3,28-29`")
    };
    let mut layers = BTreeSet::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |word: &str| word.trim().parse::<usize>().map_err(|_| refused(&format!("`{part}` is no layer")));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(refused(&format!("`{part}` runs backwards")));
        }
        if last > MOST_LAYER {
            return Err(refused(&format!("no model has {last} layers")));
        }
        layers.extend(first..=last);
    }
    Ok(layers)
}

/// Shows a quantisation's events: a bar on a terminal, a line now and then elsewhere.
fn show(printer: &mut Printer, event: QuantizeEvent) {
    match event {
        QuantizeEvent::Begun { model, format, scheme, calibration, folder, done, blocks, kept } => {
            let how = calibration.map_or_else(
                || "rounded as it is".to_owned(),
                |(source, tokens)| format!("calibrated on {tokens} tokens of {source}"),
            );
            let groups = match scheme.groups {
                Groups::Size(size) => format!("groups of {size}"),
                Groups::Channel => "one group an output".to_owned(),
            };
            let zeros = if scheme.symmetric { ", symmetric" } else { "" };
            let stored = if format == StoredFormat::Awq { String::new() } else { format!(", {}", format.name()) };
            note(&format!("{model}: four bits{stored}, {groups}{zeros}, {how}"));
            if !kept.is_empty() {
                let kept: Vec<String> = kept.iter().map(usize::to_string).collect();
                note(&format!("kept in f16: layers {} of {blocks}", kept.join(", ")));
            }
            if done > 0 {
                note(&format!("{done} of {blocks} blocks are in {} already", folder.display()));
            }
        }
        QuantizeEvent::Progress(progress) => {
            printer.show(progress.done as u64, progress.total as u64, &line(&progress), None);
        }
    }
}

fn line(progress: &QuantizeProgress) -> String {
    let remaining = remaining_text(progress.remaining_seconds());
    let percent = 100 * progress.done / progress.total.max(1);
    format!("block {} of {}, {percent} % done{remaining}", progress.block, progress.blocks)
}
