//! Whether a greedy answer hangs on anything but its request.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::ask::Asker;
use super::super::check::{Check, Found, Unasked};
use super::super::prompts::{MAIN, OPENINGS};

pub(super) const TWICE: Check =
    Check { name: "greedy-twice", asks: "is a greedy answer the same when asked again?", run: twice };
pub(super) const IN_COMPANY: Check =
    Check { name: "greedy-in-company", asks: "is it the same amid 31 other requests?", run: in_company };
pub(super) const CACHED: Check =
    Check { name: "prefix-cache", asks: "is it the same when its prompt comes from a cache?", run: cached };

const TOKENS: usize = 48;

fn twice(asker: &mut Asker) -> Result<Found, Unasked> {
    let request = asker.greedy(MAIN, TOKENS);
    let first = asker.ask(&request)?;
    if first.is_empty() {
        return Err(Unasked::because("the answer is empty"));
    }
    // The second answer already meets a cached prompt; the third meets what the second met.
    for _ in 0..2 {
        let again = asker.ask(&request)?;
        if let Some(place) = first.difference(&again) {
            return Ok(Found::harms(
                format!("the answers part at {place}"),
                "greedy scores change from run to run: repeat runs, and compare with intervals only",
            ));
        }
    }
    Ok(Found::holds("three answers, all the same", "a greedy score can be measured again"))
}

fn in_company(asker: &mut Asker) -> Result<Found, Unasked> {
    let request = asker.greedy(MAIN, TOKENS);
    let alone = asker.ask(&request)?;
    if alone.is_empty() {
        return Err(Unasked::because("the answer is empty"));
    }
    let others = OPENINGS.iter().take(31).map(|text| asker.greedy(text, TOKENS));
    let mut all: Vec<_> = others.collect();
    let place = all.len() / 2;
    all.insert(place, request);
    let bodies: Vec<_> = all.iter().map(|request| request.body(&asker.model, &asker.refused)).collect();
    let answers = asker.send_all(asker.api, &bodies);
    let failed = answers.iter().filter(|answer| answer.is_err()).count();
    let amid = answers.into_iter().nth(place).ok_or_else(|| Unasked::because("nothing came back"))??;
    if failed > 0 {
        return Ok(Found::notable(
            format!("{failed} of 32 requests failed when sent together"),
            "ask with fewer at a time (--batch), else failures leave answers out",
        ));
    }
    Ok(match alone.difference(&amid) {
        None => Found::holds("the same alone and amid 31 others", "scores do not hang on load or batch size"),
        Some(place) => Found::notable(
            format!("alone and amid 31 others part at {place}"),
            "near-ties fall otherwise under load: a few answers, and the score, change from run to run",
        ),
    })
}

fn cached(asker: &mut Asker) -> Result<Found, Unasked> {
    // No earlier probe can have left this beginning in a cache.
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let text = format!("Note {nonce}. {} {MAIN}", OPENINGS[..12].join("\n"));
    let request = asker.greedy(&text, TOKENS);
    let mut body = request.body(&asker.model, &asker.refused);
    let logprobs = match asker.api {
        crate::openai::Api::Completions => serde_json::json!(1),
        crate::openai::Api::Chat => serde_json::json!(true),
    };
    body["logprobs"] = logprobs;
    let cold = if let Ok(answer) = asker.send(asker.api, &body) {
        answer
    } else {
        if let Some(body) = body.as_object_mut() {
            body.remove("logprobs");
        }
        asker.send(asker.api, &body)?
    };
    let warm = asker.send(asker.api, &body)?;
    if cold.is_empty() {
        return Err(Unasked::because("the answer is empty"));
    }
    let of_cache = cached_tokens(&warm).map_or("hits not told".to_owned(), |tokens| format!("{tokens} tokens cached"));
    if let Some(place) = cold.difference(&warm) {
        return Ok(Found::notable(
            format!("cold and cached part at {place} ({of_cache})"),
            "an answer hangs on what was asked before it: turn the prefix cache off for exact comparisons",
        ));
    }
    let apart = logprobs_of(&cold).iter().zip(&logprobs_of(&warm)).map(|(a, b)| (a - b).abs()).reduce(f64::max);
    let apart = apart.map_or("no log probabilities".to_owned(), |apart| format!("log probabilities {apart:.1e} apart"));
    Ok(Found::holds(
        format!("cold and cached are the same ({of_cache}; {apart})"),
        "what was asked before changes no answer",
    ))
}

fn cached_tokens(answer: &super::super::answer::Answer) -> Option<u64> {
    answer.body.get("usage")?.get("prompt_tokens_details")?.get("cached_tokens")?.as_u64()
}

/// Of the answer's tokens, in the shape of either route.
fn logprobs_of(answer: &super::super::answer::Answer) -> Vec<f64> {
    let Some(logprobs) = answer.body.pointer("/choices/0/logprobs") else { return Vec::new() };
    let classic = logprobs.get("token_logprobs").and_then(serde_json::Value::as_array);
    let chat = logprobs.get("content").and_then(serde_json::Value::as_array);
    match (classic, chat) {
        (Some(list), _) => list.iter().filter_map(serde_json::Value::as_f64).collect(),
        (None, Some(list)) => list.iter().filter_map(|one| one.get("logprob")?.as_f64()).collect(),
        (None, None) => Vec::new(),
    }
}
