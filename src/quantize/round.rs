//! Rounding to four bits: a scale for every group of inputs, and a zero point where codes are not counted from the middle.

use half::f16;
use rayon::prelude::*;

use super::Scheme;

/// The largest code of four bits.
const LARGEST_CODE: f32 = 15.0;

/// The zero point of every group in a symmetric scheme.
pub(super) const MIDDLE: u8 = 8;

/// The narrowest range that a group's codes span, so that a group of equal weights still has a scale.
const NARROWEST_RANGE: f32 = 1e-5;

/// A linear layer's codes in 0..=15; `groups` is inputs / group size. A weight is (q − zero) · scale.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Codes {
    /// `[outputs, inputs]`.
    pub(super) q: Vec<u8>,
    /// `[outputs, groups]`.
    pub(super) zeros: Vec<u8>,
    /// `[outputs, groups]`.
    pub(super) scales: Vec<f16>,
}

/// The grid of one group: weights on it are (q − zero) · scale, with q in 0..=15.
#[derive(Debug, Clone, Copy)]
struct Grid {
    scale: f16,
    zero: f32,
}

impl Grid {
    /// The grid from the least to the largest weight. The scale is rounded to binary16 first and all else follows from
    /// it: what is searched for is then what is stored.
    fn of(group: &[f32], symmetric: bool) -> Self {
        let (least, largest) = group
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(least, largest), w| (least.min(*w), largest.max(*w)));
        // Symmetric as compressed-tensors has it: as wide on either side, so that the largest weight is half a step beyond the last code.
        let range = if symmetric { 2.0 * least.abs().max(largest.abs()) } else { largest - least };
        let scale = f16::from_f32(range.max(NARROWEST_RANGE) / LARGEST_CODE);
        let zero = if symmetric {
            f32::from(MIDDLE)
        } else {
            (-(least / scale.to_f32()).round_ties_even()).clamp(0.0, LARGEST_CODE)
        };
        Self { scale, zero }
    }

    fn code(self, weight: f32) -> f32 {
        ((weight / self.scale.to_f32()).round_ties_even() + self.zero).clamp(0.0, LARGEST_CODE)
    }
}

/// The codes of `weights` `[outputs, inputs]`, whose inputs are a multiple of the scheme's group of so many.
pub(super) fn codes(weights: &[f32], inputs: usize, scheme: Scheme) -> Codes {
    let group_size = scheme.group_of(inputs);
    let grids: Vec<Grid> = weights.par_chunks(group_size).map(|group| Grid::of(group, scheme.symmetric)).collect();
    let mut q = vec![0; weights.len()];
    q.par_chunks_mut(group_size).zip(weights.par_chunks(group_size)).zip(&grids).for_each(|((q, weights), grid)| {
        for (q, weight) in q.iter_mut().zip(weights) {
            *q = grid.code(*weight) as u8;
        }
    });
    Codes {
        q,
        zeros: grids.iter().map(|grid| grid.zero as u8).collect(),
        scales: grids.iter().map(|grid| grid.scale).collect(),
    }
}

/// Replaces the weights of one group by what its codes stand for.
pub(super) fn round_group(group: &mut [f32], symmetric: bool) {
    let grid = Grid::of(group, symmetric);
    for weight in group {
        *weight = (grid.code(*weight) - grid.zero) * grid.scale.to_f32();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quantize::Groups;

    fn scheme(symmetric: bool) -> Scheme {
        Scheme { groups: Groups::Channel, symmetric }
    }

    #[test]
    fn a_group_by_hand() {
        // From −1 to 2: the scale is 0.2 in binary16 (0.199951171875), so −1 lies five steps below zero.
        let weights = [-1.0, -0.11, 0.0, 0.29, 2.0];
        let codes = codes(&weights, 5, scheme(false));
        assert_eq!((codes.zeros.as_slice(), codes.scales[0].to_f32()), (&[5][..], 0.199_951_17));
        assert_eq!(codes.q, [0, 4, 5, 6, 15]);
    }

    #[test]
    fn a_symmetric_group_by_hand() {
        // Up to 3.75 either way: the scale is 0.5, and 3.75 would be code 7.5, which rounds to the even 8 and is cut to 7.
        let weights = [-3.75, -0.7, 0.0, 0.3, 3.75];
        let codes = codes(&weights, 5, scheme(true));
        assert_eq!((codes.zeros.as_slice(), codes.scales[0].to_f32()), (&[8][..], 0.5));
        assert_eq!(codes.q, [0, 7, 8, 9, 15]);
    }

    #[test]
    fn groups_without_a_range_and_on_one_side_of_zero() {
        let zeros = codes(&[0.0; 4], 4, scheme(false));
        assert_eq!((zeros.q, zeros.zeros), (vec![0; 4], vec![0]));
        assert!(zeros.scales[0] > f16::ZERO);
        let zeros = codes(&[0.0; 4], 4, scheme(true));
        assert_eq!((zeros.q, zeros.zeros), (vec![8; 4], vec![8]));
        assert!(zeros.scales[0] > f16::ZERO);
        // AutoAWQ's range need not hold zero: weights far from it, in a narrow band, are cut to what 15 steps reach.
        let mut above = [1.0, 1.5];
        round_group(&mut above, false);
        assert_eq!(above[0], above[1]);
        let mut below = [-1.5, -1.0, 0.0];
        round_group(&mut below, false);
        assert!((below[0] + 1.5).abs() < 0.06 && (below[1] + 1.0).abs() < 0.06 && below[2] == 0.0, "{below:?}");
    }

    proptest! {
        #[test]
        fn rounding_is_off_by_half_a_step_and_a_step_at_the_ends(
            weights in prop::collection::vec(-2.0_f32..2.0, 15),
            shift in prop::sample::select(vec![1.0_f32, 1e-3]),
            symmetric: bool,
        ) {
            // With zero in range every weight has a code within reach; the scale's own rounding and the zero point's
            // may cost up to one step at the ends.
            let mut group: Vec<f32> = weights.iter().map(|w| w * shift).chain([0.0]).collect();
            let original = group.clone();
            let codes = codes(&original, 16, scheme(symmetric));
            round_group(&mut group, symmetric);
            let scale = codes.scales[0].to_f32();
            for (index, (rounded, weight)) in group.iter().zip(&original).enumerate() {
                let value = (f32::from(codes.q[index]) - f32::from(codes.zeros[0])) * scale;
                prop_assert_eq!(value, *rounded, "both ways give the same weight");
                prop_assert!((rounded - weight).abs() <= 1.01 * scale, "{} became {}, step {}", weight, rounded, scale);
                let reach = if symmetric { 6.5 } else { 0.0 };
                let inside = weight.abs() <= reach * scale;
                prop_assert!(!inside || (rounded - weight).abs() <= 0.501 * scale, "{} became {}", weight, rounded);
            }
            prop_assert_eq!(group[15], 0.0, "zero stays zero");
        }
    }
}
