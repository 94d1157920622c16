//! One request alone: time to first token, and tokens a second after it.

use super::job::SINGLE;
use super::measure::{Lane, Part};
use super::prompts::Purpose;
use super::{BenchPart, DtypeBench, SingleRun};
use crate::engine::{Engine, Timings};
use crate::jobs::JobError;

impl Lane<'_, '_> {
    /// As often as the job says, each time with another prompt.
    pub(super) fn single(&mut self, engine: &mut dyn Engine, bench: &mut DtypeBench) -> Result<Part<()>, JobError> {
        for number in 0..self.job.repeats {
            let prompt = self.inputs.prompts().prompt(Purpose::Single, number, &[], SINGLE.prompt_tokens);
            let requests = vec![(prompt, SINGLE.output_tokens)];
            let Some(ran) = self.generate(engine, requests, Some(BenchPart::Single))? else {
                return Ok(Part::Interrupted);
            };
            bench.singles.extend(ran.timings.iter().map(|timings| run(timings, SINGLE.output_tokens, ran.seconds)));
        }
        (self.surroundings.tell)(super::BenchEvent::Ended);
        Ok(Part::Done(()))
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
