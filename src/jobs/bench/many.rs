//! Many requests at once: of one length, and a workload's.

use std::sync::Arc;

use super::measure::{Lane, Part};
use super::prompts::Purpose;
use super::{BenchPart, Lengths, ManyRun};
use crate::engine::{Engine, Prompt};
use crate::jobs::JobError;

impl Lane<'_, '_> {
    /// Requests of one length.
    pub(super) fn concurrent(&mut self, engine: &mut dyn Engine) -> Result<Part<ManyRun>, JobError> {
        let Lengths { requests, prompt_tokens, output_tokens } = self.inputs.plan.concurrent;
        let prompts = self.inputs.prompts();
        let prompt = |number: usize| prompts.prompt(Purpose::Concurrent, number, &[], prompt_tokens);
        self.many(engine, (0..requests).map(|number| (prompt(number), output_tokens)).collect(), BenchPart::Concurrent)
    }

    /// The workload's requests.
    pub(super) fn workload(&mut self, engine: &mut dyn Engine) -> Result<Part<ManyRun>, JobError> {
        let (workload, prompts) = (&self.inputs.workload, self.inputs.prompts());
        let prefix = prompts.shared_prefix(workload.shared_prefix_tokens);
        let requests = workload.requests.iter().enumerate().map(|(number, lengths)| {
            (prompts.prompt(Purpose::Workload, number, &prefix, lengths.prompt_tokens), lengths.output_tokens)
        });
        self.many(engine, requests.collect(), BenchPart::Workload)
    }

    fn many(
        &mut self,
        engine: &mut dyn Engine,
        requests: Vec<(Arc<Prompt>, usize)>,
        part: BenchPart,
    ) -> Result<Part<ManyRun>, JobError> {
        let prompt_tokens = requests.iter().map(|(prompt, _)| prompt.token_ids.len() as u64).sum();
        let output_tokens: u64 = requests.iter().map(|(_, tokens)| *tokens as u64).sum();
        let count = requests.len();
        let ran = self.generate(engine, requests, Some(part))?;
        (self.surroundings.tell)(super::BenchEvent::Ended);
        let Some(ran) = ran else { return Ok(Part::Interrupted) };
        Ok(Part::Done(ManyRun {
            requests: count,
            prompt_tokens,
            output_tokens,
            seconds: ran.seconds,
            output_tokens_per_second: output_tokens as f64 / ran.seconds,
        }))
    }
}
