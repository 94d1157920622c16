//! Whether tokens are counted right.

use super::super::answer::Answer;
use super::super::ask::Asker;
use super::super::check::{Check, Found, Unasked};
use super::super::prompts::OPENINGS;
use crate::openai::GenerationRequest;

pub(super) const COUNTS: Check =
    Check { name: "usage", asks: "are prompt and answer counted right, streamed and not?", run: counts };
pub(super) const IN_STREAMS: Check =
    Check { name: "usage-in-streams", asks: "do streams tell usage, at the end and as they go?", run: in_streams };

const TOKENS: usize = 24;

fn counts(asker: &mut Asker) -> Result<Found, Unasked> {
    let whole = asker.greedy(OPENINGS[0], TOKENS);
    let streamed = GenerationRequest { stream: true, ..whole.clone() };
    let (whole, streamed) = (asker.ask(&whole)?, asker.ask(&streamed)?);
    let mut wrong = Vec::new();
    let mut held = 0;
    for (how, answer) in [("whole", &whole), ("streamed", &streamed)] {
        let (Some(prompt), Some(output)) = (answer.prompt_tokens, answer.output_tokens) else {
            wrong.push(format!("{how}: no usage"));
            continue;
        };
        let pairs =
            [("prompt", prompt, prompt_tokens(asker, answer)), ("answer", output, output_tokens(asker, answer))];
        for (what, told, (most, least)) in
            pairs.into_iter().filter_map(|(what, told, known)| Some((what, told, known?)))
        {
            held += 1;
            if told > most || told < least {
                wrong.push(format!("{how}: {told} tokens of the {what} are told, {most} counted"));
            }
        }
    }
    if wrong.iter().all(|one| one.ends_with("no usage")) && !wrong.is_empty() {
        return Ok(Found::notable(
            wrong.join("; "),
            "tokens are counted by ids or the tokenizer; without either tokens/s stay unknown",
        ));
    }
    if !wrong.is_empty() {
        return Ok(Found::harms(wrong.join("; "), "tokens/s, lengths and costs are wrong by that; scores are not"));
    }
    if held == 0 {
        return Err(Unasked::because("nothing to hold usage against: the server tells no ids; give --tokenizer"));
    }
    Ok(Found::holds(
        format!("{held} counts are right, such as {} tokens of an answer", whole.output_tokens.unwrap_or(0)),
        "tokens/s and lengths can be taken from usage",
    ))
}

/// (most, least) that may be told. Ids may or may not hold the end of sequence, and so may usage.
fn output_tokens(asker: &Asker, answer: &Answer) -> Option<(usize, usize)> {
    let counted = if answer.token_ids.is_empty() {
        let text = [answer.reasoning.as_str(), answer.text.as_str()].concat();
        asker.tokenizer.as_ref()?.encode(&text, false).ok()?.len()
    } else {
        answer.token_ids.len()
    };
    Some((counted + 1, counted.saturating_sub(1)))
}

fn prompt_tokens(asker: &Asker, answer: &Answer) -> Option<(usize, usize)> {
    if !answer.prompt_token_ids.is_empty() {
        return Some((answer.prompt_token_ids.len(), answer.prompt_token_ids.len()));
    }
    if asker.api == crate::openai::Api::Chat {
        return None;
    }
    let counted = asker.tokenizer.as_ref()?.encode(OPENINGS[0], true).ok()?.len();
    Some((counted, counted))
}

fn in_streams(asker: &mut Asker) -> Result<Found, Unasked> {
    // Ids would tell of tokens by themselves.
    let request = GenerationRequest { stream: true, token_ids: false, ..asker.greedy(OPENINGS[1], TOKENS) };
    let answer = asker.ask(&request)?;
    let continuous = asker.ask(&GenerationRequest { continuous_usage: true, ..request });
    let Some(tokens) = answer.output_tokens else {
        return Ok(Found::notable(
            "include_usage brings none",
            "tokens of streams are counted by ids or the tokenizer; without either tokens/s stay unknown",
        ));
    };
    let rising = continuous.as_ref().is_ok_and(|answer| {
        let told: Option<Vec<usize>> = answer.chunks.iter().map(|(_, tokens)| *tokens).collect();
        told.is_some_and(|told| told.len() > 1 && told.is_sorted() && told.first() < told.last())
    });
    Ok(if rising {
        Found::holds(
            format!("{tokens} tokens at the end, and a count with every chunk"),
            "tokens of any chunk are known",
        )
    } else {
        Found::notable(
            format!("{tokens} tokens at the end, no count with every chunk"),
            "times between tokens are known on the mean only, unless ids are told",
        )
    })
}
