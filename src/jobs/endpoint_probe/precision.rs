//! Whether an endpoint's greedy tokens are those of the same model in sixteen bits: each is held against f32's logits, and a sequential test
//! (Wald, 1945) decides between two stated hypotheses.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineError};

/// Every threshold of the decision, in one place.
pub(super) mod limits {
    /// A token has left rank 1 where f32's best logit lies further above its own than this, in nats. In sixteen bits only near-ties fall
    /// otherwise.
    pub(in super::super) const GAP_NATS: f64 = crate::score::NEAR_TIE_NATS;
    /// The share of such tokens that sixteen bits may have.
    pub(in super::super) const SHARE_16_BIT: f64 = 0.0005;
    /// The share of such tokens from which weights are quantised.
    pub(in super::super) const SHARE_QUANTISED: f64 = 0.01;
    /// How often either hypothesis may be taken where the other is true.
    pub(in super::super) const ERROR: f64 = 0.01;
    /// From this share on it is no rounding at all: another model, another template, or other tokens.
    pub(in super::super) const SHARE_OTHER: f64 = 0.3;
}

/// A greedy token of the endpoint, held against f32.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeldToken {
    /// Its id.
    pub token: u32,
    /// 1 is f32's own choice.
    pub rank: usize,
    /// How far f32's best logit lies above its own, in nats.
    pub gap: f64,
}

/// An answer of the endpoint, held against f32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldAnswer {
    /// What was asked.
    pub prompt: String,
    /// Where the tokens' ids come from: `server`, or `tokenizer` where its text was encoded again.
    pub ids_by: String,
    /// One for each token.
    pub tokens: Vec<HeldToken>,
}

/// What the tokens show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// What sixteen bits do.
    SixteenBit,
    /// More than sixteen bits do.
    Quantised,
    /// More than any rounding does.
    OtherModel,
    /// Too few tokens to say.
    Undecided,
}

/// The numbers of the decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Tokens that were held against f32.
    pub tokens: usize,
    /// Of these, not f32's own choice.
    pub off_rank_one: usize,
    /// Of these, by more than `limits::GAP_NATS`.
    pub beyond: usize,
    /// Of these, by more than half a nat.
    pub beyond_half_nat: usize,
    /// The largest gap, nats.
    pub largest_gap: f64,
    /// The logarithm of the likelihood ratio of `quantised` to `sixteen bits`.
    pub log_likelihood_ratio: f64,
    /// At or below this it is sixteen bits.
    pub lower: f64,
    /// At or above this it is quantised.
    pub upper: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrecisionFinding {
    /// What the tokens show.
    pub conclusion: Conclusion,
    /// The same as a sentence.
    pub sentence: String,
    /// Its numbers.
    pub evidence: Evidence,
    /// Every answer, token by token.
    pub answers: Vec<HeldAnswer>,
}

/// Holds an answer's tokens against an engine's logits, one forced after the other. `vocabulary` is the length of a row of logits.
pub fn hold(
    engine: &mut dyn Engine,
    vocabulary: usize,
    prompt: &[u32],
    answer: &[u32],
) -> Result<Vec<HeldToken>, EngineError> {
    let tokens = [prompt, answer].concat();
    let mut held = Vec::with_capacity(answer.len());
    engine.predict(&tokens, prompt.len(), &mut |rows| {
        for row in rows.chunks_exact(vocabulary) {
            held.extend(answer.get(held.len()).map(|token| held_token(row, *token)));
        }
        ControlFlow::Continue(())
    })?;
    Ok(held)
}

fn held_token(row: &[f32], token: u32) -> HeldToken {
    let own = row.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let rank = 1 + row.iter().filter(|logit| **logit > own).count();
    HeldToken { token, rank, gap: f64::from(best) - f64::from(own) }
}

/// Decides. Tokens are taken in their order; once a bound is reached, the tokens after it change nothing.
pub fn judge(answers: &[HeldAnswer]) -> (Conclusion, Evidence) {
    let lower = (limits::ERROR / (1.0 - limits::ERROR)).ln();
    let upper = ((1.0 - limits::ERROR) / limits::ERROR).ln();
    let mut evidence = Evidence {
        tokens: 0,
        off_rank_one: 0,
        beyond: 0,
        beyond_half_nat: 0,
        largest_gap: 0.0,
        log_likelihood_ratio: 0.0,
        lower,
        upper,
    };
    for token in answers.iter().flat_map(|answer| &answer.tokens) {
        let beyond = token.gap > limits::GAP_NATS;
        evidence.tokens += 1;
        evidence.off_rank_one += usize::from(token.rank > 1);
        evidence.beyond += usize::from(beyond);
        evidence.beyond_half_nat += usize::from(token.gap > 0.5);
        evidence.largest_gap = evidence.largest_gap.max(token.gap);
        if evidence.log_likelihood_ratio > lower && evidence.log_likelihood_ratio < upper {
            evidence.log_likelihood_ratio += step(beyond);
        }
    }
    let share = evidence.beyond as f64 / evidence.tokens.max(1) as f64;
    let conclusion = match evidence.log_likelihood_ratio {
        ratio if ratio >= upper && share >= limits::SHARE_OTHER => Conclusion::OtherModel,
        ratio if ratio >= upper => Conclusion::Quantised,
        ratio if ratio <= lower => Conclusion::SixteenBit,
        _ => Conclusion::Undecided,
    };
    (conclusion, evidence)
}

