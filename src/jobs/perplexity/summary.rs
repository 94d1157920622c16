//! Summarise: every token's score as means, errors and quantiles.

use super::PerplexityInputs;
use super::departures::departures;
use super::measure::Runner;
use super::{Divergence, DtypePerplexity, Opinion, ProbabilityChange, Spread, WindowPlan, WorstToken};
use crate::engine::TokenScore;
use crate::engine::model::ModelTokenizer;
use crate::jobs::spelling;
use crate::score::{Estimate, correlation, quantile};

/// Worst tokens that a record holds at least.
const WORST: usize = 5;

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
            against: against
                .and_then(|reference| divergence(reference, &runner.scores, (&blocks, plan.done), inputs, worst)),
        }
    };
    runners.iter().map(summary).collect()
}

fn divergence(
    reference: &[TokenScore],
    this: &[TokenScore],
    (blocks, done): (&[usize], usize),
    inputs: &PerplexityInputs,
    worst: usize,
) -> Option<Divergence> {
    let divergences: Vec<f64> = this.iter().map(|score| score.kl).collect::<Option<_>>()?;
    let pairs = || reference.iter().zip(this);
    let same: Vec<f64> = pairs().map(|(a, b)| f64::from(u8::from(a.best == b.best))).collect();
    let log_probabilities =
        |scores: &[TokenScore]| scores.iter().map(|score| score.log_probability).collect::<Vec<_>>();
    let (of_reference, of_this) = (log_probabilities(reference), log_probabilities(this));
    let change: Vec<f64> = of_reference.iter().zip(&of_this).map(|(a, b)| b - a).collect();
    let probability_change: Vec<f64> =
        of_reference.iter().zip(&of_this).map(|(a, b)| libm::exp(*b) - libm::exp(*a)).collect();
    let log_probability_change = Estimate::of_blocks(&change, blocks)?;
    Some(Divergence {
        kl: spread(&divergences, blocks)?,
        same_best: Estimate::of_blocks(&same, blocks)?,
        log_probability_change,
        perplexity_ratio: log_probability_change.scaled(-1.0).exponential(),
        perplexity_difference: perplexity_difference(&of_reference, &of_this, blocks),
        correlation: correlation(&of_reference, &of_this),
        probability_change: Some(changed(&probability_change, blocks)?),
        departures: departures(reference, this, inputs, done),
        worst: worst_tokens(reference, this, inputs, worst.max(WORST)),
    })
}

fn spread(values: &[f64], blocks: &[usize]) -> Option<Spread> {
    let sorted = sorted(values);
    let at = |q| quantile(&sorted, q);
    Some(Spread {
        mean: Estimate::of_blocks(values, blocks)?,
        minimum: at(0.0),
        p0_1: at(0.001),
        p1: at(0.01),
        p5: at(0.05),
        p10: at(0.1),
        median: at(0.5)?,
        p90: at(0.9)?,
        p95: at(0.95)?,
        p99: at(0.99)?,
        p99_9: at(0.999)?,
        maximum: at(1.0)?,
    })
}

/// exp(a) − exp(b) of the mean negative log-probabilities a of `this` and b of the reference; its error is that of the difference's
/// linear part, Σ exp(a) · aᵢ − exp(b) · bᵢ.
fn perplexity_difference(reference: &[f64], this: &[f64], blocks: &[usize]) -> Option<Estimate> {
    let perplexity =
        |log_probabilities: &[f64]| libm::exp(-log_probabilities.iter().sum::<f64>() / log_probabilities.len() as f64);
    let (of_reference, of_this) = (perplexity(reference), perplexity(this));
    let parts: Vec<f64> = reference.iter().zip(this).map(|(b, a)| of_reference * b - of_this * a).collect();
    Some(Estimate { value: of_this - of_reference, ..Estimate::of_blocks(&parts, blocks)? })
}

fn changed(values: &[f64], blocks: &[usize]) -> Option<ProbabilityChange> {
    let sorted = sorted(values);
    let at = |q| quantile(&sorted, q);
    let squares: Vec<f64> = values.iter().map(|value| value * value).collect();
    Some(ProbabilityChange {
        mean: Estimate::of_blocks(values, blocks)?,
        root_mean_square: Estimate::of_blocks(&squares, blocks)?.root(),
        minimum: at(0.0)?,
        p0_1: at(0.001)?,
        p1: at(0.01)?,
        p5: at(0.05)?,
        p10: at(0.1)?,
        p25: at(0.25)?,
        median: at(0.5)?,
        p75: at(0.75)?,
        p90: at(0.9)?,
        p95: at(0.95)?,
        p99: at(0.99)?,
        p99_9: at(0.999)?,
        maximum: at(1.0)?,
    })
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
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
            answer: inputs.answer_token(position),
            kl,
            context: inputs.context_before(position),
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

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [f64; 11] = [0.02, -0.31, 0.0, 0.11, -0.05, 0.4, -0.007, 0.0003, -0.9, 0.25, -0.12];
    const BLOCKS: [usize; 3] = [3, 4, 4];

    #[track_caller]
    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
    }

    #[test]
    fn a_difference_of_perplexities_by_hand() {
        // Perplexities 2 and 4. Parts 4·aᵢ − 2·bᵢ of a = (ln 2, ln 8), b = (ln 2, ln 2): 2 ln 2 and 10 ln 2, whose standard error is half
        // their distance.
        let ln = |value: f64| -value.ln();
        let difference = perplexity_difference(&[ln(2.0), ln(2.0)], &[ln(2.0), ln(8.0)], &[1, 1]).unwrap();
        close(difference.value, 2.0);
        close(difference.standard_error.unwrap(), 4.0 * std::f64::consts::LN_2);
    }

    /// numpy 2.4.6: `numpy.quantile`, and the clustered errors written out over the same blocks.
    #[test]
    fn a_change_is_spread_as_numpy_says() {
        let change = changed(&VALUES, &BLOCKS).unwrap();
        let expected = [
            (change.mean.value, -0.055_154_545_454_545_45),
            (change.mean.standard_error.unwrap(), 0.097_749_147_898_570_06),
            (change.root_mean_square.value, 0.324_464_466_467_439_26),
            (change.root_mean_square.standard_error.unwrap(), 0.097_935_066_075_779_87),
            (change.minimum, -0.9),
            (change.p0_1, -0.8941),
            (change.p1, -0.841),
            (change.p5, -0.605),
            (change.p10, -0.31),
            (change.p25, -0.085),
            (change.median, 0.0),
            (change.p75, 0.065),
            (change.p90, 0.25),
            (change.p95, 0.325),
            (change.p99, 0.385),
            (change.p99_9, 0.3985),
            (change.maximum, 0.4),
        ];
        for (actual, expected) in expected {
            close(actual, expected);
        }
        let spread = spread(&VALUES, &BLOCKS).unwrap();
        let expected = [
            (spread.minimum.unwrap(), -0.9),
            (spread.p0_1.unwrap(), -0.8941),
            (spread.p1.unwrap(), -0.841),
            (spread.p5.unwrap(), -0.605),
            (spread.p10.unwrap(), -0.31),
            (spread.median, 0.0),
            (spread.p90, 0.25),
            (spread.p95, 0.325),
            (spread.p99, 0.385),
            (spread.p99_9, 0.3985),
            (spread.maximum, 0.4),
        ];
        for (actual, expected) in expected {
            close(actual, expected);
        }
    }
}
