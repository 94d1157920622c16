//! `evalsuite quantize`: what was typed becomes a job, and its events lines or a bar.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::interrupt::{catch_interrupts, steps_come};
use super::output::{DataArguments, print_json};
use super::printer::{Printer, duration, note, remaining_text, say};
use super::session::{open_hub, start_threads};
use super::values::at_least_one;
use crate::engine::model::ModelSpec;
use crate::fault::Fault;
use crate::jobs::JobError;
use crate::quantize::{GROUP_SIZES, Method, QuantizeEnd, QuantizeEvent, QuantizeJob, QuantizeProgress, quantize};

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
    /// Inputs that share a scale: 128, 64, or 32 [default: the largest that fits]
    #[arg(long, value_name = "N")]
    pub group_size: Option<usize>,
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
    #[command(flatten)]
    /// How to print what was made.
    pub data: DataArguments,
}

/// Runs the command.
pub(super) fn run(arguments: &QuantizeArguments) -> Result<Exit, JobError> {
    let is_json = arguments.data.is_json()?;
    let job = resolve(arguments)?;
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

fn resolve(arguments: &QuantizeArguments) -> Result<QuantizeJob, JobError> {
    let method =
        Method::parse(&arguments.method).ok_or_else(|| Fault::unknown("method", &arguments.method, &Method::NAMES))?;
    if let Some(size) = arguments.group_size.filter(|size| !GROUP_SIZES.contains(size)) {
        return Err(JobError::invalid(
            format!("--group-size {size} is not one that other programs read"),
            "give 128, 64 or 32, or leave it out for the largest that fits",
        ));
    }
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
        group_size: arguments.group_size,
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
        QuantizeEvent::Begun { model, group_size, calibration, folder, done, blocks, kept } => {
            let how = calibration.map_or_else(
                || "rounded as it is".to_owned(),
                |(source, tokens)| format!("calibrated on {tokens} tokens of {source}"),
            );
            note(&format!("{model}: four bits, groups of {group_size}, {how}"));
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
