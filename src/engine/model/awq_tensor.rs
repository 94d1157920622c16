//! AWQ-int4 in the GEMM layout of `AutoAWQ`: four bits a weight, a scale and a zero point a group of inputs.
//!
//! Lin et al., "AWQ: Activation-aware Weight Quantization", 2023. With K inputs, N outputs and groups of g inputs:
//! `qweight` i32 `[K, N/8]`, `qzeros` i32 `[K/g, N/8]`, `scales` f16 `[K/g, N]`, and the weight of input k and output n
//! is (q − z) · s, both codes in 0..=15 and the zero point stored as it is.

use half::f16;
use rayon::prelude::*;

use crate::EngineError;

/// Nibble i (bits 4i to 4i+3) of a word holds column `ORDER[i]` of the word's eight.
const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Columns in a word.
const PACKED: usize = 8;

/// The largest code of four bits.
const LARGEST_CODE: u8 = 15;

/// One linear layer in `AutoAWQ`'s GEMM layout.
#[derive(Debug, Clone, PartialEq)]
pub struct AwqTensor {
    /// K.
    pub inputs: usize,
    /// N, a multiple of 8.
    pub outputs: usize,
    /// Inputs that share a scale and a zero point; divides `inputs`.
    pub group_size: usize,
    /// `[inputs, outputs / 8]`.
    pub qweight: Vec<i32>,
    /// `[inputs / group_size, outputs / 8]`.
    pub qzeros: Vec<i32>,
    /// `[inputs / group_size, outputs]`, finite and above zero.
    pub scales: Vec<f16>,
}

impl AwqTensor {
    /// From codes: `q` `[outputs, inputs]`, `zeros` and `scales` `[outputs, groups]`, all row-major, codes in 0..=15.
    pub fn pack(
        outputs: usize,
        inputs: usize,
        group_size: usize,
        q: &[u8],
        zeros: &[u8],
        scales: &[f16],
    ) -> Result<Self, EngineError> {
        check_dimensions(outputs, inputs, group_size)?;
        let groups = inputs / group_size;
        check_length("codes", q.len(), [outputs, inputs])?;
        check_length("zero points", zeros.len(), [outputs, groups])?;
        check_length("scales", scales.len(), [outputs, groups])?;
        if let Some(code) = q.iter().chain(zeros).find(|code| **code > LARGEST_CODE) {
            return Err(invalid(format!("the code {code} does not fit into four bits")));
        }
        let tensor = Self {
            inputs,
            outputs,
            group_size,
            qweight: pack_columns(q, outputs, inputs),
            qzeros: pack_columns(zeros, outputs, groups),
            scales: transpose(scales, outputs, groups),
        };
        tensor.check().map(|()| tensor)
    }

    /// Every dimension, length and scale. Errors are about the tensor itself; the reader adds its name.
    pub fn check(&self) -> Result<(), EngineError> {
        check_dimensions(self.outputs, self.inputs, self.group_size)?;
        let (groups, words) = (self.groups(), self.outputs / PACKED);
        check_length("qweight", self.qweight.len(), [self.inputs, words])?;
        check_length("qzeros", self.qzeros.len(), [groups, words])?;
        check_length("scales", self.scales.len(), [groups, self.outputs])?;
        match self.scales.iter().position(|scale| !(scale.is_finite() && *scale > f16::ZERO)) {
            None => Ok(()),
            Some(index) => Err(invalid(format!(
                "the scale of output {}, group {} is {}; scales are finite and above zero",
                index % self.outputs,
                index / self.outputs,
                self.scales[index]
            ))),
        }
    }

    /// Groups along the inputs.
    pub const fn groups(&self) -> usize {
        self.inputs / self.group_size
    }

    /// The weights' codes, `[outputs, inputs]` row-major.
    pub fn codes(&self) -> Vec<u8> {
        unpack_columns(&self.qweight, self.outputs, self.inputs)
    }

    /// The zero points' codes, `[outputs, groups]` row-major.
    pub fn zeros(&self) -> Vec<u8> {
        unpack_columns(&self.qzeros, self.outputs, self.groups())
    }

    /// The scales, `[outputs, groups]` row-major.
    pub fn scales_by_output(&self) -> Vec<f16> {
        transpose(&self.scales, self.groups(), self.outputs)
    }

    /// (q − z) · s in f32, exactly (five bits times eleven fit into 24), `[outputs, inputs]` row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let (q, zeros, scales) = (self.codes(), self.zeros(), self.scales_by_output());
        let mut weights = vec![0.0; q.len()];
        let groups = weights.par_chunks_mut(self.group_size).zip(q.par_chunks(self.group_size));
        groups.zip(zeros.par_iter().zip(&scales)).for_each(|((weights, q), (zero, scale))| {
            for (weight, q) in weights.iter_mut().zip(q) {
                *weight = (f32::from(*q) - f32::from(*zero)) * scale.to_f32();
            }
        });
        weights
    }
}

/// `[outputs, rows]` of codes to words `[rows, outputs / 8]`.
fn pack_columns(codes: &[u8], outputs: usize, rows: usize) -> Vec<i32> {
    let words = outputs / PACKED;
    let mut packed = vec![0; rows * words];
    packed.par_chunks_mut(words).enumerate().for_each(|(row, packed)| {
        for (index, word) in packed.iter_mut().enumerate() {
            let nibbles = ORDER.iter().rev();
            let bits =
                nibbles.fold(0, |bits, column| bits << 4 | u32::from(codes[(index * PACKED + column) * rows + row]));
            *word = bits.cast_signed();
        }
    });
    packed
}

