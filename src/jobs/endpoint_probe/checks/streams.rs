//! What a chunk of a stream is.

use super::super::answer::Answer;
use super::super::ask::Asker;
use super::super::check::{Check, Found, Unasked};
use super::super::prompts::MAIN;
use crate::openai::GenerationRequest;

pub(super) const CHUNKS: Check = Check { name: "chunks", asks: "is a chunk of a stream one token?", run: chunks };
pub(super) const FIRST: Check =
    Check { name: "first-chunk", asks: "does the first chunk hold the first token?", run: first };

const TOKENS: usize = 48;

fn streamed(asker: &mut Asker) -> Result<Answer, Unasked> {
    let request =
        GenerationRequest { stream: true, continuous_usage: true, exact_length: true, ..asker.greedy(MAIN, TOKENS) };
    let answer = asker.ask(&request)?;
    if answer.chunks.is_empty() {
        return Err(Unasked::because("the answer came whole, though a stream was asked for"));
    }
    Ok(answer)
}

fn chunks(asker: &mut Asker) -> Result<Found, Unasked> {
    let answer = streamed(asker)?;
    let tokens = answer.tokens().ok_or_else(|| Unasked::because("the server tells neither ids nor usage"))?;
    let told: Option<Vec<usize>> = answer.chunks.iter().map(|(_, tokens)| *tokens).collect();
    let most = told.map(|told| {
        told.iter()
            .zip(std::iter::once(&0).chain(&told))
            .map(|(now, before)| now.saturating_sub(*before))
            .max()
            .unwrap_or(0)
    });
    let count = answer.chunks.len();
    let seen = format!(
        "{tokens} tokens in {count} chunks{}",
        most.map(|most| format!(", at most {most} in one")).unwrap_or_default()
    );
    // The end of sequence is a token without text.
    Ok(if tokens.abs_diff(count) <= 1 && most.is_none_or(|most| most <= 1) {
        Found::holds(seen, "times between chunks are times between tokens")
    } else {
        Found::notable(seen, "times between chunks are not times between tokens: count tokens, as evalsuite load does")
    })
}

/// From here on two times are not one.
const APART_SECONDS: f64 = 2e-3;

fn first(asker: &mut Asker) -> Result<Found, Unasked> {
    let answer = streamed(asker)?;
    let (Some(event), Some(token)) = (answer.first_event_seconds, answer.first_token_seconds) else {
        return Err(Unasked::because("the stream tells no times"));
    };
    let seen = format!("first event after {:.1} ms, first token after {:.1} ms", event * 1e3, token * 1e3);
    Ok(if token - event <= APART_SECONDS {
        Found::holds(seen, "time to first token is the same however a client takes it")
    } else {
        Found::notable(seen, "clients that take the first event for the first token see a time that is too short")
    })
}
