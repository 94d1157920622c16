//! Loading: constructor to ready, and to the first token, several times.

use std::io::{self, Read as _};
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;

use super::BenchEvent;
use super::inputs::weight_files;
use super::job::SINGLE;
use super::measure::{Lane, Part};
use super::prompts::Purpose;
use super::{BenchPart, DtypeBench, LoadRun, ReadThrough};
use crate::engine::model::ModelSource;
use crate::engine::{Engine, EngineError};
use crate::fault::IoFault;
use crate::jobs::JobError;
use crate::system::available_memory_bytes;

impl Lane<'_, '_> {
    /// Opens the engine as often as the job says and keeps the last one.
    pub(super) fn load(&mut self, bench: &mut DtypeBench) -> Result<Part<Box<dyn Engine>>, JobError> {
        let source = self.inputs.model_in(self.dtype);
        bench.read_through = read_through(source)?;
        let options = self.job.subject.open_options(self.dtype);
        let repetitions = if self.job.has(BenchPart::Load) { self.job.repeats } else { 1 };
        let mut kept: Option<Box<dyn Engine>> = None;
        for number in 0..repetitions {
            // What the one before holds must be free before the next begins.
            drop(kept.take());
            (self.surroundings.tell)(BenchEvent::Loading { dtype: self.dtype, repetition: number + 1, repetitions });
            let prompt = self.inputs.prompts().prompt(Purpose::Load, number, &[], SINGLE.prompt_tokens);
            let begun = Instant::now();
            let mut engine = (self.surroundings.open_engine)(source, &options)?;
            let seconds = begun.elapsed().as_secs_f64();
            let submitted = begun.elapsed().as_secs_f64();
            let Some(ran) = self.generate(engine.as_mut(), vec![(prompt, 1)], None)? else {
                return Ok(Part::Interrupted);
            };
            let first_token =
                ran.timings.iter().map(|times| times.queued_seconds + times.first_token_seconds).sum::<f64>();
            let run = LoadRun { seconds, engine: engine.info().load, first_token_seconds: submitted + first_token };
            bench.loads.push(run);
            bench.engine = Some(engine.info().clone());
            (self.surroundings.tell)(BenchEvent::Loaded(engine.info().clone(), run));
            kept = Some(engine);
        }
        kept.map(Part::Done)
            .ok_or_else(|| JobError::invalid("--repeats 0 asks for nothing", "give --repeats 1 or more"))
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