/// The inverse of [`pack_columns`].
fn unpack_columns(packed: &[i32], outputs: usize, rows: usize) -> Vec<u8> {
    let words = outputs / PACKED;
    let mut codes = vec![0; rows * outputs];
    codes.par_chunks_mut(rows * PACKED).enumerate().for_each(|(index, codes)| {
        for row in 0..rows {
            let word = packed[row * words + index].cast_unsigned();
            for (nibble, column) in ORDER.iter().enumerate() {
                codes[column * rows + row] = (word >> (4 * nibble) & 15) as u8;
            }
        }
    });
    codes
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

fn check_dimensions(outputs: usize, inputs: usize, group_size: usize) -> Result<(), EngineError> {
    if outputs == 0 || !outputs.is_multiple_of(PACKED) {
        return Err(invalid(format!("{outputs} outputs do not fill words of eight codes each")));
    }
    if inputs == 0 || group_size == 0 || !inputs.is_multiple_of(group_size) {
        return Err(invalid(format!("{inputs} inputs do not divide into groups of {group_size}")));
    }
    Ok(())
}

fn check_length(what: &str, length: usize, shape: [usize; 2]) -> Result<(), EngineError> {
    if length == shape[0] * shape[1] {
        return Ok(());
    }
    Err(invalid(format!("{length} {what}, but the shape {shape:?} holds {}", shape[0] * shape[1])))
}

fn invalid(what: String) -> EngineError {
    EngineError::invalid(what, "quantise the model anew, with a group size that divides every layer's inputs: 32 or 64")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_published_vector() {
        let q: Vec<u8> = (0..8).collect();
        let tensor = AwqTensor::pack(8, 1, 1, &q, &q, &[f16::ONE; 8]).unwrap();
        assert_eq!(tensor.qweight, [0x7531_6420]);
        assert_eq!(tensor.qzeros, [0x7531_6420]);
        assert_eq!(tensor.codes(), q);
    }

    #[test]
    fn a_tensor_by_hand() {
        // Sixteen outputs, two inputs in a group each: output n has the codes n and 15 − n, zeros 0 and 8.
        let q: Vec<u8> = (0..16).flat_map(|n| [n, 15 - n]).collect();
        let zeros: Vec<u8> = [0, 8].repeat(16);
        let scales: Vec<f16> = [0.5, 0.25].map(f16::from_f32).repeat(16);
        let tensor = AwqTensor::pack(16, 2, 1, &q, &zeros, &scales).unwrap();
        assert_eq!(tensor.qweight[..2], [0x7531_6420, 0xfdb9_eca8_u32.cast_signed()]);
        assert_eq!(tensor.qzeros, [0, 0, 0x8888_8888_u32.cast_signed(), 0x8888_8888_u32.cast_signed()]);
        let weights = tensor.dequantize();
        for n in 0..16 {
            assert_eq!(weights[2 * n..2 * n + 2], [n as f32 * 0.5, (7.0 - n as f32) * 0.25]);
        }
    }

    fn random(count: usize, seed: u64) -> Vec<u32> {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        (0..count).map(|_| next()).collect()
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(
            words in 1_usize..9, groups in 1_usize..6, group_size in 1_usize..40, seed in any::<u64>()
        ) {
            let (outputs, inputs) = (words * 8, groups * group_size);
            let codes = |count, seed| random(count, seed).into_iter().map(|bits| (bits & 15) as u8).collect::<Vec<u8>>();
            let (q, zeros) = (codes(outputs * inputs, seed), codes(outputs * groups, seed ^ 7));
            let scales: Vec<f16> = random(outputs * groups, seed ^ 9)
                .into_iter()
                .map(|bits| f16::from_bits((bits % 0x7bff + 1) as u16))
                .collect();
            let tensor = AwqTensor::pack(outputs, inputs, group_size, &q, &zeros, &scales).unwrap();
            prop_assert_eq!(tensor.qweight.len(), inputs * words);
            prop_assert_eq!(tensor.qzeros.len(), groups * words);
            prop_assert_eq!(tensor.codes(), q.clone());
            prop_assert_eq!(tensor.zeros(), zeros.clone());
            prop_assert_eq!(tensor.scales_by_output(), scales.clone());
            let weights = tensor.dequantize();
            for n in 0..outputs {
                for k in 0..inputs {
                    let at = n * groups + k / group_size;
                    let exact = (i32::from(q[n * inputs + k]) - i32::from(zeros[at])) as f64 * scales[at].to_f64();
                    prop_assert_eq!(f64::from(weights[n * inputs + k]).to_bits(), (exact + 0.0).to_bits());
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let pack = |outputs, inputs, group_size, codes: usize, zero, scale| {
            let (q, zeros, scales) = (vec![3; codes], vec![zero; outputs], vec![f16::from_f32(scale); outputs]);
            AwqTensor::pack(outputs, inputs, group_size, &q, &zeros, &scales).map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(pack(8, 4, 4, 32, 15, 1.0), Ok(()));
        for (result, part) in [
            (pack(8, 6, 4, 48, 1, 1.0), "6 inputs do not divide into groups of 4"),
            (pack(8, 4, 0, 32, 1, 1.0), "groups of 0"),
            (pack(12, 4, 4, 48, 1, 1.0), "12 outputs"),
            (pack(8, 4, 4, 31, 1, 1.0), "31 codes, but the shape [8, 4] holds 32"),
            (pack(8, 4, 4, 32, 16, 1.0), "16 does not fit"),
            (pack(8, 4, 4, 32, 1, 0.0), "output 0, group 0 is 0"),
            (pack(8, 4, 4, 32, 1, f32::NAN), "is NaN"),
            (pack(8, 4, 4, 32, 1, f32::INFINITY), "is inf"),
        ] {
            let error = result.unwrap_err();
            assert!(error.contains(part) && error.contains("hint:"), "{error}");
        }
    }
}
