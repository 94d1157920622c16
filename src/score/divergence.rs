//! What two rows of logits say of the next token, and how far apart they are.

/// A choice between two tokens whose log-probabilities lie no further apart than this, in nats, is a near-tie: the rounding of sixteen bits
/// may decide it. Further apart, something real was changed.
pub const NEAR_TIE_NATS: f64 = 0.1;

/// The probabilities behind one row of logits, as the softmax at temperature 1. All arithmetic is binary64, in the
/// order of the tokens: the same logits give the same bits on any machine.
#[derive(Debug, Clone, Copy)]
pub struct Distribution<'a> {
    logits: &'a [f32],
    log_sum_exp: f64,
    best: u32,
}

impl<'a> Distribution<'a> {
    /// Of logits `[vocabulary]`; `None` where there are none or one of them is not finite.
    pub fn new(logits: &'a [f32]) -> Option<Self> {
        if logits.is_empty() || !logits.iter().all(|logit| logit.is_finite()) {
            return None;
        }
        let (best, highest) = (0..)
            .zip(logits)
            .fold((0, f32::NEG_INFINITY), |best, (token, logit)| if *logit > best.1 { (token, *logit) } else { best });
        let highest = f64::from(highest);
        let sum: f64 = logits.iter().map(|logit| libm::exp(f64::from(*logit) - highest)).sum();
        Some(Self { logits, log_sum_exp: highest + libm::log(sum), best })
    }

    /// The most probable token; the lowest id among equals.
    pub const fn best(&self) -> u32 {
        self.best
    }

    /// Natural logarithm of a token's probability; `None` beyond the vocabulary.
    pub fn log_probability(&self, token: u32) -> Option<f64> {
        self.logits.get(token as usize).map(|logit| f64::from(*logit) - self.log_sum_exp)
    }

    /// Kullback-Leibler divergence of `other` from this one, Σ p · (ln p − ln q) in nats with p of this one: what
    /// believing `other` costs a token where this one is the truth. `None` where the vocabularies differ in size.
    pub fn divergence(&self, other: &Self) -> Option<f64> {
        if self.logits.len() != other.logits.len() {
            return None;
        }
        let terms = self.logits.iter().zip(other.logits).map(|(own, other_logit)| {
            let log_p = f64::from(*own) - self.log_sum_exp;
            let log_q = f64::from(*other_logit) - other.log_sum_exp;
            libm::exp(log_p) * (log_p - log_q)
        });
        // Never negative but for the last bits of two rows that are all but the same.
        Some(terms.sum::<f64>().max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(probabilities: &[f64]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln() as f32).collect()
    }

    #[test]
    fn a_divergence_by_hand() {
        // p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): KL = 1/2 ln 2 + 0 − 1/4 ln 2 = ln 2 / 4. The logits are rounded to
        // binary32, whose half unit in the last place is below 6e-8 for logarithms up to ln 4.
        let (p, q) = (logits(&[0.5, 0.25, 0.25]), logits(&[0.25, 0.25, 0.5]));
        let (p, q) = (Distribution::new(&p).unwrap(), Distribution::new(&q).unwrap());
        assert!((p.divergence(&q).unwrap() - std::f64::consts::LN_2 / 4.0).abs() < 2e-7);
        assert_eq!((p.best(), q.best()), (0, 2));
        assert!((p.log_probability(0).unwrap() + std::f64::consts::LN_2).abs() < 2e-7);
    }

    #[test]
    fn divergence_is_not_symmetric() {
        // p = (0.9, 0.1), q = (0.5, 0.5): KL(p‖q) = 0.9 ln 1.8 + 0.1 ln 0.2, KL(q‖p) = 0.5 ln(1/1.8) + 0.5 ln 5.
        let (p, q) = (logits(&[0.9, 0.1]), logits(&[0.5, 0.5]));
        let (p, q) = (Distribution::new(&p).unwrap(), Distribution::new(&q).unwrap());
        assert!((p.divergence(&q).unwrap() - 0.368_064_206_940_756_1).abs() < 2e-7);
        assert!((q.divergence(&p).unwrap() - 0.510_825_623_765_990_7).abs() < 2e-7);
    }

    #[test]
    fn a_distribution_does_not_diverge_from_itself_wherever_its_logits_lie() {
        for shift in [0.0_f32, 1e4, -1e4] {
            let logits: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin() * 8.0 + shift).collect();
            let p = Distribution::new(&logits).unwrap();
            assert!(p.divergence(&p).unwrap() == 0.0);
            let total: f64 = (0..1000).map(|token| p.log_probability(token).unwrap().exp()).sum();
            // A thousand terms below 1 whose logarithms are of size 1e4 at most: 1e4 · 2⁻⁵³ each.
            assert!((total - 1.0).abs() < 1e-11, "{total}");
        }
    }

    #[test]
    fn shifted_logits_are_the_same_distribution() {
        // Powers of two and small integers: the shift is exact in binary32.
        let (a, b) = ([0.0_f32, 1.0, 2.0, 3.0], [64.0_f32, 65.0, 66.0, 67.0]);
        let (a, b) = (Distribution::new(&a).unwrap(), Distribution::new(&b).unwrap());
        assert!(a.divergence(&b).unwrap() < 1e-13);
    }

    #[test]
    fn ties_go_to_the_lowest_token() {
        assert_eq!(Distribution::new(&[1.0, 3.0, 3.0]).unwrap().best(), 1);
    }

    #[test]
    fn what_is_no_distribution_is_none() {
        assert!(Distribution::new(&[]).is_none());
        assert!(Distribution::new(&[1.0, f32::NAN]).is_none());
        assert!(Distribution::new(&[1.0, f32::INFINITY]).is_none());
        let (two, three) = ([0.0, 0.0], [0.0, 0.0, 0.0]);
        let (two, three) = (Distribution::new(&two).unwrap(), Distribution::new(&three).unwrap());
        assert!(two.divergence(&three).is_none() && two.log_probability(2).is_none());
    }
}
