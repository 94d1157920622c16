//! The header of a GGUF file: key-value pairs and the table of tensors. Every size is held against the file's length
//! before anything is allocated for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::blocks::{self, BlockType};
use crate::EngineError;
use crate::files::Blob;
use crate::model::files::read_failure;

/// Values nest this deep at most; the format's own values do not nest at all.
const DEEPEST_ARRAY: usize = 8;
/// ggml has four dimensions.
const MOST_DIMENSIONS: u32 = 4;
/// Bytes fetched at a time.
const READ_AHEAD: u64 = 1 << 20;

/// A value of the header.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::model) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
    Text(String),
    Array(Vec<Value>),
}

/// A tensor's place in the file.
#[derive(Debug, Clone)]
pub(in crate::model) struct GgufTensor {
    /// Outermost dimension first, as everywhere but in the file itself.
    pub(in crate::model) shape: Vec<usize>,
    /// Type of its blocks.
    pub(in crate::model) block_type: BlockType,
    /// Which part of a split file holds it.
    pub(in crate::model) file: usize,
    /// First byte, from the begin of the file.
    pub(in crate::model) offset: u64,
    /// Length in bytes.
    pub(in crate::model) bytes: usize,
}

/// The header of a GGUF file.
#[derive(Debug)]
pub(in crate::model) struct Header {
    /// The file, for messages.
    pub(in crate::model) path: PathBuf,
    /// The key-value pairs.
    values: BTreeMap<String, Value>,
    /// Tensors by llama.cpp's names.
    pub(in crate::model) tensors: BTreeMap<String, GgufTensor>,
}

impl Header {
    /// Reads and checks the header: afterwards every tensor is known to lie inside the file.
    pub(in crate::model) fn read(blob: &Blob) -> Result<Self, EngineError> {
        let mut reader = Reader::new(blob)?;
        if reader.bytes(4)? != *b"GGUF" {
            return Err(EngineError::invalid(
                format!("{} is not a GGUF file: it does not begin with `GGUF`", reader.path.display()),
                "give a .gguf file, or the folder that holds config.json",
            ));
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(EngineError::invalid(
                format!("{}: GGUF version {version} is not read", reader.path.display()),
                "versions 2 and 3 (little-endian) are; convert the model anew with a current llama.cpp",
            ));
        }
        let tensor_count = reader.u64()?;
        let value_count = reader.u64()?;
        // A pair takes at least 13 bytes (key length, type, one byte), a tensor at least 24.
        reader.holds(value_count, 13, "key-value pairs")?;
        reader.holds(tensor_count, 24, "tensors")?;
        let mut values = BTreeMap::new();
        for _ in 0..value_count {
            let key = reader.text("a key")?;
            let kind = reader.u32()?;
            values.insert(key, reader.value(kind, 0)?);
        }
        let mut raw = Vec::new();
        for _ in 0..tensor_count {
            raw.push(reader.tensor()?);
        }
        let alignment = match values.get("general.alignment") {
            None => 32,
            Some(Value::Unsigned(alignment)) if alignment.is_power_of_two() => *alignment,
            Some(other) => return Err(reader.damaged(&format!("an alignment of {other:?} is not a power of two"))),
        };
        let data = reader.offset().checked_next_multiple_of(alignment);
        let data = data.ok_or_else(|| reader.damaged("the alignment lies beyond any file"))?;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in raw {
            let placed = reader.place(&name, tensor, data)?;
            tensors.insert(name, placed);
        }
        Ok(Self { path: reader.path, values, tensors })
    }

    /// A key's value.
    pub(in crate::model) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A whole number, if the key is there.
    pub(in crate::model) fn count(&self, key: &str) -> Result<Option<usize>, EngineError> {
        self.typed(key, "a whole number", |value| match value {
            Value::Unsigned(count) => usize::try_from(*count).ok().filter(|count| *count < 1 << 31),
            Value::Signed(count) => usize::try_from(*count).ok().filter(|count| *count < 1 << 31),
            _ => None,
        })
    }

