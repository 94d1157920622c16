//! The angles of rotary embedding, the same numbers for every engine.

use rayon::prelude::*;

use super::{ModelConfig, PositionKind, RotaryScaling};

/// Positions that one thread works on at a time.
const POSITIONS_A_TASK: usize = 64;

/// Rotary embedding (Su et al., 2021), halves rotated as in Hugging Face's layout. Frequencies and angles are binary32, as in
/// transformers, so that both rotate by the same angle at far positions too.
#[derive(Debug)]
pub(crate) struct Rotary {
    /// `[rotated / 2]`, in radians a position.
    frequencies: Vec<f32>,
    /// Factor of cosines and sines.
    magnitude: f32,
}

impl Rotary {
    /// Frequencies for heads of which so many elements are rotated.
    pub(crate) fn new(theta: f64, scaling: RotaryScaling, rotated: usize) -> Self {
        Self::divided(theta, scaling, rotated, &[])
    }

    /// The same with a divisor for each frequency, where there are any.
    fn divided(theta: f64, scaling: RotaryScaling, rotated: usize, divisors: &[f64]) -> Self {
        let wavelength = |i| libm::pow(theta, (2 * i) as f64 / rotated as f64) as f32;
        let mut wavelengths: Vec<f32> = (0..rotated / 2).map(wavelength).collect();
        for (wavelength, divisor) in wavelengths.iter_mut().zip(divisors) {
            *wavelength *= *divisor as f32;
        }
        let frequencies = match scaling {
            RotaryScaling::Yarn { .. } => yarn(&wavelengths, theta, scaling),
            _ => wavelengths.iter().map(|wavelength| scaled(1.0 / wavelength, scaling)).collect(),
        };
        let magnitude = match scaling {
            RotaryScaling::Yarn { magnitude, .. } | RotaryScaling::LongRope { magnitude } => magnitude as f32,
            RotaryScaling::None | RotaryScaling::Linear { .. } | RotaryScaling::Llama3 { .. } => 1.0,
        };
        Self { frequencies, magnitude }
    }

    /// Those of a model, where its positions are rotary.
    pub(crate) fn of(config: &ModelConfig) -> Option<Self> {
        let PositionKind::Rotary { theta, scaling } = config.position else { return None };
        Some(Self::divided(theta, scaling, config.rotated_elements(), &config.features.rotary_divisors))
    }

    /// Those of a model's windowed layers, where they have their own.
    pub(crate) fn of_windowed(config: &ModelConfig) -> Option<Self> {
        let theta = config.features.windowed_theta?;
        Some(Self::new(theta, RotaryScaling::None, config.rotated_elements()))
    }

    /// Angles a position: half a head's width.
    pub(crate) fn half(&self) -> usize {
        self.frequencies.len()
    }

    /// Cosines and sines of these positions, each `[positions, rotated / 2]`.
    pub(crate) fn cos_sin(&self, positions: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let count = positions.len() * self.half();
        let (mut cosines, mut sines) = (vec![0.0; count], vec![0.0; count]);
        let rows = cosines.par_chunks_mut(self.half()).zip(sines.par_chunks_mut(self.half())).zip(positions);
        rows.with_min_len(POSITIONS_A_TASK).for_each(|((cosines, sines), position)| {
            for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(&self.frequencies) {
                let angle = f64::from(*position as f32 * frequency);
                *cosine = libm::cos(angle) as f32 * self.magnitude;
                *sine = libm::sin(angle) as f32 * self.magnitude;
            }
        });
        (cosines, sines)
    }
}

/// A frequency stretched for long contexts.
fn scaled(frequency: f32, scaling: RotaryScaling) -> f32 {
    match scaling {
        RotaryScaling::None | RotaryScaling::Yarn { .. } | RotaryScaling::LongRope { .. } => frequency,
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

/// `YaRN`: which frequencies are divided depends on how often they turn within the original context, and so on their number.
fn yarn(wavelengths: &[f32], theta: f64, scaling: RotaryScaling) -> Vec<f32> {
    let RotaryScaling::Yarn { factor, beta_fast, beta_slow, original_context_tokens, truncate, .. } = scaling else {
        return Vec::new();
    };
    let rotated = (2 * wavelengths.len()) as f64;
    let number = |turns: f64| {
        let wavelength = original_context_tokens as f64 / turns;
        rotated * libm::log(wavelength / std::f64::consts::TAU) / (2.0 * libm::log(theta))
    };
    let (mut low, mut high) = (number(beta_fast), number(beta_slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(rotated - 1.0));
    if (low - high).abs() <= 0.0 {
        high += 0.001; // as in transformers: a ramp of no length would divide by zero
    }
    let frequency = |(index, wavelength): (usize, &f32)| {
        let ramp = ((index as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
        1.0 / (factor as f32 * wavelength) * ramp + 1.0 / wavelength * (1.0 - ramp)
    };
    wavelengths.iter().enumerate().map(frequency).collect()
}
