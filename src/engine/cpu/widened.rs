//! Products of few rows, as one request's decode step has them, with weights of fewer bits than binary32: these are widened in registers, on
//! their way into the sums, where [`super::linear`] otherwise writes them to memory and reads them again. Values, sums and their order are those
//! of [`super::simd::dots`], bit for bit.

use half::{bf16, f16};

use super::simd::{LANES, Lanes, padded};

/// Rows of weights that are multiplied at a time.
pub(super) const WEIGHT_ROWS: usize = 4;

/// Codes in a block of four bits.
pub(super) const BLOCK: usize = 2 * LANES;

/// Numbers that sixteen binary32 numbers can be made of.
pub(super) trait Narrow: Copy {
    /// Whose value is 0.
    const ZERO: Self;

    /// Sixteen of them.
    fn widen<L: Lanes>(from: &[Self; LANES]) -> L;
}

impl Narrow for f16 {
    const ZERO: Self = Self::ZERO;

    #[inline(always)]
    fn widen<L: Lanes>(from: &[Self; LANES]) -> L {
        L::of_f16(from)
    }
}

impl Narrow for bf16 {
    const ZERO: Self = Self::ZERO;

    #[inline(always)]
    fn widen<L: Lanes>(from: &[Self; LANES]) -> L {
        L::of_bf16(from)
    }
}

impl Narrow for i8 {
    const ZERO: Self = 0;

    #[inline(always)]
    fn widen<L: Lanes>(from: &[Self; LANES]) -> L {
        L::of_i8(from)
    }
}

/// Sums of M rows of x and of the rows of weights at hand.
type Sums<L, const M: usize> = [[L; WEIGHT_ROWS]; M];

#[inline(always)]
fn fold<L: Lanes, const M: usize>(sums: Sums<L, M>) -> [[f32; WEIGHT_ROWS]; M] {
    let mut results = [[0.0; WEIGHT_ROWS]; M];
    for i in 0..M {
        for j in 0..WEIGHT_ROWS {
            results[i][j] = sums[i][j].fold();
        }
    }
    results
}

/// Σₖ x[i][k] · w[j][k] for every pair (i, j), each weight times its row's scale and rounded where rows have scales.
#[inline(always)]
pub(super) fn dots<L: Lanes, N: Narrow, const M: usize>(
    x: [&[f32]; M],
    w: [&[N]; WEIGHT_ROWS],
    scales: Option<[f32; WEIGHT_ROWS]>,
) -> [[f32; WEIGHT_ROWS]; M] {
    let length = x[0].len();
    let whole = length - length % LANES;
    let mut x_chunks: [&[[f32; LANES]]; M] = [&[]; M];
    let mut w_chunks: [&[[N; LANES]]; WEIGHT_ROWS] = [&[]; WEIGHT_ROWS];
    for i in 0..M {
        x_chunks[i] = &x[i].as_chunks().0[..whole / LANES];
    }
    for j in 0..WEIGHT_ROWS {
        w_chunks[j] = &w[j].as_chunks().0[..whole / LANES];
    }
    let mut sums: Sums<L, M> = [[L::zero(); WEIGHT_ROWS]; M];
    for chunk in 0..whole / LANES {
        for j in 0..WEIGHT_ROWS {
            let mut weights = N::widen::<L>(&w_chunks[j][chunk]);
            if let Some(scales) = scales {
                weights = weights.times(scales[j]);
            }
            for i in 0..M {
                sums[i][j] = sums[i][j].add_product_of(&x_chunks[i][chunk], weights);
            }
        }
    }
    if whole < length {
        for j in 0..WEIGHT_ROWS {
            let mut weights = N::widen::<L>(&padded(&w[j][whole..], N::ZERO));
            if let Some(scales) = scales {
                weights = weights.times(scales[j]);
            }
            for i in 0..M {
                sums[i][j] = sums[i][j].add_product_of(&padded(&x[i][whole..], 0.0), weights);
            }
        }
    }
    fold(sums)
}

/// Rows of codes of four bits, in groups of whole blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Int4Row<'a> {
    /// `[groups, blocks a group]`; byte i of a block has the codes of its inputs i (low) and i + 16 (high).
    pub(super) codes: &'a [[u8; LANES]],
    /// `[groups]`.
    pub(super) zeros: &'a [u8],
    /// `[groups]`.
    pub(super) scales: &'a [f32],
}

/// The same of weights (q − z) · s.
#[inline(always)]
pub(super) fn int4_dots<L: Lanes, const M: usize>(
    x: [&[f32]; M],
    w: [Int4Row<'_>; WEIGHT_ROWS],
    blocks: usize,
) -> [[f32; WEIGHT_ROWS]; M] {
    let mut sums: Sums<L, M> = [[L::zero(); WEIGHT_ROWS]; M];
    for group in 0..w[0].zeros.len() {
        let first = group * blocks;
        let mut x_blocks: [&[[f32; BLOCK]]; M] = [&[]; M];
        let mut codes: [&[[u8; LANES]]; WEIGHT_ROWS] = [&[]; WEIGHT_ROWS];
        let (mut zeros, mut scales) = ([0.0; WEIGHT_ROWS], [0.0; WEIGHT_ROWS]);
        for i in 0..M {
            x_blocks[i] = &x[i].as_chunks().0[first..first + blocks];
        }
        for j in 0..WEIGHT_ROWS {
            codes[j] = &w[j].codes[first..first + blocks];
            (zeros[j], scales[j]) = (f32::from(w[j].zeros[group]), w[j].scales[group]);
        }
        for block in 0..blocks {
            for j in 0..WEIGHT_ROWS {
                let (low, high) = L::of_nibbles(&codes[j][block]);
                let (low, high) = (low.minus(zeros[j]).times(scales[j]), high.minus(zeros[j]).times(scales[j]));
                for i in 0..M {
                    let [first, second] = halves(&x_blocks[i][block]);
                    sums[i][j] = sums[i][j].add_product_of(first, low).add_product_of(second, high);
                }
            }
        }
    }
    fold(sums)
}

#[inline(always)]
fn halves(block: &[f32; BLOCK]) -> [&[f32; LANES]; 2] {
    let (chunks, _) = block.as_chunks();
    [&chunks[0], &chunks[1]]
}
