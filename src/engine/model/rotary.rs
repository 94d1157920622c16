//! The angles of rotary embedding, the same numbers for every engine.

use rayon::prelude::*;

use super::RotaryScaling;

/// Positions that one thread works on at a time.
const POSITIONS_A_TASK: usize = 64;

/// Rotary embedding (Su et al., 2021), halves rotated as in Hugging Face's layout. Frequencies and angles are binary32, as in
/// transformers, so that both rotate by the same angle at far positions too.
#[derive(Debug)]
pub(crate) struct Rotary {
    /// `[head_dim / 2]`, in radians a position.
    frequencies: Vec<f32>,
}

impl Rotary {
    /// Frequencies for heads of `head_dim` elements.
    pub(crate) fn new(theta: f64, scaling: RotaryScaling, head_dim: usize) -> Self {
        let frequency = |i| 1.0 / libm::pow(theta, (2 * i) as f64 / head_dim as f64) as f32;
        Self { frequencies: (0..head_dim / 2).map(|i| scaled(frequency(i), scaling)).collect() }
    }

    /// Angles a position: half a head's width.
    pub(crate) fn half(&self) -> usize {
        self.frequencies.len()
    }

    /// Cosines and sines of these positions, each `[positions, head_dim / 2]`.
    pub(crate) fn cos_sin(&self, positions: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let count = positions.len() * self.half();
        let (mut cosines, mut sines) = (vec![0.0; count], vec![0.0; count]);
        let rows = cosines.par_chunks_mut(self.half()).zip(sines.par_chunks_mut(self.half())).zip(positions);
        rows.with_min_len(POSITIONS_A_TASK).for_each(|((cosines, sines), position)| {
            for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(&self.frequencies) {
                let angle = f64::from(*position as f32 * frequency);
                (*cosine, *sine) = (libm::cos(angle) as f32, libm::sin(angle) as f32);
            }
        });
        (cosines, sines)
    }
}

/// A frequency stretched for long contexts.
fn scaled(frequency: f32, scaling: RotaryScaling) -> f32 {
    match scaling {
        RotaryScaling::None => frequency,
        RotaryScaling::Linear { factor } => frequency / factor as f32,
        RotaryScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context_tokens } => {
            let original = original_context_tokens as f64;
            let wavelength = std::f64::consts::TAU / f64::from(frequency);
            if wavelength < original / high_frequency_factor {
                frequency
            } else if wavelength > original / low_frequency_factor {
                frequency / factor as f32
            } else {
                let smooth =
                    (original / wavelength - low_frequency_factor) / (high_frequency_factor - low_frequency_factor);
                ((1.0 - smooth) * f64::from(frequency) / factor + smooth * f64::from(frequency)) as f32
            }
        }
    }
}
