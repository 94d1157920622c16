//! Whether stop strings end an answer, and only an answer.

use super::super::ask::Asker;
use super::super::check::{Check, Found, Unasked};
use super::super::prompts::{MAIN, OPENINGS, RIDDLE};
use crate::openai::{GenerationRequest, PromptForm};

pub(super) const STOPS: Check =
    Check { name: "stops", asks: "do stop strings end an answer, before their text?", run: stops };
pub(super) const IN_THOUGHT: Check = Check {
    name: "stops-in-thought",
    asks: "does a stop string end a thought, though it is meant for the answer?",
    run: in_thought,
};

/// No answer holds these.
const OTHERS: [&str; 5] =
    ["<<evalsuite-1>>", "<<evalsuite-2>>", "<<evalsuite-3>>", "<<evalsuite-4>>", "<<evalsuite-5>>"];

fn stops(asker: &mut Asker) -> Result<Found, Unasked> {
    let (request, text, stop) = with_stop(asker)?;
    let meant = text.find(&stop).map_or("", |at| &text[..at]).to_owned();
    let with = |stops: Vec<String>| GenerationRequest { stop: stops, ..request.clone() };
    let answer = asker.ask(&with(vec![stop.clone()]))?;
    let seen = format!("stop `{}`", stop.escape_debug());
    if answer.text != meant {
        return Ok(if answer.text == format!("{meant}{stop}") {
            Found::notable(
                format!("{seen} ends the answer, but stands in it"),
                "evalsuite cuts it off; other clients may read it as part of the answer",
            )
        } else if answer.text.contains(&stop) {
            Found::harms(
                format!("{seen} is not heeded"),
                "answers run on into further questions, and the last number there is scored",
            )
        } else {
            Found::harms(format!("with {seen} the answer is another one"), "what a stop does to an answer is not known")
        });
    }
    let many: Vec<String> = OTHERS.iter().map(|text| (*text).to_owned()).chain([stop]).collect();
    match asker.ask(&with(many)) {
        Ok(answer) if answer.text == meant => Ok(Found::holds(
            format!("{seen} ends the answer before it, among {} stops too", OTHERS.len() + 1),
            "answers end where a protocol says",
        )),
        _ => Ok(Found::notable(
            format!("{seen} ends the answer before it, but not as the sixth of six stops"),
            "evalsuite cuts answers at the others when they have come: such answers take longer, no score changes",
        )),
    }
}

/// A request whose answer holds a word in its middle, that answer, and the word.
fn with_stop(asker: &mut Asker) -> Result<(GenerationRequest, String, String), Unasked> {
    for text in std::iter::once(&MAIN).chain(&OPENINGS[..6]) {
        let request = asker.greedy(text, 48);
        let answer = asker.ask(&request)?;
        if let Some(stop) = middle(&answer.text) {
            return Ok((request, answer.text, stop));
        }
    }
    Err(Unasked::because("no answer holds a word to stop at"))
}

/// A word of a text that does not stand at its beginning.
fn middle(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let found = words.iter().skip(words.len() / 2).find(|word| {
        word.chars().count() > 1 && text.find(**word).is_some_and(|at| at > 0 && !text[..at].trim().is_empty())
    })?;
    Some((*found).to_owned())
}

fn in_thought(asker: &mut Asker) -> Result<Found, Unasked> {
    let messages = serde_json::json!([{"role": "user", "content": RIDDLE}]);
    let request = asker.greedy_of(PromptForm::Messages(messages), 512);
    let answer = asker.ask(&request)?;
    let (thought, apart) = match answer.text.split_once("</think>") {
        _ if !answer.reasoning.trim().is_empty() => (answer.reasoning.clone(), true),
        Some((thought, _)) => (thought.to_owned(), false),
        None => return Err(Unasked::because("the model does not think before it answers")),
    };
    let stop = middle(&thought).ok_or_else(|| Unasked::because("the thought holds no word to stop at"))?;
    let stopped = asker.ask(&GenerationRequest { stop: vec![stop.clone()], ..request })?;
    let left = if apart { stopped.reasoning.clone() } else { stopped.text.clone() };
    let seen = format!("stop `{}`", stop.escape_debug());
    Ok(if left.contains(&stop) || (apart && left == thought) {
        Found::holds(format!("{seen} does not end a thought"), "a protocol's stops leave thoughts alone")
    } else {
        Found::harms(
            format!("{seen} ends the thought: no answer comes"),
            "thinking models lose answers to stops: ask with --stop \"\", and let the protocol cut",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_a_word_that_stands_inside() {
        assert_eq!(middle("one two three four").as_deref(), Some("three"));
        assert_eq!(middle("no no no no"), None);
        assert_eq!(middle(""), None);
        assert_eq!(middle("a b"), None);
    }
}
