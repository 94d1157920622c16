//! What the server is, and how it treats what it does not expect.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use super::super::ask::Asker;
use super::super::check::{Check, Found, Unasked};
use super::super::prompts::MAIN;
use crate::openai::{Cause, GenerationRequest, ServerInfo};

pub(super) const MODELS: Check =
    Check { name: "models", asks: "does the server say which model it serves, and what it is?", run: models };
pub(super) const UNKNOWN_KEY: Check =
    Check { name: "unknown-key", asks: "what becomes of a key that no server knows?", run: unknown_key };
pub(super) const CANCELLATION: Check =
    Check { name: "cancellation", asks: "does the server end the work of a client that went away?", run: cancellation };

fn models(asker: &mut Asker) -> Result<Found, Unasked> {
    let named = asker.named.clone();
    let info = asker.runtime.block_on(ServerInfo::ask(&asker.client, named.as_deref()))?;
    let context = info.context_tokens.map_or("context unknown".to_owned(), |tokens| format!("context {tokens}"));
    let seen = format!("{}, {context}, by {}", info.model, info.software_in_words());
    let told = info.context_tokens.is_some() && info.version.is_some();
    asker.server = Some(info);
    Ok(if told {
        Found::holds(seen, "a run can be bound to this model and this server")
    } else {
        Found::notable(seen, "write model, version and settings down yourself: the server does not tell them all")
    })
}

fn unknown_key(asker: &mut Asker) -> Result<Found, Unasked> {
    let request = asker.greedy(MAIN, 2);
    asker.ask(&request)?;
    let mut body = request.body(&asker.model, &asker.refused);
    body["evalsuite_probe_unknown"] = json!(1);
    match asker.send(request.api(), &body) {
        Ok(_) => Ok(Found::holds("ignored", "requests of every client are taken; a mistyped key passes in silence")),
        Err(error) if matches!(error.cause, Cause::Status(400 | 422)) => Ok(Found::notable(
            format!("refused: {error}"),
            "clients that send a key of another server fail; evalsuite leaves out what is refused, and says so",
        )),
        Err(error) => Err(error.into()),
    }
}

/// How long a server may take to notice.
const NOTICED: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

fn cancellation(asker: &mut Asker) -> Result<Found, Unasked> {
    const NO_GAUGE: &str = "the server's /metrics do not tell how many requests it works on";
    let before = asker.requests_in_server().ok_or_else(|| Unasked::because(NO_GAUGE))?;
    let tokens = asker.context_tokens.map_or(1500, |context| (context / 2).min(1500));
    let request = GenerationRequest { stream: true, exact_length: true, ..asker.greedy(MAIN, tokens) };
    let body = Bytes::from(request.body(&asker.model, &asker.refused).to_string());
    let client = asker.client.clone();
    let task = asker.runtime.spawn(async move { client.generate(request.api(), body, true).await.map(|_| ()) });
    let seen = wait(asker, |running| running > before);
    let over = task.is_finished();
    task.abort();
    if !seen || over {
        return Err(Unasked::because("a long request was over, or never seen in /metrics, before it could be dropped"));
    }
    let begun = Instant::now();
    if wait(asker, |running| running <= before) {
        let seconds = begun.elapsed().as_secs_f64();
        return Ok(Found::holds(
            format!("a request of {tokens} tokens was gone {seconds:.1} s after its client"),
            "what is given up does not slow down the rest",
        ));
    }
    Ok(Found::notable(
        format!("a request of {tokens} tokens still ran {} s after its client had gone", NOTICED.as_secs()),
        "requests that time out go on in the server and slow down all others: give a long --timeout",
    ))
}

/// Looks until `holds` does; whether it came to that.
fn wait(asker: &Asker, holds: impl Fn(f64) -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < NOTICED && !asker.is_interrupted() {
        if asker.requests_in_server().is_some_and(&holds) {
            return true;
        }
        std::thread::sleep(LOOK);
    }
    false
}
