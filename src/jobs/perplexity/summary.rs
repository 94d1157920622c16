//! Summarise: every token's score as means, errors and quantiles.

use super::PerplexityInputs;
use super::measure::Runner;
use super::{Divergence, DtypePerplexity, Opinion, Spread, WindowPlan, WorstToken};
use crate::engine::TokenScore;
use crate::engine::model::ModelTokenizer;
use crate::jobs::spelling;
use crate::score::{Estimate, quantile};

/// Worst tokens that a record holds at least.
const WORST: usize = 5;

/// Tokens of context that are shown before a worst token.
const CONTEXT_TOKENS: usize = 16;

/// One entry a variant. `plan` says how many windows are done; `worst` is how many worst tokens the report wants.
pub(super) fn summarise(
    runners: &[Runner],
    inputs: &PerplexityInputs,
    plan: &WindowPlan,
    worst: usize,
) -> Vec<DtypePerplexity> {
    let blocks = inputs.blocks(plan.done);
    let reference = runners.iter().find(|runner| runner.is_reference).map(|runner| runner.scores.as_slice());
    let summary = |runner: &Runner| {
        let nats: Vec<f64> = runner.scores.iter().map(|score| -score.log_probability).collect();
        let nats_per_token = Estimate::of_blocks(&nats, &blocks);
        let tokens_a_byte = (plan.scored_bytes > 0).then(|| plan.scored_tokens as f64 / plan.scored_bytes as f64);
        let against = reference.filter(|_| !runner.is_reference);
        DtypePerplexity {
            dtype: runner.variant.clone(),
            failure: runner.failure.as_ref().map(ToString::to_string),
            engine: runner.engine.as_ref().map(|engine| engine.info().clone()),
            seconds: nats_per_token.map(|_| runner.seconds),
            nats_per_token,
            perplexity: nats_per_token.map(Estimate::exponential),
            bits_per_byte: nats_per_token
                .zip(tokens_a_byte)
                .map(|(nats, tokens)| nats.scaled(tokens / std::f64::consts::LN_2)),
            against: against.and_then(|reference| divergence(reference, &runner.scores, &blocks, inputs, worst)),
        }
    };
    runners.iter().map(summary).collect()
}

fn divergence(
    reference: &[TokenScore],
    this: &[TokenScore],
    blocks: &[usize],
    inputs: &PerplexityInputs,
    worst: usize,
) -> Option<Divergence> {
    let divergences: Vec<f64> = this.iter().map(|score| score.kl).collect::<Option<_>>()?;
    let pairs = || reference.iter().zip(this);
    let same: Vec<f64> = pairs().map(|(a, b)| f64::from(u8::from(a.best == b.best))).collect();
    let change: Vec<f64> = pairs().map(|(a, b)| b.log_probability - a.log_probability).collect();
    let log_probability_change = Estimate::of_blocks(&change, blocks)?;
    Some(Divergence {
        kl: spread(&divergences, blocks)?,
        same_best: Estimate::of_blocks(&same, blocks)?,
        log_probability_change,
        perplexity_ratio: log_probability_change.scaled(-1.0).exponential(),
        worst: worst_tokens(reference, this, inputs, worst.max(WORST)),
    })
}

fn spread(values: &[f64], blocks: &[usize]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |q| quantile(&sorted, q);
    Some(Spread {
        mean: Estimate::of_blocks(values, blocks)?,
        median: at(0.5)?,
        p90: at(0.9)?,
        p95: at(0.95)?,
        p99: at(0.99)?,
        p99_9: at(0.999)?,
        maximum: at(1.0)?,
    })
}

/// The tokens with the largest divergence, the largest first, the earlier one among equals.
fn worst_tokens(
    reference: &[TokenScore],
    this: &[TokenScore],
    inputs: &PerplexityInputs,
    count: usize,
) -> Vec<WorstToken> {
    let mut ranked: Vec<(usize, f64)> =
        this.iter().enumerate().filter_map(|(index, score)| Some((index, score.kl?))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let tokenizer = &inputs.model.tokenizer;
    let worst = ranked.into_iter().take(count).filter_map(|(index, kl)| {
        let position = inputs.position(index)?;
        Some(WorstToken {
            position,
            kl,
            context: context(inputs, position),
            token: spelling(tokenizer, *inputs.tokens.get(position)?),
            reference: opinion(tokenizer, reference.get(index)?),
            this: opinion(tokenizer, this.get(index)?),
        })
    });
    worst.collect()
}

fn opinion(tokenizer: &ModelTokenizer, score: &TokenScore) -> Opinion {
    Opinion {
        best: spelling(tokenizer, score.best),
        best_probability: libm::exp(score.best_log_probability),
        token_probability: libm::exp(score.log_probability),
    }
}

/// The text before a token in its document; what cannot be decoded is left out.
fn context(inputs: &PerplexityInputs, position: usize) -> String {
    let begin = position.saturating_sub(CONTEXT_TOKENS).max(inputs.document_begin(position));
    let before = inputs.tokens.get(begin..position).unwrap_or_default();
    inputs.model.tokenizer.decode(before).unwrap_or_default()
}
