//! `evalsuite quantize`: what was typed becomes a job, and its events lines or a bar.

use std::time::Instant;

use super::args::QuantizeArguments;
use super::commands::{catch_interrupts, open_hub, start_threads};
use super::exit::Exit;
use super::plan::at_least_one;
use super::printer::{Printer, duration, remaining_text, say};
use crate::engine::model::ModelSpec;
use crate::quantize::{Event, Finished, GROUP_SIZES, Job, Method, Progress, quantize};
use crate::run::RunError;
use crate::text::unknown;

/// Runs the command.
pub(super) fn run(arguments: &QuantizeArguments) -> Result<Exit, RunError> {
    let job = resolve(arguments)?;
    start_threads(arguments.threads)?;
    let hub = open_hub(arguments.offline)?;
    let interrupted = catch_interrupts()?;
    let mut printer = Printer::new();
    let begun = Instant::now();
    let finished = quantize(&job, &hub, &mut |event| tell(&mut printer, event), interrupted)?;
    printer.end();
    Ok(match finished {
        Finished::Written(folder) => {
            let folder = folder.display();
            say(&format!("written in {}: {folder}", duration(begun.elapsed().as_secs_f64())));
            say(&format!("run it with `evalsuite gsm8k --model {folder}`"));
            Exit::Success
        }
        Finished::Interrupted(folder) => {
            let folder = folder.display();
            say(&format!("interrupted: finished blocks are kept in {folder}\nhint: the same command goes on there"));
            Exit::Interrupted
        }
    })
}

fn resolve(arguments: &QuantizeArguments) -> Result<Job, RunError> {
    let method = Method::parse(&arguments.method).ok_or_else(|| {
        let (what, hint) = unknown("method", &arguments.method, &Method::NAMES);
        RunError::invalid(what, hint)
    })?;
    if let Some(size) = arguments.group_size.filter(|size| !GROUP_SIZES.contains(size)) {
        return Err(RunError::invalid(
            format!("--group-size {size} is not one that other programs read"),
            "give 128, 64 or 32, or leave it out for the largest that fits",
        ));
    }
    at_least_one(&[("--threads", arguments.threads)])?;
    if method == Method::Rtn && arguments.calibration.is_some() {
        return Err(RunError::invalid(
            "--calibration has no use with --method rtn, which looks at the weights alone",
            "leave one of the two out",
        ));
    }
    Ok(Job {
        model: ModelSpec { source: arguments.model.clone(), revision: arguments.revision.clone() },
        out: arguments.out.clone(),
        group_size: arguments.group_size,
        calibration: arguments.calibration.clone(),
        method,
    })
}

/// Shows a quantisation's events: a bar on a terminal, a line now and then elsewhere.
fn tell(printer: &mut Printer, event: Event) {
    match event {
        Event::Begun { model, group_size, calibration, folder, done, blocks } => {
            let how = calibration.map_or_else(
                || "rounded as it is".to_owned(),
                |(source, tokens)| format!("calibrated on {tokens} tokens of {source}"),
            );
            say(&format!("{model}: four bits, groups of {group_size}, {how}"));
            if done > 0 {
                say(&format!("{done} of {blocks} blocks are in {} already", folder.display()));
            }
        }
        Event::Progress(progress) => {
            printer.show(progress.done as u64, progress.total as u64, line(&progress), None);
        }
    }
}

fn line(progress: &Progress) -> String {
    let remaining = remaining_text(progress.remaining_seconds());
    let percent = 100 * progress.done / progress.total.max(1);
    format!("block {} of {}, {percent} % done{remaining}", progress.block, progress.blocks)
}
