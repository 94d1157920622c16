//! What rows of logits say of the tokens that followed, computed where the logits are.

use crate::EngineError;
use crate::cuda::buffer::Buffer;
use crate::cuda::compile::{Options, Source};
use crate::cuda::device::Device;
use crate::cuda::kernel::{Grid, Kernel, Module};
use crate::reading::TokenScore;

const SOURCE: Source = Source { name: "token_scores", text: include_str!("../kernels/token_scores.cu") };
/// Threads of a block, numbers of a row; as in `token_scores.cu`.
const THREADS: usize = 512;
const NUMBERS: usize = 6;

/// The kernel of one vocabulary, and memory for so many rows.
#[derive(Debug)]
pub(crate) struct TokenScores {
    kernel: Kernel,
    vocabulary: usize,
    /// i32 `[rows]`.
    tokens: Buffer,
    /// f64 `[rows, NUMBERS]`.
    out: Buffer,
}

impl TokenScores {
    /// Compiles or finds the kernel, for launches of up to `rows` rows.
    pub(crate) fn load(device: &Device, vocabulary: usize, rows: usize) -> Result<Self, EngineError> {
        let module = Module::load(device, SOURCE, &options(vocabulary))?;
        Ok(Self {
            kernel: module.kernel("token_scores", 0)?,
            vocabulary,
            tokens: Buffer::new(device, rows * size_of::<i32>())?,
            out: Buffer::new(device, rows * NUMBERS * size_of::<f64>())?,
        })
    }

    /// Of `logits`, and against `reference`'s of the same tokens (0 for none), both f32 `[tokens, vocabulary]`. Waits. `None` where a logit is
    /// not finite, or a token beyond the vocabulary.
    pub(crate) fn of(
        &self,
        device: &Device,
        logits: u64,
        reference: u64,
        tokens: &[u32],
    ) -> Result<Option<Vec<TokenScore>>, EngineError> {
        if tokens.iter().any(|token| *token as usize >= self.vocabulary) {
            return Ok(None);
        }
        let ids: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
        self.tokens.write(device, 0, &ids)?;
        let arguments = [logits, reference, self.tokens.pointer(), self.out.pointer()].map(Into::into);
        self.kernel.launch(device, Grid::line(tokens.len(), THREADS), &arguments)?;
        let numbers: Vec<f64> = self.out.read(device, 0, tokens.len() * NUMBERS)?;
        let score = |numbers: &[f64]| match *numbers {
            [log_probability, best, best_log_probability, kl, reference_of_best, 1.0] => Some(TokenScore {
                log_probability,
                best: best as u32,
                best_log_probability,
                kl: (reference != 0).then_some(kl),
                reference_of_best: (reference != 0).then_some(reference_of_best),
            }),
            _ => None,
        };
        Ok(numbers.chunks_exact(NUMBERS).map(score).collect())
    }
}

fn options(vocabulary: usize) -> Options {
    Options::default().with("VOCABULARY", vocabulary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::element::ElementType;
    use crate::cuda::testing::{Random, compiles, gpu, upload};

    #[test]
    fn the_kernel_compiles() {
        compiles([515, 32_000, 151_936].map(|vocabulary| (SOURCE, options(vocabulary))));
    }

    /// ln p of every token.
    fn log_probabilities(logits: &[f32]) -> Vec<f64> {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - f64::from(highest)).exp()).sum();
        logits.iter().map(|logit| f64::from(*logit) - f64::from(highest) - sum.ln()).collect()
    }

    fn first_of_the_highest(logits: &[f32]) -> u32 {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        logits.iter().position(|logit| *logit == highest).unwrap() as u32
    }

    #[test]
    fn scores_match_binary64_on_the_host() {
        let Some(device) = gpu() else { return };
        for (vocabulary, spread) in [(515, 1.0), (32_000, 0.5), (151_936, 0.3)] {
            let (rows, mut random) = (5, Random::new(vocabulary as u64));
            let own = random.matrix(rows, vocabulary, spread);
            let mut truth: Vec<f32> = own.iter().map(|logit| logit + 0.01 * random.normal()).collect();
            // The second row is the same in both; in the third, two tokens are equally probable.
            truth[vocabulary..2 * vocabulary].copy_from_slice(&own[vocabulary..2 * vocabulary]);
            let mut own = own;
            own[2 * vocabulary + 7] = 200.0;
            own[2 * vocabulary + 401] = 200.0;
            let tokens: Vec<u32> = (0..rows).map(|_| random.below(vocabulary) as u32).collect();
            let [a, b] = [&own, &truth].map(|values| upload(&device, values, ElementType::F32));
            let scores = TokenScores::load(&device, vocabulary, rows).unwrap();
            let found = scores.of(&device, a.pointer(), b.pointer(), &tokens).unwrap().unwrap();
            let alone = scores.of(&device, a.pointer(), 0, &tokens).unwrap().unwrap();
            for (row, found) in found.iter().enumerate() {
                let of_row = row * vocabulary..(row + 1) * vocabulary;
                let (q, p) = (log_probabilities(&own[of_row.clone()]), log_probabilities(&truth[of_row.clone()]));
                let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
                let best = first_of_the_highest(&own[of_row]);
                assert_eq!(found.best, best, "row {row} of {vocabulary}");
                // Binary64 sums of so many terms in another order, of logarithms of size 200 at most.
                let near =
                    |what: &str, a: f64, b: f64| assert!((a - b).abs() < 1e-10, "{what} of row {row}: {a}, not {b}");
                near("ln p", found.log_probability, q[tokens[row] as usize]);
                near("ln p of the best", found.best_log_probability, q[best as usize]);
                near("KL", found.kl.unwrap(), kl.max(0.0));
                near("the reference's", found.reference_of_best.unwrap(), p[best as usize]);
                assert_eq!((alone[row].kl, alone[row].reference_of_best), (None, None));
                assert!(alone[row].log_probability.to_bits() == found.log_probability.to_bits());
            }
            assert!(found[1].kl == Some(0.0) && found[0].kl > Some(0.0));
            own[4 * vocabulary] = f32::NAN;
            let spoiled = upload(&device, &own, ElementType::F32);
            assert!(scores.of(&device, spoiled.pointer(), b.pointer(), &tokens).unwrap().is_none());
            assert!(scores.of(&device, a.pointer(), spoiled.pointer(), &tokens).unwrap().is_none());
            assert!(scores.of(&device, a.pointer(), b.pointer(), &[vocabulary as u32]).unwrap().is_none());
        }
    }
}
