//! What the server does where sampling is not said, and whether sampling can be repeated.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::ask::Asker;
use super::super::check::{Check, Found, Unasked};
use super::super::prompts::MAIN;
use crate::openai::{Cause, GenerationRequest};

pub(super) const TEMPERATURE: Check =
    Check { name: "default-sampling", asks: "is decoding greedy where no temperature is sent?", run: temperature };
pub(super) const PENALTY: Check =
    Check { name: "default-penalty", asks: "is there a penalty where none is sent?", run: penalty };
pub(super) const SEED: Check =
    Check { name: "seed", asks: "does a seed repeat a sampled answer, and only its own?", run: seed };
pub(super) const CHOICES: Check =
    Check { name: "choices", asks: "does n = 2 give two answers of their own?", run: choices };

const TOKENS: usize = 40;

const OTHER_CLIENTS: &str = "clients that ask for several answers at once must ask one by one; evalsuite always does";

/// A body without keys.
fn without(mut body: Value, keys: &[&str]) -> Value {
    if let Some(body) = body.as_object_mut() {
        for key in keys {
            body.remove(*key);
        }
    }
    body
}

fn greedy(asker: &mut Asker) -> Result<(Value, Answer), Unasked> {
    let request = asker.greedy(MAIN, TOKENS);
    let answer = asker.ask(&request)?;
    if answer.is_empty() {
        return Err(Unasked::because("the answer is empty"));
    }
    Ok((request.body(&asker.model, &asker.refused), answer))
}

fn temperature(asker: &mut Asker) -> Result<Found, Unasked> {
    let (body, greedy) = greedy(asker)?;
    let bare = without(body, &["temperature", "top_p", "seed"]);
    for _ in 0..3 {
        let answer = asker.send(asker.api, &bare)?;
        if let Some(place) = greedy.difference(&answer) {
            return Ok(Found::notable(
                format!("without temperature an answer parts from the greedy one at {place}"),
                "clients that leave temperature out are scored on samples; evalsuite always sends it",
            ));
        }
    }
    Ok(Found::holds(
        "without temperature three answers are the greedy one",
        "clients that leave temperature out are greedy too",
    ))
}

fn penalty(asker: &mut Asker) -> Result<Found, Unasked> {
    let (body, greedy) = greedy(asker)?;
    if body.get("repetition_penalty").is_none() {
        return Err(Unasked::because("the server takes no repetition_penalty, so that none can be ruled out"));
    }
    let answer = asker.send(asker.api, &without(body, &["repetition_penalty"]))?;
    Ok(match greedy.difference(&answer) {
        None => Found::holds(
            "with and without repetition_penalty 1 the answers are the same",
            "greedy is greedy for every client",
        ),
        Some(place) => Found::notable(
            format!("without repetition_penalty the answer parts at {place}"),
            "the server penalises repetition unasked: clients that send none score another model; evalsuite sends 1",
        ),
    })
}

fn sampled(asker: &mut Asker, seed: u64) -> Result<Answer, Unasked> {
    let request = GenerationRequest { temperature: 1.0, seed: seed << 1, ..asker.greedy(MAIN, TOKENS) };
    Ok(asker.ask(&request)?)
}

fn seed(asker: &mut Asker) -> Result<Found, Unasked> {
    let (first, again) = (sampled(asker, 7)?, sampled(asker, 7)?);
    if asker.refused.has("seed") {
        return Ok(Found::notable(
            "seed is refused",
            "a sampled run cannot be repeated: report its spread (--repeats)",
        ));
    }
    let others = [sampled(asker, 8)?, sampled(asker, 9)?, sampled(asker, 10)?];
    if first.is_empty() {
        return Err(Unasked::because("the answer is empty"));
    }
    if others.iter().all(|other| first.difference(other).is_none()) {
        return Ok(Found::harms(
            "four seeds give one answer at temperature 1",
            "repeats are clones: pass@k, majority votes and intervals over repeats mean nothing",
        ));
    }
    Ok(match first.difference(&again) {
        None => Found::holds("a seed gives its answer again, another seed another", "a sampled run can be repeated"),
        Some(place) => Found::notable(
            format!("two answers of one seed part at {place}"),
            "a sampled run cannot be repeated: report its spread (--repeats)",
        ),
    })
}

fn choices(asker: &mut Asker) -> Result<Found, Unasked> {
    let request = GenerationRequest { temperature: 1.0, seed: 14, ..asker.greedy(MAIN, TOKENS) };
    asker.ask(&request)?;
    let mut body = without(request.body(&asker.model, &asker.refused), &["seed"]);
    body["n"] = json!(2);
    let answer = match asker.send(asker.api, &body) {
        Ok(answer) => answer,
        Err(error) if matches!(error.cause, Cause::Status(400..=499)) => {
            return Ok(Found::notable(format!("refused: {error}"), OTHER_CLIENTS));
        }
        Err(error) => return Err(error.into()),
    };
    let given = answer.body.get("choices").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |choice: &Value| {
        let said = choice.get("text").or_else(|| choice.pointer("/message/content"));
        said.map(Value::to_string).unwrap_or_default()
    };
    let texts: BTreeSet<String> = given.iter().map(text).collect();
    Ok(match (given.len(), texts.len()) {
        (2, 2) => Found::holds("two answers, which differ", "several answers can be asked for at once"),
        (2, _) => Found::notable(
            "two answers, word for word the same",
            "pass@k by n > 1 counts clones; evalsuite asks one by one",
        ),
        (given, _) => Found::notable(format!("{given} answers of two"), OTHER_CLIENTS),
    })
}
