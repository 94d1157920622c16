//! The file that knows every stage: load → measure, variant by variant → record → report.

use super::measure::measure;
use super::{BENCH_FORMAT, BenchPlan, BenchRecord, BenchRow, DtypeBench, WorkloadPlan, render_bench};
use super::{BenchInputs, BenchJob};
use crate::hub::Hub;
use crate::jobs::each::each_variant;
use crate::jobs::{Event, Failures, JobContext, JobError, check_destination};
use crate::record::{Invocation, Machine, utc_now};

/// How a benchmark ended.
#[derive(Debug)]
pub struct BenchFinished {
    /// What was measured.
    pub record: BenchRecord,
    /// The report of it in the job's format.
    pub report: String,
    /// Variants that did not finish, and why.
    pub failures: Failures,
}

/// Runs a job.
pub fn execute(job: &BenchJob, hub: &Hub, context: &mut JobContext) -> Result<BenchFinished, JobError> {
    check_destination(job.out.as_deref(), "bench.json")?;
    job.target.check_device()?;
    evaluate(job, &BenchInputs::load(job, hub)?, context)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(job: &BenchJob, inputs: &BenchInputs, context: &mut JobContext) -> Result<BenchFinished, JobError> {
    let invocation = Invocation::now(&job.command);
    for note in &inputs.notes {
        (context.emit)(Event::Note(note.clone()));
    }
    let mut dtypes = Vec::new();
    let (interrupted, failures) = each_variant(&inputs.variants, context, |variant, context| {
        let (bench, end) = measure(job, inputs, variant, context);
        dtypes.push(bench);
        Ok(end)
    })?;
    let record = BenchRecord {
        bench_format: BENCH_FORMAT,
        invocation,
        finished: utc_now(),
        machine: Machine::detect(),
        threads: rayon::current_num_threads(),
        target: inputs.variants.plan.clone(),
        engine: job.target.engine.name().to_owned(),
        device: job.target.device,
        batch: job.target.batch,
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

/// A variant's medians, with the engine's name; `None` where no engine was ever ready.
fn row(bench: &DtypeBench, plan: &BenchPlan) -> Option<BenchRow> {
    let engine = bench.engine.as_ref()?;
    let WorkloadPlan { name, requests, taken, .. } = &plan.workload;
    let note = bench.workload.map(|_| match plan.shared_prefix_tokens {
        0 => format!("workload {name}, {taken} of {requests} requests"),
        shared => format!("workload {name}, {taken} of {requests} requests, {shared} tokens shared by all prompts"),
    });
    Some(bench.row(&format!("evalsuite {} {}", engine.name, engine.version), note))
}
