//! Many requests at once, whatever their lengths.

use std::sync::Arc;

use crate::engine::{Engine, Prompt};
use crate::jobs::JobError;
use crate::jobs::bench::ManyRun;
use crate::jobs::bench::part::{PartEnd, Runner};

/// Runs requests of (prompt, tokens to generate) together and puts their figures into `run`.
pub(super) fn many(
    runner: &mut Runner,
    engine: &mut dyn Engine,
    requests: Vec<(Arc<Prompt>, usize)>,
    part: &'static str,
    run: &mut Option<ManyRun>,
) -> Result<PartEnd, JobError> {
    let prompt_tokens = requests.iter().map(|(prompt, _)| prompt.token_ids.len() as u64).sum();
    let output_tokens: u64 = requests.iter().map(|(_, tokens)| *tokens as u64).sum();
    let count = requests.len();
    let ran = runner.generate(engine, requests, Some(part))?;
    runner.ended();
    let Some(ran) = ran else { return Ok(PartEnd::Interrupted) };
    *run = Some(ManyRun {
        requests: count,
        prompt_tokens,
        output_tokens,
        seconds: ran.seconds,
        output_tokens_per_second: output_tokens as f64 / ran.seconds,
    });
    Ok(PartEnd::Done)
}
