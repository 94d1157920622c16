//! Which answers are looked at: those that the variant lost, and where they are few, those that it changed most beside them.

use std::collections::HashMap;

use super::record::BlamedRun;
use crate::engine::Text;
use crate::jobs::JobError;
use crate::jobs::eval::StoredRun;
use crate::jobs::perplexity::PerplexityInputs;
use crate::record::{StoredCompletion, VariantName};
use crate::score::{first_divergence, token_agreement};

/// An answer of the reference that the variant leaves.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// Row of the dataset.
    pub(super) sample: usize,
    pub(super) repeat: usize,
    /// Right in the reference and wrong in the variant.
    pub(super) is_lost: bool,
    /// The prompt's, and behind them the reference's answer.
    pub(super) tokens: Vec<u32>,
    /// The prompt's length.
    pub(super) prompt: usize,
    /// Tokens of the answer before the first that the variant has not.
    pub(super) place: usize,
    /// What the variant has there.
    pub(super) other: u32,
    /// Share of the longer answer's places with the same token.
    agreement: f64,
}

impl Answer {
    /// The reference's token at the place.
    pub(super) fn token(&self) -> u32 {
        self.tokens[self.prompt + self.place]
    }

    /// Up to the place; the last row predicts the token there.
    pub(super) fn text(&self) -> Text<'_> {
        Text { tokens: &self.tokens[..=self.prompt + self.place], from: self.prompt }
    }

    /// To its end.
    pub(super) fn whole(&self) -> Text<'_> {
        Text { tokens: &self.tokens, from: self.prompt }
    }
}

type Answers<'a> = HashMap<(usize, usize), &'a StoredCompletion>;

/// The answers to look at, in the order of the rows, and how they were chosen. `read` is the run, its reference's answers encoded.
pub(super) fn choose(
    run: &StoredRun,
    read: &PerplexityInputs,
    (reference, variant): (&VariantName, &VariantName),
    (rule, limit): (&str, usize),
) -> Result<(Vec<Answer>, BlamedRun), JobError> {
    let (theirs, own) = (answers(run, reference)?, answers(run, variant)?);
    let (mut lost, mut changed, mut compared) = (0, Vec::new(), 0);
    for window in &read.windows {
        let Some(key) = read.question(window) else { continue };
        let (Some(there), Some(here)) = (theirs.get(&key), own.get(&key)) else { continue };
        let ids = here.token_ids.as_deref().ok_or_else(|| no_tokens(run, variant))?;
        compared += 1;
        let is_lost = there.is_right(rule) == Some(true) && here.is_right(rule) == Some(false);
        lost += usize::from(is_lost);
        let prompt = window.from - window.fed.start;
        let tokens = read.tokens[window.fed.clone()].to_vec();
        changed.extend(answer(key, is_lost, tokens, prompt, ids));
    }
    let all = changed.len();
    // The first lost ones stay in the order of their rows.
    let rank = |answer: &Answer| if answer.is_lost { 0.0 } else { 1.0 + answer.agreement };
    changed.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
    changed.truncate(limit);
    changed.sort_by_key(|answer| (answer.sample, answer.repeat));
    if changed.is_empty() {
        return Err(JobError::invalid(
            format!(
                "{variant} gives {reference}'s very tokens in each of {compared} answers of the run {}",
                run.path.display()
            ),
            "there is nothing to explain; give a run of more questions, or another variant",
        ));
    }
    let name = run.path.file_name().map_or_else(|| run.path.display().to_string(), |name| name.display().to_string());
    let chosen = BlamedRun {
        name,
        source: run.path.display().to_string(),
        answers_sha256: run.record.answers_sha256.clone(),
        rule: rule.to_owned(),
        answers: compared,
        lost,
        changed: all,
        lost_read: changed.iter().filter(|answer| answer.is_lost).count(),
    };
    Ok((changed, chosen))
}

fn answer(
    (sample, repeat): (usize, usize),
    is_lost: bool,
    tokens: Vec<u32>,
    prompt: usize,
    other: &[u32],
) -> Option<Answer> {
    let own = &tokens[prompt..];
    // Where the one only goes on, no token of the other is in its place.
    let place = first_divergence(own, other).filter(|place| *place < own.len().min(other.len()))?;
    let (agreement, other) = (token_agreement(own, other), other[place]);
    Some(Answer { sample, repeat, is_lost, tokens, prompt, place, other, agreement })
}

fn answers<'a>(run: &'a StoredRun, variant: &VariantName) -> Result<Answers<'a>, JobError> {
    let found = run.completions.iter().find(|(name, completions)| name == variant && !completions.is_empty());
    let (_, completions) = found.ok_or_else(|| {
        let there: Vec<&str> = run.completions.iter().map(|(name, _)| name.as_str()).collect();
        JobError::invalid(
            format!("the run {} has no answers of {variant}: it has {}", run.path.display(), there.join(", ")),
            "give a run that has answers of both, or name another variant",
        )
    })?;
    Ok(completions.iter().map(|completion| ((completion.sample, completion.repeat), completion)).collect())
}

fn no_tokens(run: &StoredRun, variant: &VariantName) -> JobError {
    JobError::invalid(
        format!("the run {} does not tell the tokens of {variant}'s answers", run.path.display()),
        "give a run that an engine of ours made",
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer whose first token is left for another.
    pub(in crate::jobs::blame) fn answer_at(token: u32, other: u32) -> Answer {
        Answer {
            sample: 0,
            repeat: 0,
            is_lost: true,
            tokens: vec![1, token],
            prompt: 1,
            place: 0,
            other,
            agreement: 0.0,
        }
    }

    #[test]
    fn an_answer_is_left_at_its_first_other_token() {
        let tokens = vec![9, 9, 1, 2, 3, 4];
        let found = answer((3, 0), true, tokens.clone(), 2, &[1, 2, 7, 4, 5]).unwrap();
        assert_eq!((found.place, found.token(), found.other, found.agreement), (2, 3, 7, 0.6));
        assert_eq!((found.text().tokens, found.text().rows()), (&tokens[..5], 3));
        assert_eq!((found.whole().tokens, found.whole().rows()), (&tokens[..], 4));
        assert!(answer((3, 0), false, tokens.clone(), 2, &[1, 2]).is_none(), "it only ends earlier");
        assert!(answer((3, 0), false, tokens, 2, &[1, 2, 3, 4]).is_none());
    }
}
