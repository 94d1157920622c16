//! Counter-based random numbers: word i of a tensor is a function of the seed, the tensor's name and i, whoever computes it.

use half::{bf16, f16};
use rayon::prelude::*;

use crate::random::{GOLDEN, mix, normal_quantile, split_mix};

/// One entry for every value of 16 bits.
const QUANTILES: usize = 1 << 16;

/// Elements made from one word: 16 bits each.
pub(super) const ELEMENTS_A_WORD: usize = 4;

/// The random words of one tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    key: u64,
}

impl Words {
    pub(super) fn of(seed: u64, name: &str) -> Self {
        let key = name.bytes().fold(split_mix(seed), |key, byte| mix(key ^ u64::from(byte)));
        Self { key }
    }

    /// Word `index`: the output of `SplitMix64` with the tensor's key as seed.
    pub(super) const fn get(self, index: u64) -> u64 {
        split_mix(self.key.wrapping_add(index.wrapping_mul(GOLDEN)))
    }
}

/// A normal distribution around 0 by its 65,536 quantiles, in the bytes that files hold.
#[derive(Debug)]
pub(super) enum Normal {
    Wide(Vec<[u8; 4]>),
    Narrow(Vec<[u8; 2]>),
}

impl Normal {
    pub(super) fn f32(deviation: f64) -> Self {
        Self::Wide(quantiles().into_iter().map(|x| ((x * deviation) as f32).to_le_bytes()).collect())
    }

    pub(super) fn f16(deviation: f64) -> Self {
        Self::Narrow(quantiles().into_iter().map(|x| f16::from_f64(x * deviation).to_le_bytes()).collect())
    }

    pub(super) fn bf16(deviation: f64) -> Self {
        Self::Narrow(quantiles().into_iter().map(|x| bf16::from_f64(x * deviation).to_le_bytes()).collect())
    }

    /// Fills `out`, whole elements of a tensor from word `first` on.
    pub(super) fn fill(&self, words: Words, first: u64, out: &mut [u8]) {
        match self {
            Self::Wide(table) => fill(table, words, first, out),
            Self::Narrow(table) => fill(table, words, first, out),
        }
    }
}

fn fill<const N: usize>(table: &[[u8; N]], words: Words, first: u64, out: &mut [u8]) {
    let (elements, _) = out.as_chunks_mut::<N>();
    for (index, group) in (first..).zip(elements.chunks_mut(ELEMENTS_A_WORD)) {
        let word = words.get(index);
        for (part, element) in group.iter_mut().enumerate() {
            // Masked to the table's length, so that the compiler drops the check.
            *element = table[(word >> (16 * part)) as usize & (QUANTILES - 1)];
        }
    }
}

/// Fills `out`, whole words of a tensor from word `first` on, with random bits.
pub(super) fn fill_bits(words: Words, first: u64, out: &mut [u8]) {
    for (index, bytes) in (first..).zip(out.chunks_mut(8)) {
        let word = words.get(index).to_le_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
}

/// The standard normal distribution's quantiles at (i + ½) / 65,536.
fn quantiles() -> Vec<f64> {
    (0..QUANTILES).into_par_iter().map(|index| normal_quantile((index as f64 + 0.5) / QUANTILES as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tensor_of_every_seed_has_its_own_words() {
        assert_ne!(Words::of(0, "a").key, Words::of(0, "b").key);
        assert_ne!(Words::of(0, "a").key, Words::of(1, "a").key);
        assert_eq!(Words { key: 1_234_567 }.get(1), 3_203_168_211_198_807_973);
    }

    #[test]
    fn values_are_normal_and_alike_wherever_they_are_cut() {
        let (words, count) = (Words::of(3, "w"), 1 << 18);
        let mut whole = vec![0; 4 * count];
        let normal = Normal::f32(0.02);
        normal.fill(words, 0, &mut whole);
        let mut rest = vec![0; 4 * (count - 400)];
        normal.fill(words, 100, &mut rest);
        assert_eq!(whole[1600..], rest);

        let values: Vec<f64> =
            whole.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)) / 0.02).collect();
        let moment = |power: i32| values.iter().map(|x| x.powi(power)).sum::<f64>() / count as f64;
        // Standard errors of the moments of n normal draws: 1, √2, √96 over √n.
        let error = 1.0 / (count as f64).sqrt();
        assert!(moment(1).abs() < 4.0 * error, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 4.0 * 1.42 * error, "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 4.0 * 9.8 * error, "fourth moment {}", moment(4));
        let neighbours = values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / count as f64;
        assert!(neighbours.abs() < 4.0 * error, "correlation {neighbours}");
    }
}
