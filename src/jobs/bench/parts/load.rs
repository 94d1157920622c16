//! Loading: constructor to ready, and to the first token, several times.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;

use super::single::SINGLE;
use crate::engine::model::ModelSource;
use crate::engine::{Engine, EngineError};
use crate::fault::IoFault;
use crate::jobs::bench::part::{Part, PartEnd, Runner};
use crate::jobs::bench::prompts::Purpose;
use crate::jobs::bench::{BenchJob, BenchPlan, DtypeBench, LoadRun, ReadThrough, Workload};
use crate::jobs::{Event, FirstToken, JobError};
use crate::system::available_memory_bytes;

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

/// Opens the engine so often and keeps the last one; `None` where the user broke off.
pub(in crate::jobs::bench) fn open(
    runner: &mut Runner,
    repetitions: usize,
    bench: &mut DtypeBench,
) -> Result<Option<Box<dyn Engine>>, JobError> {
    bench.read_through = runner.variant.model.files().map_or(Ok(None), |source| read_through(source))?;
    let mut kept: Option<Box<dyn Engine>> = None;
    for number in 0..repetitions {
        // What the one before holds must be free before the next begins.
        drop(kept.take());
        let (variant, repetition) = (runner.variant.name.clone(), number + 1);
        (runner.context.emit)(Event::Loading { variant: variant.clone(), repetition, repetitions });
        let prompt = runner.prompts.prompt(Purpose::Load, number, &[], SINGLE.prompt_tokens);
        let begun = Instant::now();
        let mut engine = (runner.context.open_engine)(runner.variant, &runner.job.target)?;
        let seconds = begun.elapsed().as_secs_f64();
        let submitted = begun.elapsed().as_secs_f64();
        let Some(ran) = runner.generate(engine.as_mut(), vec![(prompt, 1)], None)? else { return Ok(None) };
        let first_token = ran.timings.iter().map(|times| times.queued_seconds + times.first_token_seconds).sum::<f64>();
        let run = LoadRun { seconds, engine: engine.info().load, first_token_seconds: submitted + first_token };
        bench.loads.push(run);
        bench.engine = Some(engine.info().clone());
        let first_token = Some(FirstToken { ready_seconds: seconds, first_token_seconds: run.first_token_seconds });
        (runner.context.emit)(Event::Loaded { variant, engine: engine.info().clone(), first_token });
        kept = Some(engine);
    }
    match kept {
        Some(engine) => Ok(Some(engine)),
        None => Err(JobError::invalid("--repeats 0 asks for nothing", "give --repeats 1 or more")),
    }
}

/// Reads the weights once, so that every load finds them in the page cache (as far as memory holds them).
fn read_through(source: &ModelSource) -> Result<Option<ReadThrough>, JobError> {
    let paths = weight_files(source);
    if paths.is_empty() {
        return Ok(None);
    }
    let available_memory_bytes = available_memory_bytes();
    let begun = Instant::now();
    let read = |path: &std::path::PathBuf| {
        let hint = |_| "check the disk that the file lies on";
        read_file(path).map_err(|source| EngineError::Read(IoFault::new("read", path, source, hint)))
    };
    let lengths = paths.par_iter().map(read).collect::<Result<Vec<u64>, EngineError>>()?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Some(ReadThrough { bytes: lengths.iter().sum(), seconds, available_memory_bytes }))
}

fn read_file(path: &Path) -> io::Result<u64> {
    const PIECE: usize = 4 << 20;
    let mut file = std::fs::File::open(path)?;
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(total),
            length => total += length as u64,
        }
    }
}

/// The files on disk that a model's weights are read from; none where they are compiled in.
fn weight_files(source: &ModelSource) -> Vec<PathBuf> {
    let Some(files) = &source.files else {
        return Some(PathBuf::from(&source.source)).filter(|path| path.is_file()).into_iter().collect();
    };
    let of = |extension: &str| -> Vec<PathBuf> {
        let has = |path: &&Path| path.extension().is_some_and(|found| found == extension);
        files.paths().filter(has).map(Path::to_path_buf).collect()
    };
    let safetensors = of("safetensors");
    if safetensors.is_empty() { of("bin") } else { safetensors }
}
