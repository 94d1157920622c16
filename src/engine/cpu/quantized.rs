//! Weights of eight and of four bits. They stay so in memory, and become binary32 a few rows at a time on their way into a
//! product.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::simd::{Kernel, Lanes, vectorize};
use super::widened::{BLOCK, Int4Row, WEIGHT_ROWS};
use crate::model::AwqTensor;

/// Eight bits a weight, symmetric, one scale a row (the absmax of `LLM.int8`, Dettmers et al., 2022, on weights only):
/// scale = max|w| / 127, code = w / scale rounded to nearest, ties to even. A weight is code · scale, rounded to
/// binary32.
#[derive(Debug)]
pub struct Int8Weights {
    inputs: usize,
    /// `[outputs, inputs]`.
    codes: Vec<i8>,
    /// `[outputs]`.
    scales: Vec<f32>,
}

impl Int8Weights {
    /// From finite weights `[outputs, inputs]`.
    pub(crate) fn new(weights: &[f32], inputs: usize) -> Self {
        let mut codes = Vec::with_capacity(weights.len());
        let mut scales = Vec::with_capacity(weights.len() / inputs.max(1));
        for row in weights.chunks(inputs.max(1)) {
            let scale = row.iter().fold(0.0, |largest: f32, weight| largest.max(weight.abs())) / 127.0;
            // Weights that are all zero, or too small for a scale, are zeros.
            let code = |weight: &f32| if scale > 0.0 { (weight / scale).round_ties_even() as i8 } else { 0 };
            codes.extend(row.iter().map(code));
            scales.push(scale);
        }
        Self { inputs, codes, scales }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.codes.as_slice()) + size_of_val(self.scales.as_slice())
    }

    /// Codes `[outputs, inputs]` and scales of the rows from `first` on.
    pub(super) fn rows(&self, first: usize) -> (&[i8], &[f32]) {
        (&self.codes[first * self.inputs..], &self.scales[first..])
    }

    /// The weights of the rows from `first` on, as many as `out` has room for.
    pub(crate) fn unpack(&self, first: usize, out: &mut [f32]) {
        vectorize(Int8Rows { weights: self, first, out });
    }
}

struct Int8Rows<'a> {
    weights: &'a Int8Weights,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for Int8Rows<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { weights: Int8Weights { inputs, codes, scales }, first, out } = self;
        let rows = out.chunks_exact_mut(*inputs).zip(codes[first * inputs..].chunks_exact(*inputs));
        for ((out, codes), scale) in rows.zip(&scales[first..]) {
            for (weight, code) in out.iter_mut().zip(codes) {
                *weight = f32::from(*code) * scale;
            }
        }
    }
}

/// The four bits of an [`AwqTensor`], laid out for a machine that reads along the inputs: every group of a row is cut into
/// blocks of 32 inputs, 16 bytes each, where byte i holds the codes of inputs i (low) and i + 16 (high) of the block. A
/// group's last block may be part empty. A weight is (q − z) · s, exactly.
#[derive(Debug)]
pub struct Int4Weights {
    inputs: usize,
    group_size: usize,
    /// `[outputs, groups, blocks a group, 16]`.
    codes: Vec<[u8; BLOCK / 2]>,
    /// `[outputs, groups]`.
    zeros: Vec<u8>,
    /// `[outputs, groups]`.
    scales: Vec<f16>,
}

