//! How the server says that a request is wrong.

use serde_json::json;

use super::super::ask::Asker;
use super::super::check::{Check, Found, Unasked};
use super::super::prompts::MAIN;
use crate::openai::{Cause, GenerationRequest, RequestError};

pub(super) const SHAPES: Check = Check {
    name: "errors",
    asks: "is a request that makes no sense refused, in words, streamed and not?",
    run: shapes,
};

fn shapes(asker: &mut Asker) -> Result<Found, Unasked> {
    let whole = asker.greedy(MAIN, 2);
    asker.ask(&whole)?;
    let mut seen = Vec::new();
    let mut worst = 0;
    for (how, request) in [("whole", whole.clone()), ("streamed", GenerationRequest { stream: true, ..whole })] {
        let mut body = request.body(&asker.model, &asker.refused);
        body["temperature"] = json!("hot");
        let answer = asker.send(asker.api, &body).map(|_| ());
        let (words, weight) = weigh(&answer);
        seen.push(format!("{how}: {words}"));
        worst = worst.max(weight);
    }
    let seen = seen.join("; ");
    Ok(match worst {
        0 => Found::holds(seen, "what is wrong with a request is said, and it is not asked again"),
        1 => Found::notable(
            seen,
            "a mistake in a request looks like a passing failure: it is tried again, and found late",
        ),
        _ => Found::notable(seen, "a wrong value passes in silence: look at what the server makes of every flag"),
    })
}

/// What was said to `temperature: "hot"`, and how far that is from a refusal in words.
fn weigh(answer: &Result<(), RequestError>) -> (String, u8) {
    match answer {
        Ok(()) => ("answered".to_owned(), 2),
        Err(error)
            if matches!(error.cause, Cause::Status(400..=499) | Cause::InStream) && !error.message.is_empty() =>
        {
            (error.cause.to_string(), 0)
        }
        Err(error) => (super::super::ask::start(&error.to_string()), 1),
    }
}
