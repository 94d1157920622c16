//! Tensors by their Hugging Face names, whatever file they lie in.

use half::{bf16, f16};

/// A tensor's elements, row-major, in the precision of the file (quantised GGUF blocks come dequantised to f32).
#[derive(Debug, Clone, PartialEq)]
pub enum TensorValues {
    /// binary32.
    F32(Vec<f32>),
    /// binary16.
    F16(Vec<f16>),
    /// bfloat16.
    Bf16(Vec<bf16>),
}

/// A tensor read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorData {
    /// Outermost dimension first; a linear layer is `[out, in]`.
    pub shape: Vec<usize>,
    /// Row-major elements.
    pub values: TensorValues,
}

/// Random access to a model's tensors by name. `read` may be called from many threads at once.
pub trait Tensors: Sync + Send {
    /// Every name, sorted.
    fn names(&self) -> Vec<String>;

    /// Reads one tensor; an error names the tensor and the file. Values are not checked for NaN here.
    fn read(&self, name: &str) -> Result<TensorData, crate::engine::EngineError>;
}
