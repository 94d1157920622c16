//! The file that knows every stage: load → measure, precision by precision → record → report.

use super::measure::{End, measure};
use super::{BENCH_FORMAT, BenchPlan, BenchRecord, BenchRow, DtypeBench, WorkloadPlan, render_bench};
use super::{BenchEvent, BenchInputs, BenchJob};
use crate::engine::Dtype;
use crate::hub::Hub;
use crate::jobs::{JobContext, JobError, awq_plan, check_destination, model_plan};
use crate::record::{Machine, utc_now};

/// What surrounds a benchmark: who listens, who interrupts, where engines come from.
pub type BenchContext<'a> = JobContext<'a, BenchEvent>;

/// How a benchmark ended.
#[derive(Debug)]
pub struct BenchFinished {
    /// What was measured.
    pub record: BenchRecord,
    /// The report of it in the job's format.
    pub report: String,
    /// Precisions that did not finish, and why.
    pub failures: Vec<(Dtype, JobError)>,
}

/// Runs a job.
pub fn execute(job: &BenchJob, hub: &Hub, surroundings: &mut BenchContext) -> Result<BenchFinished, JobError> {
    check_destination(job.out.as_deref(), "bench.json")?;
    job.subject.check_device()?;
    evaluate(job, &BenchInputs::load(job, hub)?, surroundings)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(
    job: &BenchJob,
    inputs: &BenchInputs,
    surroundings: &mut BenchContext,
) -> Result<BenchFinished, JobError> {
    let started = utc_now();
    for note in &inputs.notes {
        (surroundings.tell)(BenchEvent::Note(note.clone()));
    }
    let (mut dtypes, mut failures, mut interrupted) = (Vec::new(), Vec::new(), false);
    for dtype in &inputs.dtypes {
        let (bench, end) = measure(job, inputs, *dtype, surroundings);
        dtypes.push(bench);
        match end {
            End::Complete => {}
            End::Interrupted => {
                (surroundings.tell)(BenchEvent::Ended);
                interrupted = true;
                break;
            }
            End::Failed(error) => {
                (surroundings.tell)(BenchEvent::Ended);
                (surroundings.tell)(BenchEvent::Failed { dtype: *dtype, message: error.to_string() });
                failures.push((*dtype, error));
            }
        }
    }
    let record = BenchRecord {
        bench_format: BENCH_FORMAT,
        evalsuite: env!("CARGO_PKG_VERSION").to_owned(),
        command: job.command.clone(),
        started,
        finished: utc_now(),
        machine: Machine::detect(),
        threads: rayon::current_num_threads(),
        model: model_plan(&inputs.model),
        awq: awq_plan(inputs.awq.as_ref(), &inputs.dtypes),
        engine: job.subject.engine.name().to_owned(),
        device: job.subject.device,
        batch: job.subject.batch,
        plan: inputs.plan.clone(),
        interrupted,
        complete: !interrupted && failures.is_empty(),
        notes: inputs.notes.clone(),
        rows: dtypes.iter().filter_map(|dtype| row(dtype, &inputs.plan)).collect(),
        dtypes,
        peers: inputs.peers.clone(),
    };
    let report = render_bench(&record, &job.format)?;
    Ok(BenchFinished { record, report, failures })
}

/// A precision's medians, with the engine's name; `None` where no engine was ever ready.
fn row(bench: &DtypeBench, plan: &BenchPlan) -> Option<BenchRow> {
    let engine = bench.engine.as_ref()?;
    let WorkloadPlan { name, requests, taken, .. } = &plan.workload;
    let note = bench.workload.map(|_| match plan.shared_prefix_tokens {
        0 => format!("workload {name}, {taken} of {requests} requests"),
        shared => format!("workload {name}, {taken} of {requests} requests, {shared} tokens shared by all prompts"),
    });
    Some(bench.row(&format!("evalsuite {} {}", engine.name, engine.version), note))
}
