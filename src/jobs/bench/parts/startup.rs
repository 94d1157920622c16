//! A start with nothing at hand, beside starts with everything at hand.

use crate::jobs::JobError;
use crate::jobs::bench::part::{Opened, Part, PartEnd, Runner};
use crate::jobs::bench::{BenchJob, BenchPlan, DtypeBench, Workload};

/// `--only startup`. As [`super::load`], but for a first opening of weights that are not in the page cache.
#[derive(Debug)]
pub(super) struct Startup;

impl Part for Startup {
    fn name(&self) -> &'static str {
        "startup"
    }

    fn description(&self) -> &'static str {
        "opens the engine with its weights on the disk alone, then --repeats times with them in the page cache"
    }

    fn is_default(&self) -> bool {
        false
    }

    fn longest_request(&self, plan: &BenchPlan, _: &Workload) -> usize {
        plan.single.prompt_tokens + 1
    }

    fn openings(&self, job: &BenchJob) -> usize {
        job.repeats
    }

    fn begins_cold(&self) -> bool {
        true
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
