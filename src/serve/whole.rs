//! An answer in one piece.

use super::answer::{Head, Logprobs, Part};
use super::fault::ApiError;
use super::logprobs::{TokenNames, TokenProbability, chat_logprobs, completion_logprobs};
use super::work::Ready;
use crate::engine::Completion;
use crate::openai::Api;

/// Computes all completions and writes them as one body.
pub(super) async fn answer(ready: &Ready, head: &Head) -> Result<Vec<u8>, ApiError> {
    let scored = ready.score_prompts().await?;
    let mut completions = ready.submit()?.wait().await?;
    let usage = ready.usage(&completions);
    let mut ends = Vec::with_capacity(completions.len());
    for completion in &mut completions {
        let end = ready.end(completion)?;
        let prompt_tokens = ready.prompt_of(completion.request).token_ids.len();
        ready.served.metrics.completed(prompt_tokens, completion, end.reason);
        ready.add_stop(completion, &end);
        if ready.asked.echo {
            completion.text.insert_str(0, &ready.prompt_of(completion.request).text);
        }
        ends.push(end);
    }
    let names = ready.names();
    let parts = completions.iter().zip(ends).map(|(completion, end)| {
        let index = completion.request;
        let ids = ready.asked.token_ids;
        Ok(Part {
            index,
            content: &completion.text,
            reasoning: completion.thought.as_ref().map_or("", |thought| &thought.text),
            has_role: true,
            logprobs: logprobs(ready, names.as_ref(), completion, &scored[ready.prompt_number(index)])?,
            finish: Some(end),
            token_ids: ids.then_some(completion.token_ids.as_slice()),
            prompt_token_ids: ids.then_some(ready.prompt_of(index).token_ids.as_slice()),
        })
    });
    let parts = parts.collect::<Result<Vec<_>, ApiError>>()?;
    Ok(head.whole(parts, usage))
}

/// Of a prompt's tokens, where it is echoed, and of a completion's.
fn logprobs(
    ready: &Ready,
    names: Option<&TokenNames>,
    completion: &Completion,
    prompt: &[TokenProbability],
) -> Result<Option<Logprobs>, ApiError> {
    let Some(names) = names else { return Ok(None) };
    let own = TokenProbability::all(&completion.details, &completion.top_tokens);
    let all = prompt.iter().cloned().chain(own);
    Ok(Some(match ready.asked.api {
        Api::Chat => Logprobs::Chat { content: chat_logprobs(names, all)? },
        Api::Completions => Logprobs::Completion(completion_logprobs(names, all, 0)?.0),
    }))
}
