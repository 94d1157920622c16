//! Types of blocks: their sizes, their names, and the values that they stand for. Most are dequantised by candle.

use std::borrow::Cow;

use candle_core::CpuStorage;
use candle_core::quantized::GgmlDType;
use half::f16;

use crate::EngineError;

/// A type of ggml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum BlockType {
    /// One that candle reads.
    Candle(GgmlDType),
    /// 32 values, four bits into a table, a scale.
    Iq4Nl,
    /// 256 values, the same table, a scale for every 32 of them.
    Iq4Xs,
    /// 32 values, four bits into the numbers of FP4, and an exponent.
    Mxfp4,
}

/// What four bits stand for in the `IQ4` types.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// What four bits stand for in FP4 (E2M1), doubled.
const FP4_TWICE: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Every type that is read, in words.
pub(super) const READ: &str =
    "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS and MXFP4";

impl BlockType {
    /// By ggml's number.
    pub(super) const fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Candle(GgmlDType::F32),
            1 => Self::Candle(GgmlDType::F16),
            2 => Self::Candle(GgmlDType::Q4_0),
            3 => Self::Candle(GgmlDType::Q4_1),
            6 => Self::Candle(GgmlDType::Q5_0),
            7 => Self::Candle(GgmlDType::Q5_1),
            8 => Self::Candle(GgmlDType::Q8_0),
            10 => Self::Candle(GgmlDType::Q2K),
            11 => Self::Candle(GgmlDType::Q3K),
            12 => Self::Candle(GgmlDType::Q4K),
            13 => Self::Candle(GgmlDType::Q5K),
            14 => Self::Candle(GgmlDType::Q6K),
            20 => Self::Iq4Nl,
            23 => Self::Iq4Xs,
            30 => Self::Candle(GgmlDType::BF16),
            39 => Self::Mxfp4,
            _ => return None,
        })
    }

    /// Values in a block.
    pub(super) fn values(self) -> usize {
        match self {
            Self::Candle(dtype) => dtype.block_size(),
            Self::Iq4Nl | Self::Mxfp4 => 32,
            Self::Iq4Xs => 256,
        }
    }

    /// Bytes of a block.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Candle(dtype) => dtype.type_size(),
            Self::Iq4Nl => 18,
            Self::Iq4Xs => 136,
            Self::Mxfp4 => 17,
        }
    }

    /// llama.cpp's name.
    pub(in crate::model) fn name(self) -> String {
        let dtype = match self {
            Self::Candle(dtype) => dtype,
            Self::Iq4Nl => return "IQ4_NL".to_owned(),
            Self::Iq4Xs => return "IQ4_XS".to_owned(),
            Self::Mxfp4 => return "MXFP4".to_owned(),
        };
        let name = format!("{dtype:?}");
        match dtype {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => name.to_lowercase(),
            // candle writes Q4K where llama.cpp writes Q4_K.
            _ => name.strip_suffix('K').map_or(name.clone(), |stem| format!("{stem}_K")),
        }
    }

    /// The values of whole blocks, `count` of them in all.
    pub(in crate::model) fn dequantize(self, bytes: Vec<u8>, count: usize) -> Result<Vec<f32>, EngineError> {
        let mut values = Vec::with_capacity(count);
        match self {
            Self::Candle(dtype) => {
                return match dtype.from_data(Cow::Owned(bytes)).dequantize(count)? {
                    CpuStorage::F32(values) => Ok(values),
                    _ => Err(EngineError::failed(
                        format!("candle dequantises {} to another type than f32", self.name()),
                        "take another quantisation of the model",
                    )),
                };
            }
            Self::Iq4Nl => {
                for block in bytes.as_chunks::<18>().0 {
                    let scale = half(block[0], block[1]);
                    nibbles(&block[2..], |code| scale * f32::from(IQ4[code]), &mut values);
                }
            }
            Self::Iq4Xs => {
                for block in bytes.as_chunks::<136>().0 {
                    let scale = half(block[0], block[1]);
                    let high = u16::from_le_bytes([block[2], block[3]]);
                    for part in 0..8 {
                        let low = block[4 + part / 2] >> (4 * (part % 2)) & 15;
                        let code = i16::from(low) | ((high >> (2 * part) & 3) << 4) as i16;
                        let scale = scale * f32::from(code - 32);
                        let codes = &block[8 + 16 * part..24 + 16 * part];
                        nibbles(codes, |code| scale * f32::from(IQ4[code]), &mut values);
                    }
                }
            }
            Self::Mxfp4 => {
                for block in bytes.as_chunks::<17>().0 {
                    // The table holds doubled values, and 2^(e − 128) is a normal or subnormal number for every e.
                    let scale = libm::ldexpf(1.0, i32::from(block[0]) - 128);
                    nibbles(&block[1..], |code| scale * f32::from(FP4_TWICE[code]), &mut values);
                }
            }
        }
        Ok(values)
    }
}

fn half(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// The low four bits of every byte, then the high ones.
fn nibbles(codes: &[u8], value: impl Fn(usize) -> f32, values: &mut Vec<f32>) {
    values.extend(codes.iter().map(|code| value(usize::from(code & 15))));
    values.extend(codes.iter().map(|code| value(usize::from(code >> 4))));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/data/make_gguf_blocks.py`.
    #[test]
    fn blocks_hold_the_values_that_llama_cpps_own_reader_gives_them() {
        let cases: Vec<(u32, String, String, Vec<u32>)> =
            serde_json::from_str(include_str!("../../../../tests/data/gguf_blocks.json")).unwrap();
        assert_eq!(cases.len(), 13);
        for (number, name, hex, expected) in cases {
            let kind = BlockType::of(number).unwrap();
            assert_eq!(kind.name(), name);
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            assert_eq!(bytes.len() / kind.bytes() * kind.values(), expected.len(), "{name}");
            let values = kind.dequantize(bytes, expected.len()).unwrap();
            let bits: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
            assert_eq!(bits, expected, "{name}");
        }
    }
}
