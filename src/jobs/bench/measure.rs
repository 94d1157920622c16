//! One variant through all parts: what fails keeps what was measured before.

use super::parts::{chosen, open};
use super::servers::{Servers, Troubles};
use super::{BenchInputs, BenchJob, DtypeBench, Opened, Part, PartEnd, Runner};
use crate::jobs::each::End;
use crate::jobs::requests::RandomPrompts;
use crate::jobs::{Endpoint, Event, JobContext, JobError, Model, Variant};
use crate::record::{peak_memory, reset_peak_memory};

/// Requests of one round of warm-up, in the order in which they run; each part wants so much of it, or nothing.
const WARM_UP_ROUNDS: [usize; 2] = [1, 32];

/// A variant's measurements.
pub(super) struct Measured {
    pub(super) bench: DtypeBench,
    pub(super) end: End,
    /// What the user has to know of them.
    pub(super) notes: Vec<String>,
    /// Requests that a server did not answer.
    pub(super) failed_requests: usize,
    /// The prompts, as they were really sent.
    pub(super) prompts: RandomPrompts,
}

/// Measures a variant.
pub(super) fn measure(job: &BenchJob, inputs: &BenchInputs, variant: &Variant, context: &mut JobContext) -> Measured {
    let scope = reset_peak_memory();
    let mut bench = DtypeBench::new(variant.name.clone());
    let BenchInputs { plan, workload, .. } = inputs;
    let prompts = RandomPrompts::of(plan.seed, &variant.model);
    let (notes, troubles) = (Vec::new(), Troubles::default());
    let mut runner = Runner { job, plan, workload, prompts, variant, context: &mut *context, notes, troubles };
    let ended = run(&mut runner, &mut bench);
    let Runner { prompts, mut notes, troubles, .. } = runner;
    // What this program needs is not what a server does.
    bench.peak_memory = variant.model.files().and_then(|_| peak_memory(scope));
    let end = match ended {
        Ok(PartEnd::Done) => End::Complete,
        Ok(PartEnd::Interrupted) => End::Interrupted,
        Err(error) => {
            bench.failure = Some(error.to_string());
            End::Failed(error)
        }
    };
    if !matches!(end, End::Complete) {
        (context.emit)(Event::Ended(variant.name.clone()));
    }
    let failed_requests = troubles.failed();
    notes.extend(troubles.into_notes(variant.name.as_str()));
    Measured { bench, end, notes, failed_requests, prompts }
}

fn run(runner: &mut Runner, bench: &mut DtypeBench) -> Result<PartEnd, JobError> {
    let mut parts = chosen(&runner.job.parts);
    if let Model::Endpoint(endpoint) = &runner.variant.model {
        parts.retain(|part| part.runs_on_endpoints());
        let mut opened = open_servers(runner, endpoint, bench)?;
        return run_parts(&parts, runner, &mut opened, bench);
    }
    let openings = parts.iter().map(|part| part.openings(runner.job)).max().unwrap_or(1);
    let begins_cold = parts.iter().any(|part| part.begins_cold());
    let Some(mut opened) = open(runner, openings, begins_cold, bench)? else { return Ok(PartEnd::Interrupted) };
    run_parts(&parts, runner, &mut opened, bench)
}

fn open_servers(runner: &mut Runner, endpoint: &Endpoint, bench: &mut DtypeBench) -> Result<Opened, JobError> {
    let (variant, engine) = (runner.variant.name.clone(), endpoint.info());
    (runner.context.emit)(Event::Loading { variant: variant.clone(), repetition: 1, repetitions: 1 });
    let (servers, notes) = Servers::open(endpoint, &mut runner.prompts)?;
    for note in notes {
        (runner.context.emit)(Event::Note(note.clone()));
        runner.notes.push(format!("{variant}: {note}"));
    }
    bench.engine = Some(engine.clone());
    (runner.context.emit)(Event::Loaded { variant, engine, first_token: None });
    Ok(Opened::Servers(servers))
}

fn run_parts(
    parts: &[&dyn Part],
    runner: &mut Runner,
    opened: &mut Opened,
    bench: &mut DtypeBench,
) -> Result<PartEnd, JobError> {
    let mut warm = 0;
    for part in parts {
        for round in WARM_UP_ROUNDS.into_iter().filter(|round| *round <= part.warm_up_requests()) {
            if round > warm && runner.warm_up(opened, round)?.is_none() {
                return Ok(PartEnd::Interrupted);
            }
            warm = warm.max(round);
        }
        if part.run(runner, opened, bench)? == PartEnd::Interrupted {
            return Ok(PartEnd::Interrupted);
        }
    }
    Ok(PartEnd::Done)
}