/// What a token adds to the logarithm of the likelihood ratio.
fn step(beyond: bool) -> f64 {
    if beyond {
        (limits::SHARE_QUANTISED / limits::SHARE_16_BIT).ln()
    } else {
        ((1.0 - limits::SHARE_QUANTISED) / (1.0 - limits::SHARE_16_BIT)).ln()
    }
}

impl PrecisionFinding {
    /// Of the answers that were held.
    pub fn of(answers: Vec<HeldAnswer>) -> Self {
        let (conclusion, evidence) = judge(&answers);
        Self { conclusion, sentence: sentence(conclusion, &evidence), evidence, answers }
    }
}

fn sentence(conclusion: Conclusion, evidence: &Evidence) -> String {
    let Evidence { tokens, beyond, beyond_half_nat, largest_gap, .. } = *evidence;
    let left = |count: usize, gap: f64| match count {
        0 => format!("no token of {tokens} left rank 1 by more than {gap} nats"),
        1 => format!("1 token of {tokens} left rank 1 by more than {gap} nats"),
        count => format!("{count} tokens of {tokens} left rank 1 by more than {gap} nats"),
    };
    let half_or_less = if beyond_half_nat > 0 { left(beyond_half_nat, 0.5) } else { left(beyond, limits::GAP_NATS) };
    match conclusion {
        Conclusion::SixteenBit => {
            format!("as f16 would: {}, the furthest by {largest_gap:.3}", left(beyond, limits::GAP_NATS))
        }
        Conclusion::Quantised => format!("weights are quantised: {half_or_less}, the furthest by {largest_gap:.2}"),
        Conclusion::OtherModel => format!("another model, or other prompts: {half_or_less}"),
        Conclusion::Undecided => format!("undecided: {}; more tokens are needed", left(beyond, limits::GAP_NATS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer whose tokens lie so far below f32's best.
    fn judged(gaps: &[f64]) -> (Conclusion, Evidence) {
        let token = |gap: &f64| HeldToken { token: 7, rank: 1 + usize::from(*gap > 0.0), gap: *gap };
        let tokens = gaps.iter().map(token).collect();
        judge(&[HeldAnswer { prompt: String::new(), ids_by: "server".to_owned(), tokens }])
    }

    #[test]
    fn a_token_is_held_against_its_row_of_logits() {
        let row = [1.0, 3.0, 2.5];
        let held = |token: u32| held_token(&row, token);
        assert_eq!((held(1).rank, held(1).gap), (1, 0.0));
        assert_eq!((held(2).rank, held(2).gap), (2, 0.5));
        assert_eq!((held(0).rank, held(0).gap), (3, 2.0));
        assert_eq!((held(9).rank, held(9).gap), (4, f64::INFINITY), "no token of the vocabulary");
    }

    #[test]
    fn sixteen_bits_are_believed_after_so_many_tokens_and_no_earlier() {
        // ln(0.99 / 0.01) / ln(0.9995 / 0.99) = 481.2
        assert_eq!(judged(&[0.0; 481]).0, Conclusion::Undecided);
        let (conclusion, evidence) = judged(&[0.0; 482]);
        assert_eq!((conclusion, evidence.tokens, evidence.beyond), (Conclusion::SixteenBit, 482, 0));
        assert!((evidence.upper - 99.0_f64.ln()).abs() < 1e-12 && (evidence.lower + 99.0_f64.ln()).abs() < 1e-12);
        // A near-tie is what sixteen bits do.
        assert_eq!(judged(&[0.1; 482]).0, Conclusion::SixteenBit);
    }

    #[test]
    fn two_far_tokens_are_quantised_weights_and_three_in_ten_another_model() {
        let with = |far: usize, near: usize| [vec![0.11; far], vec![0.0; near]].concat();
        assert_eq!(judged(&with(1, 9)).0, Conclusion::Undecided);
        let (conclusion, evidence) = judged(&with(2, 8));
        assert_eq!(conclusion, Conclusion::Quantised);
        // ln 20 each; what follows a decision changes nothing.
        assert!((evidence.log_likelihood_ratio - 2.0 * 20.0_f64.ln()).abs() < 1e-12, "{evidence:?}");
        assert_eq!(judged(&with(2, 5000)).0, Conclusion::Quantised);
        assert_eq!(judged(&with(3, 7)).0, Conclusion::OtherModel);
        assert_eq!(judged(&[0.0; 482].into_iter().chain([9.0; 20]).collect::<Vec<_>>()).0, Conclusion::SixteenBit);
    }

    #[test]
    fn the_evidence_counts_what_the_sentence_says() {
        let (_, evidence) = judged(&[0.0, 0.05, 0.3, 0.5, 0.51, 2.0]);
        assert_eq!((evidence.off_rank_one, evidence.beyond, evidence.beyond_half_nat), (5, 4, 2));
        assert_eq!(evidence.largest_gap, 2.0);
        assert!(sentence(Conclusion::Quantised, &evidence).contains("2 tokens of 6 left rank 1 by more than 0.5 nats"));
        assert!(
            sentence(Conclusion::SixteenBit, &evidence).contains("4 tokens of 6 left rank 1 by more than 0.1 nats")
        );
    }
}
