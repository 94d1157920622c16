//! Holds an endpoint's greedy answers against the same model in f32, one by one, until the sequential test has decided.

use std::sync::Arc;

use super::ask::Asker;
use super::check::{Found, Unasked, Verdict};
use super::precision::{Conclusion, HeldAnswer, PrecisionFinding, hold, judge};
use super::prompts::OPENINGS;
use crate::engine::model::ModelSource;
use crate::engine::{Dtype, Engine, EngineKind, OpenOptions, open};
use crate::openai::{Api, PromptForm};

/// The check's name in the table.
pub(super) const NAME: &str = "precision";
/// Its question.
pub(super) const ASKS: &str = "are its greedy tokens those of the same model in sixteen bits?";

/// Tokens of an answer at most.
const TOKENS: usize = 64;

/// Asks and holds.
pub(super) fn held_against(asker: &mut Asker, source: &Arc<ModelSource>) -> Result<PrecisionFinding, Unasked> {
    let options = OpenOptions::new(EngineKind::Cpu, Dtype::F32, Some(1));
    let mut engine = open(source, &options).map_err(|error| Unasked::because(error.to_string()))?;
    let mut held = Vec::new();
    let mut why = None;
    for text in OPENINGS {
        match held_answer(asker, source, engine.as_mut(), text) {
            Ok(answer) => held.push(answer),
            Err(Unasked(reason)) => why = Some(reason),
        }
        if asker.is_interrupted() || judge(&held).0 != Conclusion::Undecided {
            break;
        }
    }
    if held.iter().all(|answer| answer.tokens.is_empty()) {
        return Err(Unasked(why.unwrap_or_else(|| "every answer is empty".to_owned())));
    }
    Ok(PrecisionFinding::of(held))
}

fn held_answer(
    asker: &mut Asker,
    source: &ModelSource,
    engine: &mut dyn Engine,
    text: &str,
) -> Result<HeldAnswer, Unasked> {
    let failed = |error: crate::engine::EngineError| Unasked::because(error.to_string());
    let ours = source.tokenizer.encode(text, true).map_err(failed)?;
    let prompt = match asker.api {
        Api::Completions => PromptForm::Ids(ours.clone()),
        Api::Chat => asker.prompt(text),
    };
    let answer = asker.ask(&asker.greedy_of(prompt, TOKENS))?;
    let read = match asker.api {
        Api::Completions => ours,
        Api::Chat if answer.prompt_token_ids.is_empty() => {
            return Err(Unasked::because("a chat's prompt is made by the server, which does not tell its ids"));
        }
        Api::Chat => answer.prompt_token_ids.clone(),
    };
    let (ids, by) = if answer.token_ids.is_empty() {
        let ids = source.tokenizer.encode(&answer.text, false).map_err(failed)?;
        // Encoded again, a text may have other tokens than were generated.
        if answer.output_tokens.is_none_or(|told| told.abs_diff(ids.len()) > 1) {
            return Err(Unasked::because(
                "the server tells no ids, and the text alone does not say which tokens it had",
            ));
        }
        (ids, "tokenizer")
    } else {
        (answer.token_ids, "server")
    };
    let vocabulary = source.config.vocabulary;
    if let Some(id) = ids.iter().chain(&read).find(|id| **id as usize >= vocabulary) {
        return Err(Unasked::because(format!(
            "token {id} is beyond this model's vocabulary of {vocabulary}: another model"
        )));
    }
    let tokens = if ids.is_empty() { Vec::new() } else { hold(engine, vocabulary, &read, &ids).map_err(failed)? };
    Ok(HeldAnswer { prompt: text.to_owned(), ids_by: by.to_owned(), tokens })
}

/// As a check.
pub(super) fn found(finding: &PrecisionFinding) -> Found {
    let (verdict, means) = match finding.conclusion {
        Conclusion::SixteenBit => (Verdict::Holds, "scores are those of the model as it was published"),
        Conclusion::Quantised => {
            (Verdict::Harms, "scores are those of quantised weights, whatever the model is called")
        }
        Conclusion::OtherModel => {
            (Verdict::Harms, "scores are those of another model than the one whose files are here")
        }
        Conclusion::Undecided => {
            (Verdict::Notable, "too few tokens came to say in which precision the model is served")
        }
    };
    Found { verdict, seen: finding.sentence.clone(), means }
}
