//! Whether the likelihood of a given text can be asked for.

use serde_json::{Value, json};

use super::super::ask::Asker;
use super::super::check::{Check, Found, Unasked};
use super::super::prompts::MAIN;
use crate::openai::{Api, Cause, PromptForm};

pub(super) const ECHO: Check =
    Check { name: "echo-logprobs", asks: "are the log probabilities of a prompt's tokens told?", run: echo };

fn echo(asker: &mut Asker) -> Result<Found, Unasked> {
    let request = asker.greedy_of(PromptForm::Text(MAIN.to_owned()), 1);
    let plain = asker.ask(&request)?;
    let counted = plain.prompt_tokens.or(Some(plain.prompt_token_ids.len()).filter(|tokens| *tokens > 0));
    let ours = || Some(asker.tokenizer.as_ref()?.encode(MAIN, true).ok()?.len());
    let prompt = counted.or_else(ours);
    let prompt = prompt.ok_or_else(|| Unasked::because("nobody counts the prompt's tokens: give --tokenizer"))?;
    let mut body = request.body(&asker.model, &asker.refused);
    body["echo"] = json!(true);
    body["logprobs"] = json!(1);
    let answer = match asker.send(Api::Completions, &body) {
        Ok(answer) => answer,
        Err(error) if matches!(error.cause, Cause::Status(400..=499 | 501)) => {
            return Ok(Found::notable(
                format!("refused: {error}"),
                "tasks that compare likelihoods (multiple choice in lm-eval) cannot be asked here; generation can",
            ));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(shape(answer.body.pointer("/choices/0/logprobs"), prompt))
}

const CHANCE: &str = "tasks that compare likelihoods (multiple choice in lm-eval) score at chance, without an error";

/// One entry for each token of the prompt, the first of which nothing predicts, and one of the answer.
fn shape(logprobs: Option<&Value>, prompt: usize) -> Found {
    let list = |key: &str| logprobs?.get(key)?.as_array();
    let Some(values) = list("token_logprobs") else {
        let other = logprobs.is_some_and(|logprobs| logprobs.get("content").is_some());
        let seen = if other { "log probabilities come in the shape of chats" } else { "no log probabilities come" };
        return Found::harms(seen, CHANCE);
    };
    let seen = format!("{} entries for {prompt} tokens of a prompt and 1 of the answer", values.len());
    if values.len() <= 1 && prompt > 1 {
        return Found::harms(format!("echo is ignored: {seen}"), CHANCE);
    }
    if values.len() != prompt + 1 {
        return Found::harms(seen, "likelihoods are summed over the wrong tokens");
    }
    let numbers = values.iter().filter(|value| value.is_number()).count();
    let first = values.first().is_some_and(Value::is_null);
    let names = list("tokens").map_or(0, Vec::len);
    if !first || numbers != prompt || names != values.len() {
        return Found::harms(
            format!("{seen}, of which {numbers} are numbers, with {names} tokens"),
            "likelihoods are summed over the wrong tokens",
        );
    }
    Found::holds(seen, "tasks that compare likelihoods can be asked")
}

#[cfg(test)]
mod tests {
    use super::super::super::check::Verdict;
    use super::*;

    #[test]
    fn the_shape_of_an_echo_is_one_entry_a_token() {
        let of = |logprobs: &[Option<f64>], tokens: usize| {
            shape(Some(&json!({"token_logprobs": logprobs, "tokens": vec!["x"; tokens]})), 3).verdict
        };
        let right = [None, Some(-1.0), Some(-2.0), Some(-0.5)];
        assert_eq!(of(&right, 4), Verdict::Holds);
        assert_eq!(of(&right, 3), Verdict::Harms);
        assert_eq!(of(&right[..3], 3), Verdict::Harms);
        assert_eq!(of(&right[3..], 1), Verdict::Harms);
        assert_eq!(of(&[Some(0.0), Some(-1.0), Some(-2.0), Some(-0.5)], 4), Verdict::Harms);
        assert_eq!(shape(None, 3).verdict, Verdict::Harms);
        assert!(shape(Some(&json!({"content": []})), 3).seen.contains("shape of chats"));
    }
}
