//! The file that knows every stage: load → measure, variant by variant → record → report.

use super::measure::{Measured, measure};
use super::{BENCH_FORMAT, BenchPlan, BenchRecord, BenchRow, DtypeBench, WorkloadPlan, render_bench};
use super::{BenchInputs, BenchJob};
use crate::hub::Hub;
use crate::jobs::each::each_variant;
use crate::jobs::{Event, Failures, JobContext, JobError, check_destination};
use crate::openai::ENDPOINT;
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
    /// Requests that servers did not answer, of whatever part.
    pub failed_requests: usize,
}

/// Runs a job.
pub fn execute(job: &BenchJob, hub: &Hub, context: &mut JobContext) -> Result<BenchFinished, JobError> {
    check_destination(job.out.as_deref(), "bench.json")?;
    job.target.check_devices()?;
    evaluate(job, &BenchInputs::load(job, hub)?, context)
}

/// Runs a job on inputs that are loaded.
pub fn evaluate(job: &BenchJob, inputs: &BenchInputs, context: &mut JobContext) -> Result<BenchFinished, JobError> {
    let invocation = Invocation::now(&job.command);
    for note in &inputs.notes {
        (context.emit)(Event::Note(note.clone()));
    }
    let (mut dtypes, mut failed_requests) = (Vec::new(), 0);
    let (mut target, mut plan) = (inputs.variants.plan()?, inputs.plan.clone());
    let mut notes = inputs.notes.clone();
    let (interrupted, failures) = each_variant(&inputs.variants, context, |variant, context| {
        let measured = measure(job, inputs, variant, context);
        let Measured { bench, end, notes: said, failed_requests: failed, prompts } = measured;
        if target.set_prompts_sent_as(&variant.name, prompts.sent_as()) {
            plan.prompts = prompts.in_words();
        }
        failed_requests += failed;
        notes.extend(said);
        dtypes.push(bench);
        Ok(end)
    })?;
    let record = BenchRecord {
        bench_format: BENCH_FORMAT,
        invocation,
        finished: utc_now(),
        machine: Machine::detect(),
        threads: rayon::current_num_threads(),
        target,
        engine: job.target.engine.name().to_owned(),
        device: job.target.devices.clone(),
        batch: job.target.batch,
        plan,
        interrupted,
        complete: !interrupted && failures.is_empty(),
        notes,
        rows: dtypes.iter().filter_map(|dtype| row(dtype, &inputs.plan)).collect(),
        dtypes,
        peers: inputs.peers.clone(),
    };
    let report = render_bench(&record, &job.format)?;
    Ok(BenchFinished { record, report, failures, failed_requests })
}

/// A variant's medians, with the engine's name; `None` where no engine was ever ready.
fn row(bench: &DtypeBench, plan: &BenchPlan) -> Option<BenchRow> {
    let engine = bench.engine.as_ref()?;
    let WorkloadPlan { name, requests, taken, .. } = &plan.workload;
    let note = bench.workload.map(|_| match plan.shared_prefix_tokens {
        0 => format!("workload {name}, {taken} of {requests} requests"),
        shared => format!("workload {name}, {taken} of {requests} requests, {shared} tokens shared by all prompts"),
    });
    // Of a server its own software is what was measured.
    let name = if engine.name == ENDPOINT {
        engine.version.clone()
    } else {
        format!("evalsuite {} {}", engine.name, engine.version)
    };
    Some(bench.row(&name, note))
}