impl Int4Weights {
    /// The rows of one or more layers of one input and one group size, one below the other.
    pub(crate) fn stack(tensors: Vec<AwqTensor>) -> Self {
        let (inputs, group_size) = tensors.first().map_or((1, 1), |first| (first.inputs, first.group_size));
        debug_assert!(tensors.iter().all(|tensor| (tensor.inputs, tensor.group_size) == (inputs, group_size)));
        let mut stacked = Self { inputs, group_size, codes: Vec::new(), zeros: Vec::new(), scales: Vec::new() };
        for tensor in tensors {
            let blocks = tensor.codes();
            stacked.codes.extend(blocks.chunks(group_size).flat_map(|group| group.chunks(BLOCK)).map(pack_block));
            stacked.zeros.extend(tensor.zeros());
            stacked.scales.extend(tensor.scales_by_output());
        }
        stacked
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.codes.as_slice()) + self.zeros.len() + size_of_val(self.scales.as_slice())
    }

    /// The rows from `first` on where their groups are whole blocks, and the blocks of a group. Their scales go to `scratch`.
    pub(super) fn whole_blocks<'a>(
        &'a self,
        first: usize,
        scratch: &'a mut Vec<f32>,
    ) -> Option<([Int4Row<'a>; WEIGHT_ROWS], usize)> {
        if !self.group_size.is_multiple_of(BLOCK) {
            return None;
        }
        let (groups, blocks) = (self.inputs / self.group_size, self.group_size / BLOCK);
        let range = first * groups..(first + WEIGHT_ROWS) * groups;
        scratch.resize(range.len(), 0.0);
        self.scales[range].convert_to_f32_slice(scratch);
        let scales: &[f32] = scratch;
        let row = |j: usize| {
            let range = (first + j) * groups..(first + j + 1) * groups;
            Int4Row {
                codes: &self.codes[range.start * blocks..range.end * blocks],
                zeros: &self.zeros[range],
                scales: &scales[j * groups..(j + 1) * groups],
            }
        };
        Some(([row(0), row(1), row(2), row(3)], blocks))
    }

    /// The weights of the rows from `first` on, as many as `out` has room for.
    pub(crate) fn unpack(&self, first: usize, out: &mut [f32]) {
        let groups = self.inputs / self.group_size;
        let range = first * groups..(first + out.len() / self.inputs) * groups;
        // All at once: conversions one by one would ask for the instruction set each time.
        let mut scales = vec![0.0; range.len()];
        self.scales[range.clone()].convert_to_f32_slice(&mut scales);
        let blocks = self.group_size.div_ceil(BLOCK);
        let codes = &self.codes[range.start * blocks..range.end * blocks];
        vectorize(Int4Groups { codes, zeros: &self.zeros[range], scales: &scales, group_size: self.group_size, out });
    }
}

/// Up to 32 codes.
fn pack_block(codes: &[u8]) -> [u8; BLOCK / 2] {
    let mut block = [0; BLOCK / 2];
    for (i, code) in codes.iter().enumerate() {
        block[i % (BLOCK / 2)] |= code << (4 * (i / (BLOCK / 2)));
    }
    block
}

struct Int4Groups<'a> {
    codes: &'a [[u8; BLOCK / 2]],
    zeros: &'a [u8],
    scales: &'a [f32],
    group_size: usize,
    out: &'a mut [f32],
}

impl Kernel for Int4Groups<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { codes, zeros, scales, group_size, out } = self;
        let groups = out.chunks_exact_mut(group_size).zip(codes.chunks_exact(group_size.div_ceil(BLOCK)));
        for (((out, codes), zero), scale) in groups.zip(zeros).zip(scales) {
            let zero = f32::from(*zero);
            let (whole, rest) = out.as_chunks_mut::<BLOCK>();
            for (out, codes) in whole.iter_mut().zip(codes) {
                unpack_block(codes, zero, *scale, out);
            }
            if let (false, Some(codes)) = (rest.is_empty(), codes.last()) {
                let mut block = [0.0; BLOCK];
                unpack_block(codes, zero, *scale, &mut block);
                rest.copy_from_slice(&block[..rest.len()]);
            }
        }
    }
}

