//! What an engine thinks of each answer's place, by the logits that it left.

use super::choice::Answer;
use crate::engine::{Engine, EngineError, Logits, READ_ROWS};
use crate::score::Distribution;

/// What a model thinks of one place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// ln p of the reference's token less ln p of the variant's, nats.
    pub(super) margin: f64,
    /// The most probable token.
    pub(super) best: u32,
}

/// At each answer's place, where [`Answer::text`] of these was read last.
pub(super) fn at_places(engine: &mut dyn Engine, answers: &[Answer]) -> Result<Vec<Seen>, EngineError> {
    let mut row = 0;
    let mut seen = Vec::with_capacity(answers.len());
    for answer in answers {
        row += answer.text().rows();
        let logits = engine.read_logits(row - 1..row)?;
        seen.push(at_place(&logits, answer.token(), answer.other)?);
    }
    Ok(seen)
}

fn at_place(logits: &Logits<'_>, token: u32, other: u32) -> Result<Seen, EngineError> {
    let found = match logits {
        Logits::Host(values) => Distribution::new(values).and_then(|distribution| {
            let margin = distribution.log_probability(token)? - distribution.log_probability(other)?;
            Some(Seen { margin, best: distribution.best() })
        }),
        Logits::Device(logits) => {
            let score =
                |token| Ok::<_, EngineError>(logits.scores(None, &[token])?.and_then(|all| all.first().copied()));
            let scores = score(token)?.zip(score(other)?);
            scores
                .map(|(token, other)| Seen { margin: token.log_probability - other.log_probability, best: token.best })
        }
    };
    found.ok_or_else(|| EngineError::not_finite("a logit that is no finite number"))
}

/// Whether every token of each answer is the most probable one, where [`Answer::whole`] of these was read last.
pub(super) fn whole(engine: &mut dyn Engine, answers: &[Answer], vocabulary: usize) -> Result<Vec<bool>, EngineError> {
    let mut first = 0;
    let mut kept = Vec::with_capacity(answers.len());
    for answer in answers {
        let tokens = &answer.tokens[answer.prompt..];
        let mut is_kept = true;
        for (part, tokens) in tokens.chunks(READ_ROWS).enumerate() {
            let begin = first + part * READ_ROWS;
            let best = best(&engine.read_logits(begin..begin + tokens.len())?, tokens, vocabulary)?;
            is_kept &= best == tokens;
        }
        kept.push(is_kept);
        first += tokens.len();
    }
    Ok(kept)
}

/// The most probable token of each row.
fn best(logits: &Logits<'_>, tokens: &[u32], vocabulary: usize) -> Result<Vec<u32>, EngineError> {
    let found: Option<Vec<u32>> = match logits {
        Logits::Host(values) => {
            values.chunks(vocabulary).map(|row| Distribution::new(row).map(|row| row.best())).collect()
        }
        Logits::Device(logits) => logits.scores(None, tokens)?.map(|rows| rows.iter().map(|row| row.best).collect()),
    };
    found.ok_or_else(|| EngineError::not_finite("a logit that is no finite number"))
}
