//! One request alone: time to first token, and tokens a second after it.

use crate::engine::{Engine, Timings};
use crate::jobs::JobError;
use crate::jobs::bench::part::{Part, PartEnd, Runner};
use crate::jobs::bench::prompts::Purpose;
use crate::jobs::bench::{BenchPlan, DtypeBench, Lengths, SingleRun, Workload};

/// 128 tokens after the first.
pub(in crate::jobs::bench) const SINGLE: Lengths = Lengths { requests: 1, prompt_tokens: 128, output_tokens: 129 };

/// `--only single`.
#[derive(Debug)]
pub(super) struct Single;

impl Part for Single {
    fn name(&self) -> &'static str {
        "single"
    }

    fn description(&self) -> &'static str {
        "one request of 128 prompt and 129 output tokens alone, --repeats times"
    }

    fn longest_request(&self, plan: &BenchPlan, _: &Workload) -> usize {
        plan.single.prompt_tokens + plan.single.output_tokens
    }

    fn warm_up_requests(&self) -> usize {
        1
    }

    /// As often as the job says, each time with another prompt.
    fn run(&self, runner: &mut Runner, engine: &mut dyn Engine, bench: &mut DtypeBench) -> Result<PartEnd, JobError> {
        for number in 0..runner.job.repeats {
            let prompt = runner.prompts.prompt(Purpose::Single, number, &[], SINGLE.prompt_tokens);
            let requests = vec![(prompt, SINGLE.output_tokens)];
            let Some(ran) = runner.generate(engine, requests, Some(self.name()))? else {
                return Ok(PartEnd::Interrupted);
            };
            bench.singles.extend(ran.timings.iter().map(|timings| run(timings, SINGLE.output_tokens, ran.seconds)));
        }
        runner.ended();
        Ok(PartEnd::Done)
    }
}

fn run(timings: &Timings, output_tokens: usize, wall_seconds: f64) -> SingleRun {
    let first_token_seconds = timings.queued_seconds + timings.first_token_seconds;
    let latency_seconds = timings.queued_seconds + timings.total_seconds;
    let decoding = latency_seconds - first_token_seconds;
    SingleRun {
        first_token_seconds,
        latency_seconds,
        wall_seconds,
        output_tokens,
        decode_tokens_per_second: (decoding > 0.0).then(|| output_tokens.saturating_sub(1) as f64 / decoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_counts_neither_the_queue_nor_the_first_token() {
        let timings = Timings { queued_seconds: 0.25, first_token_seconds: 0.5, total_seconds: 2.5 };
        let run = run(&timings, 129, 3.0);
        assert_eq!((run.first_token_seconds, run.latency_seconds), (0.75, 2.75));
        assert_eq!(run.decode_tokens_per_second, Some(64.0));
        let at_once = super::run(&Timings::default(), 1, 0.0);
        assert_eq!(at_once.decode_tokens_per_second, None);
    }
}
