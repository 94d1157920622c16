//! One request alone: time to first token, and tokens a second after it.

use crate::jobs::JobError;
use crate::jobs::bench::part::{Opened, Part, PartEnd, Runner};
use crate::jobs::bench::ran::Times;
use crate::jobs::bench::{BenchPlan, DtypeBench, Lengths, SingleRun, Workload};
use crate::jobs::requests::Purpose;

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
    fn run(&self, runner: &mut Runner, opened: &mut Opened, bench: &mut DtypeBench) -> Result<PartEnd, JobError> {
        for number in 0..runner.job.repeats {
            let asked = runner.asked((Purpose::Single, number), 0, SINGLE.prompt_tokens, SINGLE.output_tokens);
            let Some(ran) = runner.generate(opened, vec![asked], Some(self.name()))? else {
                return Ok(PartEnd::Interrupted);
            };
            bench.singles.extend(ran.times.iter().map(|times| run(*times, ran.seconds)));
        }
        runner.ended();
        Ok(PartEnd::Done)
    }
}

fn run(times: Times, wall_seconds: f64) -> SingleRun {
    let Times { first_token_seconds, latency_seconds, output_tokens } = times;
    let decoding = first_token_seconds.map(|first| latency_seconds - first).filter(|decoding| *decoding > 0.0);
    SingleRun {
        first_token_seconds,
        latency_seconds,
        wall_seconds,
        output_tokens,
        decode_tokens_per_second: decoding.map(|decoding| output_tokens.saturating_sub(1) as f64 / decoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_does_not_count_the_first_token() {
        let times = |first: Option<f64>, latency: f64, output_tokens: usize| Times {
            first_token_seconds: first,
            latency_seconds: latency,
            output_tokens,
        };
        let run = run(times(Some(0.75), 2.75, 129), 3.0);
        assert_eq!((run.first_token_seconds, run.latency_seconds, run.wall_seconds), (Some(0.75), 2.75, 3.0));
        assert_eq!(run.decode_tokens_per_second, Some(64.0));
        assert_eq!(super::run(times(Some(0.0), 0.0, 1), 0.0).decode_tokens_per_second, None);
        // A whole answer does not tell when its first token came.
        assert_eq!(super::run(times(None, 2.0, 129), 3.0).decode_tokens_per_second, None);
    }
}
