//! A tensor's bytes as they are stored, for formats that pack weights into them.

use half::{bf16, f16};

use crate::model::quant::e4m3;

/// A stored tensor.
pub struct RawTensor {
    /// The element type as safetensors spells it: `I32`, `F8_E4M3`, …
    pub element: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Little-endian elements, row-major.
    pub bytes: Vec<u8>,
}

impl RawTensor {
    /// Whole numbers of any width; `None` where the elements are no such.
    pub fn integers(&self) -> Option<Vec<i64>> {
        Some(match self.element.as_str() {
            "I8" => self.bytes.iter().map(|byte| i64::from(byte.cast_signed())).collect(),
            "U8" | "F8_E8M0" => self.bytes.iter().map(|byte| i64::from(*byte)).collect(),
            "I16" => elements(&self.bytes, |bytes| i64::from(i16::from_le_bytes(bytes))),
            "I32" => elements(&self.bytes, |bytes| i64::from(i32::from_le_bytes(bytes))),
            "I64" => elements(&self.bytes, i64::from_le_bytes),
            _ => return None,
        })
    }

    /// Words of 32 bits.
    pub fn words(&self) -> Option<Vec<u32>> {
        (self.element == "I32" || self.element == "U32").then(|| elements(&self.bytes, u32::from_le_bytes))
    }

    /// Numbers of any floating type, exactly.
    pub fn floats(&self) -> Option<Vec<f32>> {
        Some(match self.element.as_str() {
            "F32" => elements(&self.bytes, f32::from_le_bytes),
            "F16" => elements(&self.bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            "BF16" => elements(&self.bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            "F8_E4M3" => self.bytes.iter().map(|byte| e4m3(*byte)).collect(),
            _ => return None,
        })
    }
}

fn elements<T, const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect()
}