/// (q − z) · s of 32 codes: both steps are exact in binary32.
#[inline(always)]
fn unpack_block(codes: &[u8; BLOCK / 2], zero: f32, scale: f32, out: &mut [f32; BLOCK]) {
    for lane in 0..BLOCK / 2 {
        out[lane] = (f32::from(codes[lane] & 15) - zero) * scale;
    }
    for lane in 0..BLOCK / 2 {
        out[BLOCK / 2 + lane] = (f32::from(codes[lane] >> 4) - zero) * scale;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::linear::{Linear, Matrix, Weights};
    use super::super::simd::{InstructionSet, vectorize_for};
    use super::*;

    fn random(count: usize, seed: u64) -> Vec<u32> {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        (0..count).map(|_| next()).collect()
    }

    fn codes(count: usize, seed: u64) -> Vec<u8> {
        random(count, seed).into_iter().map(|bits| (bits & 15) as u8).collect()
    }

    /// Repeatable numbers from −1 to 1.
    pub(in super::super) fn floats(count: usize, seed: u64) -> Vec<f32> {
        random(count, seed).into_iter().map(|bits| bits as f32 / (1_u32 << 30) as f32 - 1.0).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    proptest! {
        /// The kernel computes from the packed weights what a dense layer computes from their exact values, bit for bit.
        #[test]
        fn a_packed_layer_is_the_dense_layer_of_its_values(
            words in 1_usize..5, groups in 1_usize..5, group_size in 1_usize..140, rows in 1_usize..7, seed in any::<u64>()
        ) {
            let (outputs, inputs) = (8 * words, groups * group_size);
            let (q, zeros) = (codes(outputs * inputs, seed), codes(outputs * groups, seed ^ 1));
            let scales: Vec<f16> =
                floats(outputs * groups, seed ^ 2).into_iter().map(|x| f16::from_f32(x.abs() + 1e-5)).collect();
            let dense: Vec<f32> = (0..outputs * inputs)
                .map(|at| {
                    let group = at / inputs * groups + at % inputs / group_size;
                    ((i32::from(q[at]) - i32::from(zeros[group])) as f64 * scales[group].to_f64()) as f32
                })
                .collect();
            let tensor = AwqTensor::pack(outputs, inputs, group_size, &q, &zeros, &scales).unwrap();
            let packed = Int4Weights::stack(vec![tensor]);
            prop_assert!(group_size % BLOCK > 0 || packed.bytes() <= outputs * (inputs / 2 + 3 * groups));
            let x = Matrix { columns: inputs, values: floats(rows * inputs, seed ^ 3) };
            let layer = |weights| Linear { outputs, inputs, weights, bias: None }.forward(&x).values;
            prop_assert_eq!(bits(&layer(Weights::Int4(packed))), bits(&layer(Weights::F32(dense))));
        }

        #[test]
        fn every_instruction_set_unpacks_the_same_bits(group_size in 1_usize..140, seed in any::<u64>()) {
            let tensor = AwqTensor::pack(
                8,
                3 * group_size,
                group_size,
                &codes(24 * group_size, seed),
                &codes(24, seed ^ 1),
                &[f16::from_f32(0.013); 24],
            )
            .unwrap();
            let weights = Int4Weights::stack(vec![tensor]);
            let scales: Vec<f32> = weights.scales.iter().map(|scale| scale.to_f32()).collect();
            let int8 = Int8Weights::new(&floats(24 * group_size, seed ^ 2), 3 * group_size);
            let results = [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512].map(|set| {
                let (mut four, mut eight) = (vec![0.0; 24 * group_size], vec![0.0; 24 * group_size]);
                let (codes, zeros) = (&weights.codes[..], &weights.zeros[..]);
                vectorize_for(set, Int4Groups { codes, zeros, scales: &scales, group_size, out: &mut four });
                vectorize_for(set, Int8Rows { weights: &int8, first: 0, out: &mut eight });
                (bits(&four), bits(&eight))
            });
            prop_assert_eq!(&results[0], &results[1]);
            prop_assert_eq!(&results[0], &results[2]);
        }
    }

    #[test]
    fn eight_bits_by_hand() {
        let weights =
            [1.27, -1.27, 0.0, 0.634, /* second row */ 0.0, 0.0, 0.0, 0.0, /* third */ -254.0, 3.0, 5.0, 1.0];
        let packed = Int8Weights::new(&weights, 4);
        assert_eq!(bits(&packed.scales), bits(&[1.27 / 127.0, 0.0, 2.0]));
        // 1.5, 2.5 and 0.5 go to the even neighbour.
        assert_eq!(packed.codes, [127, -127, 0, 63, 0, 0, 0, 0, -127, 2, 2, 0]);
        let mut out = [9.0; 8];
        packed.unpack(1, &mut out);
        assert_eq!(bits(&out), bits(&[0.0, 0.0, 0.0, 0.0, -254.0, 4.0, 4.0, 0.0]));
        assert_eq!(packed.bytes(), 12 + 3 * 4);
    }

    #[test]
    fn eight_bits_are_off_by_half_a_step_at_most() {
        let weights = floats(64 * 100, 3);
        let packed = Int8Weights::new(&weights, 100);
        let mut out = vec![0.0; weights.len()];
        packed.unpack(0, &mut out);
        for (at, (weight, found)) in weights.iter().zip(&out).enumerate() {
            let scale = packed.scales[at / 100];
            // Half a step, and two roundings of numbers up to 127 steps.
            assert!((weight - found).abs() <= scale * (0.5 + 127.0 * f32::EPSILON), "{at}: {weight} became {found}");
        }
    }
}
