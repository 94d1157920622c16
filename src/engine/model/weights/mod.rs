//! Tensors by their Hugging Face names, whatever file they lie in.

mod choice;
mod elements;
mod expected;
mod gguf;
mod opened;
mod pickle;
mod raw;
mod safetensors;

use half::{bf16, f16};

use super::AwqTensor;
use crate::EngineError;
use crate::files::Blob;

pub(super) use choice::{WeightFiles, choose, shards};
pub(super) use expected::check;
pub(super) use gguf::GgufTensors;
pub(super) use opened::OpenedWeights;
pub(super) use pickle::PickleTensors;
pub use pickle::{PICKLE_JOB, pickle_answer};
pub use raw::RawTensor;
pub(super) use safetensors::SafetensorsFiles;

/// A tensor's elements, row-major, in the precision of the file (quantised GGUF blocks come dequantised to f32).
#[derive(Debug, Clone, PartialEq)]
pub enum TensorValues {
    /// binary32.
    F32(Vec<f32>),
    /// binary16.
    F16(Vec<f16>),
    /// bfloat16.
    Bf16(Vec<bf16>),
    /// 32-bit whole numbers: packed codes.
    I32(Vec<i32>),
}

impl TensorValues {
    /// The element type, as files name it in small letters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::F32(_) => "f32",
            Self::F16(_) => "f16",
            Self::Bf16(_) => "bf16",
            Self::I32(_) => "i32",
        }
    }
}

/// A tensor read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorData {
    /// Outermost dimension first; a linear layer is `[out, in]`.
    pub shape: Vec<usize>,
    /// Row-major elements.
    pub values: TensorValues,
}

/// Where a tensor's bytes lie, for those who read them straight into memory of their own.
#[derive(Debug, Clone, Copy)]
pub struct TensorPlace<'a> {
    /// The file.
    pub blob: &'a Blob,
    /// Of the first byte.
    pub offset: u64,
    /// All of the tensor's bytes lie inside the file.
    pub bytes: u64,
    /// The element type as [`TensorValues::name`] spells it: `f32`, `f16` or `bf16`.
    pub element: &'static str,
}

/// Random access to a model's tensors by name. `read` may be called from many threads at once.
pub trait Tensors: Sync + Send {
    /// Every name, sorted.
    fn names(&self) -> Vec<String>;

    /// Reads one tensor; an error names the tensor and the file. Values are not checked for NaN here.
    fn read(&self, name: &str) -> Result<TensorData, EngineError>;

    /// The element type that a tensor is stored in, as safetensors spells it; `None` where that is not known.
    fn element(&self, _name: &str) -> Option<&str> {
        None
    }

    /// A tensor's bytes as they are stored, of any element type: what packed weights are read from.
    fn raw(&self, name: &str) -> Result<RawTensor, EngineError> {
        Err(EngineError::invalid(
            format!("tensor `{name}` holds packed weights outside safetensors"),
            "take a checkpoint whose weights are in model.safetensors",
        ))
    }

    /// One entry along the first dimension of the same.
    fn raw_entry(&self, name: &str, index: usize) -> Result<RawTensor, EngineError> {
        let RawTensor { element, shape, bytes } = self.raw(name)?;
        let (count, shape) = shape.split_first().map_or((1, Vec::new()), |(count, rest)| (*count, rest.to_vec()));
        let length = bytes.len() / count.max(1);
        let bytes = bytes.get(index * length..(index + 1) * length).unwrap_or_default().to_vec();
        Ok(RawTensor { element, shape, bytes })
    }

    /// Where a tensor's elements lie as they are, row-major and little-endian; `None` where they have to be computed.
    fn place(&self, _name: &str) -> Option<TensorPlace<'_>> {
        None
    }

    /// Whether a linear layer (named without `.weight`) is stored in its packed form.
    fn is_packed(&self, _layer: &str) -> bool {
        false
    }

    /// A linear layer (named without `.weight`) as it is packed, if it is. [`Tensors::read`] gives the same weights dense.
    fn read_packed(&self, _layer: &str) -> Result<Option<AwqTensor>, EngineError> {
        Ok(None)
    }
}
