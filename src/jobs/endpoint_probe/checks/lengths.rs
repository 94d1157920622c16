//! Whether an answer is as long as was asked.

use serde_json::json;

use super::super::ask::Asker;
use super::super::check::{Check, Found, Unasked};
use super::super::prompts::{MAIN, OPENINGS};
use crate::openai::{Cause, GenerationRequest};

pub(super) const EXACT: Check =
    Check { name: "exact-length", asks: "are ignore_eos and min_tokens heeded?", run: exact };
pub(super) const LIMITS: Check =
    Check { name: "max-tokens", asks: "which of max_tokens and max_completion_tokens is heeded?", run: limits };

const EXACT_TOKENS: usize = 96;

fn exact(asker: &mut Asker) -> Result<Found, Unasked> {
    let mut other = Vec::new();
    for text in &OPENINGS[..4] {
        let answer = asker.ask(&GenerationRequest { exact_length: true, ..asker.greedy(text, EXACT_TOKENS) })?;
        let tokens = answer.tokens().ok_or_else(|| Unasked::because("the server tells neither ids nor usage"))?;
        if tokens != EXACT_TOKENS {
            other.push(tokens.to_string());
        }
    }
    let refused: Vec<&str> = ["ignore_eos", "min_tokens"].into_iter().filter(|key| asker.refused.has(key)).collect();
    let refused = if refused.is_empty() { String::new() } else { format!("; refused: {}", refused.join(", ")) };
    Ok(if other.is_empty() && refused.is_empty() {
        Found::holds(format!("4 answers of {EXACT_TOKENS} tokens each"), "speed can be measured at fixed lengths")
    } else {
        Found::notable(
            format!(
                "{} of 4 answers of {EXACT_TOKENS} tokens have others ({}){refused}",
                other.len(),
                other.join(", ")
            ),
            "speed is measured at lengths as they come: compare it by tokens, not by requests; scores are the same",
        )
    })
}

const LIMIT: usize = 7;

fn limits(asker: &mut Asker) -> Result<Found, Unasked> {
    let request = GenerationRequest { exact_length: true, ..asker.greedy(MAIN, LIMIT) };
    asker.ask(&request)?;
    let mut heeded = Vec::new();
    let mut words = Vec::new();
    for key in ["max_tokens", "max_completion_tokens"] {
        let mut body = request.body(&asker.model, &asker.refused);
        if let Some(body) = body.as_object_mut() {
            body.remove("max_tokens");
            body.remove("max_completion_tokens");
        }
        body[key] = json!(LIMIT);
        match asker.send(asker.api, &body) {
            Ok(answer) => {
                let tokens =
                    answer.tokens().ok_or_else(|| Unasked::because("the server tells neither ids nor usage"))?;
                words.push(format!("{key} {LIMIT} gives {tokens}"));
                if tokens <= LIMIT {
                    heeded.push(key);
                }
            }
            Err(error) if matches!(error.cause, Cause::Status(400 | 422)) => words.push(format!("{key} is refused")),
            Err(error) => return Err(error.into()),
        }
    }
    let ignored = words.iter().any(|one| one.starts_with("max_tokens") && !one.ends_with("refused"));
    let seen = words.join("; ");
    Ok(match heeded.as_slice() {
        [_, _] => Found::holds(seen, "answers end where they should, whichever key a client sends"),
        ["max_tokens"] => {
            Found::holds(seen, "answers end where they should; clients that send the other key fare otherwise")
        }
        ["max_completion_tokens"] if !ignored => {
            Found::notable(seen, "clients that send max_tokens fail; evalsuite learns it, and says so")
        }
        _ => Found::harms(seen, "answers are cut at another length than asked for: truncated answers score as wrong"),
    })
}
