//! A workload's requests at once.

use super::many::many;
use crate::jobs::JobError;
use crate::jobs::bench::part::{Opened, Part, PartEnd, Runner};
use crate::jobs::bench::{BenchPlan, DtypeBench, Workload};
use crate::jobs::requests::Purpose;

pub(in crate::jobs::bench) const NAME: &str = "workload";

/// `--only workload`.
#[derive(Debug)]
pub(super) struct OfWorkload;

impl Part for OfWorkload {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "all requests of a workload at once"
    }

    fn longest_request(&self, _: &BenchPlan, workload: &Workload) -> usize {
        let own = workload.requests.iter().map(|one| one.prompt_tokens.saturating_add(one.output_tokens)).max();
        own.unwrap_or(0).saturating_add(workload.shared_prefix_tokens)
    }

    fn too_long_hint(&self) -> &'static str {
        "give a `--workload` of shorter requests, or a smaller `--shared-prefix`"
    }

    fn warm_up_requests(&self) -> usize {
        32
    }

    fn run(&self, runner: &mut Runner, opened: &mut Opened, bench: &mut DtypeBench) -> Result<PartEnd, JobError> {
        let (workload, shared) = (runner.workload, runner.workload.shared_prefix_tokens);
        let requests = workload.requests.iter().enumerate().map(|(number, lengths)| {
            runner.asked((Purpose::Workload, number), shared, lengths.prompt_tokens, lengths.output_tokens)
        });
        let requests = requests.collect();
        many(runner, opened, requests, self.name(), &mut bench.workload)
    }
}