    /// A whole number that must be there.
    pub(in crate::model) fn required(&self, key: &str) -> Result<usize, EngineError> {
        self.count(key)?.ok_or_else(|| self.missing(key))
    }

    /// A number, if the key is there.
    pub(in crate::model) fn number(&self, key: &str) -> Result<Option<f64>, EngineError> {
        self.typed(key, "a number", |value| match value {
            Value::Float(number) => Some(*number),
            Value::Unsigned(number) => Some(*number as f64),
            Value::Signed(number) => Some(*number as f64),
            _ => None,
        })
    }

    /// True or false, if the key is there.
    pub(in crate::model) fn flag(&self, key: &str) -> Result<Option<bool>, EngineError> {
        self.typed(key, "true or false", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A string, if the key is there.
    pub(in crate::model) fn text(&self, key: &str) -> Result<Option<&str>, EngineError> {
        self.typed(key, "a string", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An array of strings, if the key is there.
    pub(in crate::model) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, EngineError> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(values) => {
                values.iter().map(|v| if let Value::Text(t) = v { Some(&**t) } else { None }).collect()
            }
            _ => None,
        })
    }

    /// An array of numbers, if the key is there.
    pub(in crate::model) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, EngineError> {
        let number = |value: &Value| match value {
            Value::Unsigned(number) => Some(*number as f64),
            Value::Signed(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        };
        self.typed(key, "an array of numbers", |value| match value {
            Value::Array(values) => values.iter().map(number).collect(),
            _ => None,
        })
    }

    /// The error of a key that must be there and is not.
    pub(in crate::model) fn missing(&self, key: &str) -> EngineError {
        EngineError::invalid(
            format!("{}: the key `{key}` is missing", self.path.display()),
            "convert the model anew with a current llama.cpp",
        )
    }

    /// A key whose value is of no use.
    pub(in crate::model) fn refused(&self, key: &str, value: &str, hint: &str) -> EngineError {
        EngineError::invalid(format!("{}: `{key}` is {value}", self.path.display()), hint)
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        kind: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(value) => convert(value).map(Some).ok_or_else(|| {
                self.refused(key, &format!("not {kind}"), "convert the model anew with a current llama.cpp")
            }),
        }
    }
}

/// A tensor's entry before its place in the file is known.
struct RawTensor {
    /// Innermost first, as in the file.
    dimensions: Vec<u64>,
    block_type: u32,
    offset: u64,
}

/// Reads a blob from front to back.
struct Reader<'a> {
    blob: &'a Blob,
    path: PathBuf,
    length: u64,
    /// Where `buffer` begins in the file.
    start: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` is used up.
    used: usize,
}

impl<'a> Reader<'a> {
    fn new(blob: &'a Blob) -> Result<Self, EngineError> {
        let path = blob.path();
        let length = blob.len().map_err(|source| read_failure(&path, source))?;
        Ok(Self { blob, path, length, start: 0, buffer: Vec::new(), used: 0 })
    }

    fn offset(&self) -> u64 {
        self.start + self.used as u64
    }

    fn damaged(&self, what: &str) -> EngineError {
        EngineError::invalid(
            format!("{} is damaged or cut off: {what}", self.path.display()),
            "fetch the file again, and compare its size and hash with the published ones",
        )
    }

    /// Refuses a claim of more entries than the rest of the file can hold.
    fn holds(&self, count: u64, least_bytes: u64, what: &str) -> Result<(), EngineError> {
        let rest = self.length - self.offset();
        if count.saturating_mul(least_bytes) > rest {
            return Err(self.damaged(&format!("it claims {count} {what}, but only {rest} bytes follow")));
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&[u8], EngineError> {
        if self.buffer.len() - self.used < count {
            let offset = self.offset();
            let rest = self.length - offset;
            if count as u64 > rest {
                return Err(self.damaged(&format!("{count} bytes are missing at byte {offset}")));
            }
            let size = READ_AHEAD.max(count as u64).min(rest);
            self.buffer =
                self.blob.read_at(offset, size as usize).map_err(|source| read_failure(&self.path, source))?;
            (self.start, self.used) = (offset, 0);
        }
        let bytes = &self.buffer[self.used..self.used + count];
        self.used += count;
        Ok(bytes)
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, EngineError> {
        self.take(count).map(<[u8]>::to_vec)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EngineError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, EngineError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, EngineError> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, what: &str) -> Result<String, EngineError> {
        let length = self.u64()?;
        self.holds(length, 1, "bytes of text")?;
        let bytes = self.bytes(length as usize)?;
        String::from_utf8(bytes)
            .map_err(|_| self.damaged(&format!("{what} before byte {} is not UTF-8", self.offset())))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, EngineError> {
        Ok(match kind {
            0 => Value::Unsigned(u64::from(self.array::<1>()?[0])),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.array()?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.array()?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.array()?))),
            4 => Value::Unsigned(u64::from(self.u32()?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.array()?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.array()?))),
            7 => Value::Flag(self.array::<1>()?[0] != 0),
            8 => Value::Text(self.text("a string")?),
            9 => self.values(depth)?,
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            other => return Err(self.damaged(&format!("there is no value type {other}"))),
        })
    }

    fn values(&mut self, depth: usize) -> Result<Value, EngineError> {
        if depth == DEEPEST_ARRAY {
            return Err(self.damaged("arrays are nested too deeply"));
        }
        let kind = self.u32()?;
        let count = self.u64()?;
        let least_bytes = match kind {
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            _ => 1,
        };
        self.holds(count, least_bytes, "array elements")?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(kind, depth + 1)?);
        }
        Ok(Value::Array(values))
    }

    fn tensor(&mut self) -> Result<(String, RawTensor), EngineError> {
        let name = self.text("a tensor's name")?;
        let rank = self.u32()?;
        if rank > MOST_DIMENSIONS {
            return Err(self.damaged(&format!("tensor `{name}` has {rank} dimensions")));
        }
        let dimensions = (0..rank).map(|_| self.u64()).collect::<Result<_, _>>()?;
        Ok((name, RawTensor { dimensions, block_type: self.u32()?, offset: self.u64()? }))
    }

    fn place(&self, name: &str, raw: RawTensor, data: u64) -> Result<GgufTensor, EngineError> {
        let RawTensor { dimensions, block_type: number, offset } = raw;
        let block_type = BlockType::of(number).ok_or_else(|| {
            EngineError::invalid(
                format!("{}: tensor `{name}` has ggml type {number}, which is not read", self.path.display()),
                format!("{} are: take another quantisation", blocks::READ),
            )
        })?;
        let block = block_type.values() as u64;
        let elements = dimensions.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
        // Blocks lie inside a row: a row of a broken block would be read as the begin of the next.
        let whole_blocks = dimensions.first().is_some_and(|row| *row > 0 && row.is_multiple_of(block));
        let bytes = elements
            .filter(|elements| *elements > 0 && whole_blocks)
            .and_then(|elements| (elements / block).checked_mul(block_type.bytes() as u64))
            .ok_or_else(|| {
                self.damaged(&format!("tensor `{name}` of {dimensions:?} elements cannot be {}", block_type.name()))
            })?;
        let start = data.checked_add(offset);
        match start.and_then(|start| start.checked_add(bytes)) {
            Some(end) if end <= self.length => Ok(GgufTensor {
                shape: dimensions.into_iter().rev().map(|size| size as usize).collect(),
                block_type,
                file: 0,
                offset: end - bytes,
                bytes: bytes as usize,
            }),
            end => Err(self.damaged(&format!(
                "tensor `{name}` ends at byte {}, the file at byte {}",
                end.map_or_else(|| "2^64".to_owned(), |end| end.to_string()),
                self.length
            ))),
        }
    }
}
