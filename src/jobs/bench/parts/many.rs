//! Many requests at once, whatever their lengths.

use crate::jobs::JobError;
use crate::jobs::bench::ManyRun;
use crate::jobs::bench::part::{Opened, PartEnd, Runner};
use crate::jobs::bench::ran::Asked;

/// Runs requests together and puts their figures into `run`.
pub(super) fn many(
    runner: &mut Runner,
    opened: &mut Opened,
    requests: Vec<Asked>,
    part: &'static str,
    run: &mut Option<ManyRun>,
) -> Result<PartEnd, JobError> {
    let prompt_tokens = requests.iter().map(|asked| asked.prompt_tokens as u64).sum();
    let count = requests.len();
    let ran = runner.generate(opened, requests, Some(part))?;
    runner.ended();
    let Some(ran) = ran else { return Ok(PartEnd::Interrupted) };
    *run = Some(ManyRun {
        requests: count,
        prompt_tokens,
        output_tokens: ran.output_tokens,
        seconds: ran.seconds,
        output_tokens_per_second: ran.output_tokens as f64 / ran.seconds,
        failed: ran.failed,
    });
    Ok(PartEnd::Done)
}
