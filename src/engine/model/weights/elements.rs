//! Little-endian bytes become numbers.

use half::{bf16, f16};

use super::TensorValues;
use crate::files::Blob;

/// Bytes converted at a time, so that a tensor is never held twice. A multiple of every element's size.
const CHUNK_BYTES: usize = 8 << 20;

/// The element types that are read as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementType {
    F32,
    F16,
    Bf16,
    I32,
}

/// Reads `count` elements from `offset`.
pub(super) fn read(blob: &Blob, offset: u64, count: usize, kind: ElementType) -> std::io::Result<TensorValues> {
    Ok(match kind {
        ElementType::F32 => TensorValues::F32(collect(blob, offset, count, f32::from_le_bytes)?),
        ElementType::F16 => TensorValues::F16(collect(blob, offset, count, f16::from_le_bytes)?),
        ElementType::Bf16 => TensorValues::Bf16(collect(blob, offset, count, bf16::from_le_bytes)?),
        ElementType::I32 => TensorValues::I32(collect(blob, offset, count, i32::from_le_bytes)?),
    })
}

fn collect<T, const N: usize>(
    blob: &Blob,
    offset: u64,
    count: usize,
    convert: impl Fn([u8; N]) -> T,
) -> std::io::Result<Vec<T>> {
    let total = count * N;
    let mut values = Vec::with_capacity(count);
    for start in (0..total).step_by(CHUNK_BYTES) {
        let bytes = blob.read_at(offset + start as u64, CHUNK_BYTES.min(total - start))?;
        let (chunks, _) = bytes.as_chunks::<N>();
        values.extend(chunks.iter().map(|chunk| convert(*chunk)));
    }
    Ok(values)
}
