//! The work that the engines' benchmarks share.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use evalsuite::engine::{Engine, GenerateOptions, Prompt, Request, Work};

pub(crate) const PROMPT_TOKENS: usize = 32;
pub(crate) const BATCHES: [usize; 2] = [1, 8];

/// Output tokens a second of `batch` requests at once, reading the prompts included.
pub(crate) fn tokens_per_second(engine: &mut dyn Engine, batch: usize, output_tokens: usize) -> anyhow::Result<f64> {
    let options = GenerateOptions { max_tokens: output_tokens, ignore_eos: true, ..GenerateOptions::default() };
    let request = |id: usize| {
        let token_ids = (0..PROMPT_TOKENS).map(|i| (1000 + 37 * i + 101 * id) as u32).collect();
        let prompt = Arc::new(Prompt { text: String::new(), token_ids });
        Request { id, prompt, work: Work::Generate(options.clone()) }
    };
    let begin = Instant::now();
    engine.run((0..batch).map(request).collect(), &mut |_| ControlFlow::Continue(()))?;
    Ok((batch * output_tokens) as f64 / begin.elapsed().as_secs_f64())
}
