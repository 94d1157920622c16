//! The file that knows every stage: load → choose → read as they are → put back one at a time → put back together → report.

use super::map::Map;
use super::summary::{answers, counted, layers};
use super::together::put_back_together;
use super::work::Work;
use super::{BLAME_FORMAT, BlameInputs, BlameJob, BlameRecord, render_blame};
use crate::engine::Devices;
use crate::hub::Hub;
use crate::jobs::{Event, JobContext, JobError, check_destination};
use crate::record::{Invocation, Machine, utc_now};

/// How a search ended.
#[derive(Debug)]
pub struct BlameFinished {
    /// What was found; `complete` is false where the user broke off.
    pub record: BlameRecord,
    /// The report of it in the job's format; `None` where nothing was read.
    pub report: Option<String>,
}

/// Runs a job.
pub fn execute(job: &BlameJob, hub: &Hub, context: &mut JobContext) -> Result<BlameFinished, JobError> {
    check_destination(job.out.as_deref(), "blame.json")?;
    job.target.check_devices()?;
    evaluate(job, &BlameInputs::load(job, hub)?, context)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(job: &BlameJob, inputs: &BlameInputs, context: &mut JobContext) -> Result<BlameFinished, JobError> {
    let invocation = Invocation::now(&job.command);
    let mut notes = inputs.notes.clone();
    notes.extend(one_of_several(&job.target.devices));
    for note in &notes {
        (context.emit)(Event::Note(note.clone()));
    }
    let mut work = Work::open(job, inputs, context)?;
    let map = Map::measure(&mut work)?;
    let (together, kept) = if map.is_whole() { put_back_together(&mut work, &map)? } else { (Vec::new(), None) };
    let complete = map.is_whole() && !work.is_interrupted();
    work.ended();
    let (seconds, engine) = (work.seconds(), work.variant.info().clone());
    if let Some(note) = not_counted(&map, inputs) {
        (context.emit)(Event::Note(note.clone()));
        notes.push(note);
    }
    let record = BlameRecord {
        blame_format: BLAME_FORMAT,
        invocation,
        finished: utc_now(),
        machine: Machine::detect(),
        threads: rayon::current_num_threads(),
        target: inputs.plan.clone(),
        model_argument: job.target.model.source.clone(),
        run: inputs.run.clone(),
        reference: inputs.reference.name.clone(),
        variant: inputs.variant.name.clone(),
        group_size: inputs.rounded.quantization.as_ref().and_then(|found| found.group_size),
        engine,
        seconds,
        complete,
        notes,
        answers: answers(&map, inputs),
        layers: layers(&map, inputs),
        together,
        kept,
    };
    let report = (!record.answers.is_empty()).then(|| render_blame(&record, &job.format)).transpose()?;
    Ok(BlameFinished { record, report })
}

/// Layers are put back in one engine: of several devices the first runs it.
fn one_of_several(devices: &Devices) -> Option<String> {
    let first = devices.first();
    (first != *devices).then(|| format!("blame runs on one device: GPU {first} of {devices}"))
}

/// Says how many answers do not count, for the engine reads them otherwise than the one that wrote them.
fn not_counted(map: &Map, inputs: &BlameInputs) -> Option<String> {
    let read = map.baseline.truth.len();
    let left = read - counted(map, &inputs.answers).len();
    (left > 0).then(|| {
        format!(
            "{left} of {read} answers do not count: read again, {} or {} has another most probable token there than in the run; another \
             engine, or another version of it, wrote them",
            inputs.reference.name, inputs.variant.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_devices_it_takes_the_first_and_says_so() {
        let told = |numbers: &[usize]| one_of_several(&Devices::new(numbers.to_vec()).unwrap());
        assert_eq!(told(&[2, 0]).unwrap(), "blame runs on one device: GPU 2 of 2,0");
        assert_eq!((told(&[1]), Devices::new(vec![3, 1]).unwrap().first().numbers()), (None, &[3][..]));
    }
}
