//! When requests are sent: by users who wait for their answers, or at a rate that waits for nobody.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::random::{GOLDEN, normal_quantile, split_mix};

/// How the gaps between arrivals are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// All alike.
    Constant,
    /// Exponentially: each moment is as likely as any other.
    Poisson,
    /// As a gamma distribution of this shape: below 1 in bursts, 1 is Poisson, above 1 more evenly.
    Gamma(f64),
}

impl Arrivals {
    /// `constant`, `poisson`, `gamma:0.5`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let shape = |shape: &str| shape.parse().ok().filter(|shape: &f64| shape.is_finite() && *shape > 0.0);
        match text.trim().split_once(':') {
            None if text.trim() == "constant" => Ok(Self::Constant),
            None if text.trim() == "poisson" => Ok(Self::Poisson),
            Some(("gamma", number)) => shape(number).map(Self::Gamma).ok_or_else(|| {
                Fault::new(
                    format!("{text}: {number} is no shape of a gamma distribution"),
                    "give a number above 0: `gamma:0.5`",
                )
            }),
            _ => Err(Fault::new(
                format!("there are no arrivals {text}"),
                "give `constant`, `poisson` or `gamma:SHAPE`, such as `gamma:0.5` for bursts",
            )),
        }
    }

    /// Seconds from the beginning until each of `count` arrivals, `rate` a second on the mean.
    pub fn times(self, rate: f64, count: usize, seed: u64) -> Vec<f64> {
        let mut random = Uniform { state: split_mix(seed ^ 0x6172_7269) };
        let mut now = 0.0;
        (0..count)
            .map(|number| match self {
                Self::Constant => number as f64 / rate,
                Self::Poisson => advance(&mut now, -libm::log(random.next()) / rate),
                Self::Gamma(shape) => advance(&mut now, gamma(shape, &mut random) / shape / rate),
            })
            .collect()
    }
}

/// The moment now, and then the gap behind it.
fn advance(now: &mut f64, gap: f64) -> f64 {
    let at = *now;
    *now += gap;
    at
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Poisson => f.write_str("poisson"),
            Self::Gamma(shape) => write!(f, "gamma:{shape}"),
        }
    }
}

/// Numbers between 0 and 1, without either.
struct Uniform {
    state: u64,
}

impl Uniform {
    fn next(&mut self) -> f64 {
        self.state = self.state.wrapping_add(GOLDEN);
        ((split_mix(self.state) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
}

/// A gamma variate of scale 1 (Marsaglia and Tsang, 2000); below shape 1 by their own correction.
fn gamma(shape: f64, random: &mut Uniform) -> f64 {
    if shape < 1.0 {
        let boost = libm::pow(random.next(), 1.0 / shape);
        return gamma(shape + 1.0, random) * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        let x = normal_quantile(random.next());
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && libm::log(random.next()) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(arrivals: Arrivals) -> Vec<f64> {
        let times = arrivals.times(50.0, 20_001, 7);
        assert_eq!(times[0], 0.0);
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Mean and squared coefficient of variation.
    fn moments(gaps: &[f64]) -> (f64, f64) {
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        (mean, variance / mean / mean)
    }

    #[test]
    fn arrivals_keep_their_rate_and_their_burstiness() {
        for (arrivals, burstiness) in [
            (Arrivals::Constant, 0.0),
            (Arrivals::Poisson, 1.0),
            (Arrivals::Gamma(1.0), 1.0),
            (Arrivals::Gamma(0.25), 4.0),
            (Arrivals::Gamma(4.0), 0.25),
        ] {
            let gaps = gaps(arrivals);
            assert!(gaps.iter().all(|gap| *gap >= 0.0));
            let (mean, squared) = moments(&gaps);
            assert!((mean - 0.02).abs() < 0.02 * 0.05, "{arrivals}: {mean}");
            assert!((squared - burstiness).abs() <= burstiness * 0.12 + 1e-9, "{arrivals}: {squared}");
        }
        assert_eq!(Arrivals::Poisson.times(5.0, 9, 1), Arrivals::Poisson.times(5.0, 9, 1));
        assert_ne!(Arrivals::Poisson.times(5.0, 9, 1), Arrivals::Poisson.times(5.0, 9, 2));
    }

    #[test]
    fn arrivals_are_read_and_written() {
        for text in ["constant", "poisson", "gamma:0.5"] {
            assert_eq!(Arrivals::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "uniform", "gamma", "gamma:", "gamma:-1", "gamma:nan", "poisson:2"] {
            assert!(Arrivals::parse(text).unwrap_err().to_string().contains("hint: "), "{text}");
        }
    }
}
