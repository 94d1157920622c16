//! From logits to the next token: greedy, or temperature, top-k and top-p in this order.

use super::Sampling;
use super::api::{TokenDetail, TopToken};

/// Chooses tokens for one request. The same seed gives the same choices, whatever else runs.
#[derive(Debug)]
pub(super) struct Sampler {
    options: Sampling,
    state: u64,
}

impl Sampler {
    /// A sampler at the beginning of its sequence.
    pub(super) fn new(options: Sampling) -> Self {
        Self { options, state: options.seed }
    }

    /// The next token. Ties go to the lowest id. `logits` must be finite.
    pub(super) fn choose(&mut self, logits: &[f32]) -> u32 {
        if self.options.temperature <= 0.0 {
            return best(logits).0;
        }
        let mut candidates = self.candidates(logits);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut left = self.uniform() * total;
        let last = candidates.pop().map_or(0, |(id, _)| id);
        for (id, weight) in candidates {
            left -= weight;
            if left < 0.0 {
                return id;
            }
        }
        last
    }

    /// The tokens that may be drawn, most probable first, with weights relative to the most probable.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let highest = f64::from(best(logits).1);
        let mut candidates: Vec<(u32, f64)> = (0..)
            .zip(logits)
            .map(|(id, logit)| (id, libm::exp((f64::from(*logit) - highest) / self.options.temperature)))
            .collect();
        if self.options.top_k == 0 && self.options.top_p >= 1.0 {
            return candidates;
        }
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if self.options.top_k > 0 {
            candidates.truncate(self.options.top_k);
        }
        let enough = self.options.top_p * candidates.iter().map(|(_, weight)| weight).sum::<f64>();
        let mut reached = 0.0;
        let nucleus = candidates.iter().take_while(|(_, weight)| {
            let before = reached;
            reached += weight;
            before < enough
        });
        let length = nucleus.count().max(1);
        candidates.truncate(length);
        candidates
    }

    /// Uniform in [0, 1), by `SplitMix64` (Steele, Lea and Flood, 2014).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What the model thought of `token` at a position with these logits, and of the `top` most probable tokens: the most probable first, the
/// lowest id first among equals.
pub(super) fn detail(logits: &[f32], token: u32, top: usize) -> (TokenDetail, Vec<TopToken>) {
    let (best, highest) = best(logits);
    let second =
        (0..).zip(logits).filter(|(id, _)| *id != best).map(|(_, logit)| *logit).fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| libm::exp(f64::from(*logit) - f64::from(highest))).sum();
    let log_sum_exp = f64::from(highest) + libm::log(sum);
    let log_probability = |logit: f32| (f64::from(logit) - log_sum_exp) as f32;
    let detail = TokenDetail {
        token,
        log_probability: log_probability(logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY)),
        best,
        margin: highest - second,
        log_sum_exp: log_sum_exp as f32,
    };
    let told = |(token, logit)| TopToken { token, log_probability: log_probability(logit) };
    (detail, highest_logits(logits, top).into_iter().map(told).collect())
}

fn highest_logits(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut highest: Vec<(u32, f32)> = Vec::new();
    for (id, logit) in (0..).zip(logits.iter().copied()) {
        if highest.len() == count && highest.last().is_none_or(|(_, least)| logit <= *least) {
            continue;
        }
        let place = highest.partition_point(|(_, other)| *other >= logit);
        highest.insert(place, (id, logit));
        highest.truncate(count);
    }
    highest
}

/// The highest logit and its token, the lowest id among equals.
fn best(logits: &[f32]) -> (u32, f32) {
    (0..)
        .zip(logits)
        .fold((0, f32::NEG_INFINITY), |best, (id, logit)| if *logit > best.1 { (id, *logit) } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(options: Sampling, logits: &[f32], draws: usize) -> Vec<f64> {
        let mut sampler = Sampler::new(options);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..draws {
            counts[sampler.choose(logits) as usize] += 1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_equals() {
        assert_eq!(Sampler::new(Sampling::default()).choose(&[0.0, 3.0, 3.0, 1.0]), 1);
    }

    #[test]
    fn temperature_one_draws_by_probability() {
        let options = Sampling { temperature: 1.0, seed: 7, ..Sampling::default() };
        let frequencies = frequencies(options, &[0.0, std::f32::consts::LN_2, 5.0_f32.ln()], 80_000);
        for (frequency, expected) in frequencies.iter().zip([0.125, 0.25, 0.625]) {
            // Four standard deviations of a binomial share with n = 80,000.
            assert!((frequency - expected).abs() < 4.0 * (expected * (1.0 - expected) / 80_000.0).sqrt());
        }
    }

    #[test]
    fn a_temperature_near_zero_draws_the_most_probable_token() {
        for logits in [[30.0, 20.0, 10.0], [-10.0, -20.0, -30.0]] {
            let options = Sampling { temperature: 0.01, seed: 3, ..Sampling::default() };
            assert!((frequencies(options, &logits, 50)[0] - 1.0).abs() < 1e-12, "{logits:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_leave_out_the_tail() {
        let logits = [8.0_f32.ln(), 4.0_f32.ln(), 2.0_f32.ln(), 1.0_f32.ln()];
        let top_k = Sampling { temperature: 1.0, top_k: 2, seed: 1, ..Sampling::default() };
        assert_eq!(frequencies(top_k, &logits, 2000).iter().filter(|f| **f > 0.0).count(), 2);
        // 8/15 alone is below 0.8, 12/15 reaches it.
        let top_p = Sampling { temperature: 1.0, top_p: 0.8, seed: 1, ..Sampling::default() };
        assert_eq!(frequencies(top_p, &logits, 2000).iter().filter(|f| **f > 0.0).count(), 2);
        let almost_none = Sampling { temperature: 1.0, top_p: 1e-9, seed: 1, ..Sampling::default() };
        assert!((frequencies(almost_none, &logits, 100)[0] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let options = Sampling { temperature: 0.9, seed: 42, ..Sampling::default() };
        let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.37).sin()).collect();
        let draw = || {
            let mut sampler = Sampler::new(options);
            (0..20).map(|_| sampler.choose(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
    }

    #[test]
    fn the_most_probable_tokens_come_in_order_the_lowest_id_first_among_equals() {
        let logits = [1.0, 3.0, 2.0, 3.0, -1.0];
        let ids = |count| detail(&logits, 1, count).1.iter().map(|top| top.token).collect::<Vec<_>>();
        assert_eq!((ids(0), ids(1), ids(3), ids(9)), (vec![], vec![1], vec![1, 3, 2], vec![1, 3, 2, 0, 4]));
        let (own, top) = detail(&logits, 1, 5);
        let shares: f64 = top.iter().map(|top| f64::from(top.log_probability).exp()).sum();
        assert!((shares - 1.0).abs() < 1e-6);
        assert_eq!(top[0].log_probability, own.log_probability);
    }

    #[test]
    fn details_add_up() {
        let (detail, _) = detail(&[1.0, 3.0, 2.0], 2, 0);
        let log_sum_exp = (1.0_f64.exp() + 3.0_f64.exp() + 2.0_f64.exp()).ln();
        assert_eq!((detail.best, detail.token), (1, 2));
        assert!((f64::from(detail.log_sum_exp) - log_sum_exp).abs() < 1e-6);
        assert!((f64::from(detail.log_probability) - (2.0 - log_sum_exp)).abs() < 1e-6);
        assert!((detail.margin - 1.0).abs() < 1e-6);
    }
}
