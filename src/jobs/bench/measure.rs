//! One variant through all parts: what fails keeps what was measured before.

use super::parts::{chosen, open};
use super::{BenchInputs, BenchJob, DtypeBench, PartEnd, Runner};
use crate::jobs::each::End;
use crate::jobs::{Event, JobContext, JobError, Variant};
use crate::record::{peak_memory, reset_peak_memory};

/// Requests of one round of warm-up, in the order in which they run; each part wants so much of it, or nothing.
const WARM_UP_ROUNDS: [usize; 2] = [1, 32];

/// Measures a variant; what was measured of it, and how it ended.
pub(super) fn measure(
    job: &BenchJob,
    inputs: &BenchInputs,
    variant: &Variant,
    context: &mut JobContext,
) -> (DtypeBench, End) {
    let scope = reset_peak_memory();
    let mut bench = DtypeBench::new(variant.name.clone());
    let BenchInputs { plan, workload, .. } = inputs;
    let mut runner = Runner { job, plan, workload, prompts: inputs.prompts(), variant, context: &mut *context };
    let ended = run(&mut runner, &mut bench);
    bench.peak_memory = peak_memory(scope);
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
    (bench, end)
}

fn run(runner: &mut Runner, bench: &mut DtypeBench) -> Result<PartEnd, JobError> {
    let parts = chosen(&runner.job.parts);
    let openings = parts.iter().map(|part| part.openings(runner.job)).max().unwrap_or(1);
    let begins_cold = parts.iter().any(|part| part.begins_cold());
    let Some(mut engine) = open(runner, openings, begins_cold, bench)? else { return Ok(PartEnd::Interrupted) };
    let engine = engine.as_mut();
    let mut warm = 0;
    for part in parts {
        for round in WARM_UP_ROUNDS.into_iter().filter(|round| *round <= part.warm_up_requests()) {
            if round > warm && runner.warm_up(engine, round)?.is_none() {
                return Ok(PartEnd::Interrupted);
            }
            warm = warm.max(round);
        }
        if part.run(runner, engine, bench)? == PartEnd::Interrupted {
            return Ok(PartEnd::Interrupted);
        }
    }
    Ok(PartEnd::Done)
}
