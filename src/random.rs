//! Random numbers that are a function of a counter, and the normal distribution.

/// `SplitMix64`'s step between states (Steele, Lea and Flood, 2014).
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// `SplitMix64`'s first output with this seed. Output number i is that of `seed + i · GOLDEN`.
pub const fn split_mix(seed: u64) -> u64 {
    mix(seed.wrapping_add(GOLDEN))
}

/// `SplitMix64`'s output function: a permutation of the numbers of 64 bits that leaves no trace of order.
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The standard normal distribution's quantile, by bisection of Φ(x) = ½ · erfc(−x / √2); between −8 and 8.
pub fn normal_quantile(probability: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if 0.5 * libm::erfc(-middle / std::f64::consts::SQRT_2) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_mix_matches_the_published_sequence() {
        // The first outputs of the reference implementation seeded with 1234567.
        assert_eq!(split_mix(1_234_567), 6_457_827_717_110_365_317);
        assert_eq!(split_mix(1_234_567_u64.wrapping_add(GOLDEN)), 3_203_168_211_198_807_973);
    }

    #[test]
    fn quantiles_are_the_published_ones() {
        for (probability, expected) in [(0.5, 0.0), (0.975, 1.959_963_984_540_054), (0.001, -3.090_232_306_167_813)] {
            assert!((normal_quantile(probability) - expected).abs() < 1e-9, "{probability}");
        }
    }
}
