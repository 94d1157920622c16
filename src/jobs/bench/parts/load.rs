//! Loading: constructor to ready, and to the first token, several times.

use std::path::PathBuf;
use std::time::Instant;

use super::single::SINGLE;
use crate::engine::Engine;
use crate::jobs::bench::page_cache::{bytes_from_disk, evict, file_bytes, read_through, weight_files};
use crate::jobs::bench::part::{Part, PartEnd, Runner};
use crate::jobs::bench::prompts::Purpose;
use crate::jobs::bench::{BenchJob, BenchPlan, ColdLoad, DtypeBench, LoadRun, Workload};
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

    fn warm_up_requests(&self) -> usize {
        0
    }

    fn run(&self, _: &mut Runner, _: &mut dyn Engine, _: &mut DtypeBench) -> Result<PartEnd, JobError> {
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
) -> Result<Option<Box<dyn Engine>>, JobError> {
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
    let mut kept: Option<Box<dyn Engine>> = None;
    for number in 0..repetitions {
        // What the one before holds must be free before the next begins.
        drop(kept.take());
        loading(runner, number + 1, repetitions);
        let Some((engine, run)) = open_once(runner, number, bench)? else { return Ok(None) };
        bench.loads.push(run);
        kept = Some(engine);
    }
    match kept {
        Some(engine) => Ok(Some(engine)),
        None => Err(JobError::invalid("--repeats 0 asks for nothing", "give --repeats 1 or more")),
    }
}

fn loading(runner: &mut Runner, repetition: usize, repetitions: usize) {
    let variant = runner.variant.name.clone();
    (runner.context.emit)(Event::Loading { variant, repetition, repetitions });
}

/// An engine that gave a first token, and how long that took.
type Opened = (Box<dyn Engine>, LoadRun);

/// Opens the engine and asks it for a first token by this prompt; `None` where the user broke off.
fn open_once(runner: &mut Runner, number: usize, bench: &mut DtypeBench) -> Result<Option<Opened>, JobError> {
    let prompt = runner.prompts.prompt(Purpose::Load, number, &[], SINGLE.prompt_tokens);
    let read_before = bytes_from_disk();
    let begun = Instant::now();
    let mut engine = (runner.context.open_engine)(runner.variant, &runner.job.target)?;
    let seconds = begun.elapsed().as_secs_f64();
    let disk_bytes = bytes_from_disk().zip(read_before).map(|(after, before)| after.saturating_sub(before));
    let submitted = begun.elapsed().as_secs_f64();
    let Some(ran) = runner.generate(engine.as_mut(), vec![(prompt, 1)], None)? else { return Ok(None) };
    let first_token = ran.timings.iter().map(|times| times.queued_seconds + times.first_token_seconds).sum::<f64>();
    let run = LoadRun { seconds, engine: engine.info().load, first_token_seconds: submitted + first_token, disk_bytes };
    bench.engine = Some(engine.info().clone());
    let first_token = Some(FirstToken { ready_seconds: seconds, first_token_seconds: run.first_token_seconds });
    let variant = runner.variant.name.clone();
    (runner.context.emit)(Event::Loaded { variant, engine: engine.info().clone(), first_token });
    Ok(Some((engine, run)))
}
