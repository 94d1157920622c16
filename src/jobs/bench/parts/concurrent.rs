//! Many requests of one length at once.

use super::many::many;
use crate::jobs::JobError;
use crate::jobs::bench::part::{Opened, Part, PartEnd, Runner};
use crate::jobs::bench::{BenchPlan, DtypeBench, Lengths, Workload};
use crate::jobs::requests::Purpose;

/// How many, and how long.
pub(in crate::jobs::bench) const CONCURRENT: Lengths = Lengths { requests: 500, prompt_tokens: 128, output_tokens: 64 };

/// `--only concurrent`.
#[derive(Debug)]
pub(super) struct Concurrent;

impl Part for Concurrent {
    fn name(&self) -> &'static str {
        "concurrent"
    }

    fn description(&self) -> &'static str {
        "500 requests of 128 prompt and 64 output tokens at once"
    }

    fn longest_request(&self, plan: &BenchPlan, _: &Workload) -> usize {
        plan.concurrent.prompt_tokens + plan.concurrent.output_tokens
    }

    fn warm_up_requests(&self) -> usize {
        32
    }

    fn run(&self, runner: &mut Runner, opened: &mut Opened, bench: &mut DtypeBench) -> Result<PartEnd, JobError> {
        let Lengths { requests, prompt_tokens, output_tokens } = runner.plan.concurrent;
        let asked = |number: usize| runner.asked((Purpose::Concurrent, number), 0, prompt_tokens, output_tokens);
        let requests = (0..requests).map(asked).collect();
        many(runner, opened, requests, self.name(), &mut bench.concurrent)
    }
}
