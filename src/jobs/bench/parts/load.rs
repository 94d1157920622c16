//! Loading: constructor to ready, and to the first token, several times.

use std::path::PathBuf;
use std::time::Instant;

use super::single::SINGLE;
use crate::jobs::bench::page_cache::{bytes_from_disk, evict, file_bytes, read_through, weight_files};
use crate::jobs::bench::part::{Opened, Part, PartEnd, Runner};
use crate::jobs::bench::{BenchJob, BenchPlan, ColdLoad, DtypeBench, LoadRun, Workload};
use crate::jobs::requests::Purpose;
use crate::jobs::{Event, FirstToken, JobError};

/// `--only load`. Every benchmark opens its engine by [`open`] and asks for a first token; this part asks for that several times.
#[derive(Debug)]
pub(super) struct Load;

impl Part for Load {
    fn name(&self) -> &'static str {
        "load"
    }

    fn description(&self) -> &'static str {
        "opens the engine --repeats times and asks each for a first token"
    }

    fn longest_request(&self, plan: &BenchPlan, _: &Workload) -> usize {
        plan.single.prompt_tokens + 1
    }

    fn openings(&self, job: &BenchJob) -> usize {
        job.repeats
    }

    fn runs_on_endpoints(&self) -> bool {
        false
    }

    fn warm_up_requests(&self) -> usize {
        0
    }

    fn run(&self, _: &mut Runner, _: &mut Opened, _: &mut DtypeBench) -> Result<PartEnd, JobError> {
        Ok(PartEnd::Done)
    }
}

/// Opens the engine so often and keeps the last one; `None` where the user broke off. Weights lie in the page cache then. Before that,
/// if it `begins_cold`, it is opened once with weights that were taken out of there.
pub(in crate::jobs::bench) fn open(
    runner: &mut Runner,
    repetitions: usize,
    begins_cold: bool,
    bench: &mut DtypeBench,
) -> Result<Option<Opened>, JobError> {
    let files: Vec<PathBuf> = runner.variant.model.files().map_or_else(Vec::new, |source| weight_files(source));
    if begins_cold {
        evict(&files);
        loading(runner, 1, 1);
        // Its prompt is none of those below.
        let Some((_, run)) = open_once(runner, repetitions, bench)? else { return Ok(None) };
        bench.cold_load = Some(ColdLoad { run, weight_file_bytes: file_bytes(&files) });
    } else {
        bench.read_through = read_through(&files)?;
    }
    let mut kept: Option<Opened> = None;
    for number in 0..repetitions {
        // What the one before holds must be free before the next begins.
        drop(kept.take());
        loading(runner, number + 1, repetitions);
        let Some((opened, run)) = open_once(runner, number, bench)? else { return Ok(None) };
        bench.loads.push(run);
        kept = Some(opened);
    }
    match kept {
        Some(opened) => Ok(Some(opened)),
        None => Err(JobError::invalid("--repeats 0 asks for nothing", "give --repeats 1 or more")),
    }
}

fn loading(runner: &mut Runner, repetition: usize, repetitions: usize) {
    let variant = runner.variant.name.clone();
    (runner.context.emit)(Event::Loading { variant, repetition, repetitions });
}

/// Opens the engine and asks it for a first token by this prompt; `None` where the user broke off.
fn open_once(
    runner: &mut Runner,
    number: usize,
    bench: &mut DtypeBench,
) -> Result<Option<(Opened, LoadRun)>, JobError> {
    let asked = runner.asked((Purpose::Load, number), 0, SINGLE.prompt_tokens, 1);
    let read_before = bytes_from_disk();
    let begun = Instant::now();
    let engine = (runner.context.open_engine)(runner.variant, &runner.job.target)?;
    let seconds = begun.elapsed().as_secs_f64();
    let disk_bytes = bytes_from_disk().zip(read_before).map(|(after, before)| after.saturating_sub(before));
    let submitted = begun.elapsed().as_secs_f64();
    let info = engine.info().clone();
    let mut opened = Opened::Engine(engine);
    let Some(ran) = runner.generate(&mut opened, vec![asked], None)? else { return Ok(None) };
    let first_token: f64 = ran.times.iter().filter_map(|times| times.first_token_seconds).sum();
    let run = LoadRun { seconds, engine: info.load, first_token_seconds: submitted + first_token, disk_bytes };
    bench.engine = Some(info.clone());
    let first_token = Some(FirstToken { ready_seconds: seconds, first_token_seconds: run.first_token_seconds });
    let variant = runner.variant.name.clone();
    (runner.context.emit)(Event::Loaded { variant, engine: info, first_token });
    Ok(Some((opened, run)))
}
