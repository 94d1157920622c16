//! Where each of the reference's own answers would first have gone otherwise, had this variant chosen the tokens.

use super::{AnswerToken, Departure, Departures, PerplexityInputs, Window};
use crate::engine::TokenScore;
use crate::jobs::spelling;
use crate::score::{Estimate, NEAR_TIE_NATS};

/// Of a variant's scores over the first `done` windows. `None` where no greedy answers were read.
pub(super) fn departures(
    reference: &[TokenScore],
    this: &[TokenScore],
    inputs: &PerplexityInputs,
    done: usize,
) -> Option<Departures> {
    let asked = inputs.asked.as_ref().filter(|asked| asked.is_greedy)?;
    let tokenizer = &inputs.model.tokenizer;
    let places = places(this, inputs, done)?;
    let (mut list, mut left, mut begin) = (Vec::new(), Vec::new(), 0);
    for (window, place) in inputs.windows.iter().zip(&places) {
        let question = asked.of.get(window.document)?;
        left.push((question.cluster, f64::from(u8::from(place.is_some()))));
        if let Some(place) = *place {
            let (truth, own) = (reference.get(begin + place)?, this.get(begin + place)?);
            let margin = truth.log_probability - own.reference_of_best?;
            list.push(Departure {
                at: AnswerToken { sample: question.sample, repeat: question.repeat, tokens_before: place },
                margin,
                is_near_tie: margin <= NEAR_TIE_NATS,
                context: inputs.context_before(window.from + place),
                token: spelling(tokenizer, *inputs.tokens.get(window.from + place)?),
                this: spelling(tokenizer, own.best),
            });
        }
        begin += window.scored();
    }
    let clusters: Vec<usize> = left.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).collect();
    let left: Vec<f64> = left.into_iter().map(|(_, left)| left).collect();
    Some(Departures {
        answers: left.len(),
        share: Estimate::of_blocks(&left, &clusters)?,
        near_tie_nats: NEAR_TIE_NATS,
        list,
    })
}

/// How many of the answers the reference itself would leave: none where the engine that reads them computes as the one that wrote them.
/// `None` where no greedy answers were read.
pub(super) fn left_by_reference(reference: &[TokenScore], inputs: &PerplexityInputs, done: usize) -> Option<usize> {
    inputs.asked.as_ref().filter(|asked| asked.is_greedy)?;
    let places = places(reference, inputs, done)?;
    Some(places.iter().flatten().count())
}

/// Of each answer that was read, how many of its tokens stand before the first that is not this variant's most probable one; `None`
/// where each is. An answer is one window.
fn places(scores: &[TokenScore], inputs: &PerplexityInputs, done: usize) -> Option<Vec<Option<usize>>> {
    let mut begin = 0;
    let of_window = |window: &Window| {
        let own = scores.get(begin..begin + window.scored())?;
        begin += window.scored();
        let tokens = inputs.tokens.get(window.from..window.fed.end)?;
        Some(own.iter().zip(tokens).position(|(score, token)| score.best != *token))
    };
    inputs.windows.iter().take(done).map(of_window).collect()
}
