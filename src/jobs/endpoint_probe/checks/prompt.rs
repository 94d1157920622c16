//! What the model reads.

use super::super::ask::{Asker, start};
use super::super::check::{Check, Found, Unasked};
use super::super::prompts::MAIN;
use crate::openai::{Api, Cause, PromptForm};

pub(super) const IDS: Check =
    Check { name: "prompt-ids", asks: "does the model read the tokens that its tokenizer makes?", run: ids };
pub(super) const TOO_LONG: Check =
    Check { name: "too-long", asks: "is a prompt longer than the context refused, or cut?", run: too_long };

fn ids(asker: &mut Asker) -> Result<Found, Unasked> {
    let tokenizer =
        asker.tokenizer.clone().ok_or_else(|| Unasked::because("no tokenizer is known: give --tokenizer"))?;
    let answer = asker.ask(&asker.greedy(MAIN, 1))?;
    if asker.api == Api::Chat {
        return chat_ids(&tokenizer, &answer);
    }
    let ours = tokenizer.encode(MAIN, true).map_err(|error| Unasked::because(error.to_string()))?;
    if !answer.prompt_token_ids.is_empty() {
        return Ok(compared(&ours, &answer.prompt_token_ids));
    }
    let counted = answer.prompt_tokens.ok_or_else(|| Unasked::because("the server tells neither ids nor a count"))?;
    Ok(counts(ours.len(), counted))
}

const SAME: &str = "prompts mean here and there the same";
const OTHER: &str = "the model reads another prompt than is meant (BOS, tokenizer): send ids, or compare nothing";

fn compared(ours: &[u32], theirs: &[u32]) -> Found {
    if ours == theirs {
        return Found::holds(format!("all {} ids are ours", ours.len()), SAME);
    }
    let twice = theirs.len() == ours.len() + 1 && theirs.get(1..) == Some(ours) && theirs.first() == ours.first();
    let why = if twice { "; BOS stands there twice" } else { "" };
    let place = 1 + ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    Found::harms(format!("{} ids, ours are {}, other from place {place}{why}", theirs.len(), ours.len()), OTHER)
}

fn counts(ours: usize, theirs: usize) -> Found {
    if ours == theirs {
        Found::holds(format!("{theirs} tokens, as many as ours (no ids are told)"), SAME)
    } else {
        Found::harms(format!("{theirs} tokens, ours are {ours} (no ids are told)"), OTHER)
    }
}

/// A chat is the server's to render: what must not happen is a beginning of sequence twice.
fn chat_ids(
    tokenizer: &crate::engine::model::ModelTokenizer,
    answer: &super::super::answer::Answer,
) -> Result<Found, Unasked> {
    let ids = &answer.prompt_token_ids;
    if ids.is_empty() {
        return Err(Unasked::because("the server tells no ids of a chat's prompt"));
    }
    let read = tokenizer.decode_with_special(ids).map_err(|error| Unasked::because(error.to_string()))?;
    let bos = tokenizer.bos_id.map_or(0, |bos| ids.iter().take_while(|id| **id == bos).count());
    if bos > 1 {
        return Ok(Found::harms(format!("BOS stands there {bos} times"), OTHER));
    }
    if !read.contains(MAIN) {
        return Ok(Found::harms(format!("the ids read otherwise here: {}", start(&read)), OTHER));
    }
    Ok(Found::holds(format!("{} ids, which hold the message as it is", ids.len()), SAME))
}

/// More words than the context holds, each a token at least.
fn too_long(asker: &mut Asker) -> Result<Found, Unasked> {
    const UNKNOWN: &str = "nobody tells how long the context is";
    let context = asker.context_tokens.ok_or_else(|| Unasked::because(UNKNOWN))?;
    let words = context + 64;
    let prompt = match (asker.api, &asker.tokenizer) {
        (Api::Completions, Some(tokenizer)) => {
            let word = tokenizer.encode(" bread", false).ok().and_then(|ids| ids.last().copied()).unwrap_or(1);
            PromptForm::Ids(vec![word; words])
        }
        _ => asker.prompt(&"bread and 7 salt ".repeat(words.div_ceil(4))),
    };
    let request = asker.greedy_of(prompt, 1);
    let error = match asker.ask(&request) {
        Err(error) => error,
        Ok(answer) => {
            let read = answer.prompt_tokens.or(Some(answer.prompt_token_ids.len()).filter(|read| *read > 0));
            return Ok(match read {
                Some(read) if read >= words => Found::notable(
                    format!("{words} tokens were read, though the context is told to hold {context}"),
                    "the context is longer than the server tells",
                ),
                read => Found::harms(
                    format!(
                        "answered: {} of {words} tokens were read",
                        read.map_or("nobody tells how many".into(), |n| n.to_string())
                    ),
                    "long prompts lose their beginning or end in silence, and are scored as wrong answers",
                ),
            });
        }
    };
    Ok(match error.cause {
        Cause::Status(400..=499) => Found::holds(format!("refused: {error}"), "no prompt is cut in silence"),
        Cause::Connect => return Err(error.into()),
        _ => Found::notable(
            format!("failed: {error}"),
            "it looks like a passing failure and is tried again: each long prompt costs several attempts",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::check::Verdict;
    use super::*;

    #[test]
    fn a_beginning_of_sequence_twice_is_seen() {
        assert_eq!(compared(&[1, 5, 6], &[1, 5, 6]).verdict, Verdict::Holds);
        let twice = compared(&[1, 5, 6], &[1, 1, 5, 6]);
        assert!(twice.verdict == Verdict::Harms && twice.seen.contains("BOS stands there twice"), "{twice:?}");
        let other = compared(&[1, 5, 6], &[1, 5, 7]);
        assert!(other.seen.contains("other from place 3") && !other.seen.contains("BOS"), "{other:?}");
        assert_eq!((counts(3, 3).verdict, counts(3, 4).verdict), (Verdict::Holds, Verdict::Harms));
    }
}
