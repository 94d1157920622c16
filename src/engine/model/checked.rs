//! What every engine checks while it loads: that values are finite, in range, and of the promised shape.

use super::{ModelSource, TensorData, TensorValues};
use crate::engine::{Dtype, EngineError};

impl ModelSource {
    /// Refuses what a model's files cannot be run in.
    pub(crate) fn check_dtype(&self, dtype: Dtype) -> Result<(), EngineError> {
        match (dtype, &self.quantization) {
            (Dtype::Awq, None) => Err(EngineError::invalid(
                format!("{} is no AWQ checkpoint: its weights are stored as {}", self.name, self.stored_as),
                "make one: `evalsuite quantize --model MODEL --out DIR`",
            )),
            (Dtype::Int8, Some(_)) => Err(EngineError::invalid(
                format!("{} holds {}, from which no int8 is made", self.name, self.stored_as),
                "give the full-precision model, or `--dtype awq`",
            )),
            _ => Ok(()),
        }
    }

    /// A tensor as binary32, of the shape that the configuration promises, all of it finite.
    pub(crate) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EngineError> {
        let TensorData { shape: found, values } = self.tensors.read(name)?;
        if found != shape {
            return Err(EngineError::invalid(
                format!("tensor {name} of {} has shape {found:?}, but config.json promises {shape:?}", self.name),
                "the weights and config.json belong to different models: fetch both from one place",
            ));
        }
        let values = match values {
            TensorValues::F32(values) => values,
            TensorValues::F16(values) => values.into_iter().map(half::f16::to_f32).collect(),
            TensorValues::Bf16(values) => values.into_iter().map(half::bf16::to_f32).collect(),
            TensorValues::I32(_) => {
                return Err(EngineError::invalid(
                    format!("tensor {name} of {} holds whole numbers", self.name),
                    "the file is damaged or its layout is unknown: take another checkpoint",
                ));
            }
        };
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => Err(EngineError::invalid(
                format!("tensor {name} of {} holds {} at element {index}", self.name, values[index]),
                "the file is damaged or the training diverged: fetch it again, or take another checkpoint",
            )),
        }
    }

    /// A weight beyond binary16's range would become infinite.
    pub(crate) fn check_range(&self, name: &str, values: &[f32], dtype: Dtype) -> Result<(), EngineError> {
        const LARGEST: f32 = 65_504.0;
        if matches!(dtype, Dtype::F32 | Dtype::Bf16) {
            return Ok(());
        }
        match values.iter().find(|value| value.abs() > LARGEST) {
            None => Ok(()),
            Some(value) => Err(EngineError::invalid(
                format!("tensor {name} of {} holds {value}, beyond binary16's largest number {LARGEST}", self.name),
                format!("this model cannot run in {dtype}: use `--dtype bf16` or `--dtype f32`"),
            )),
        }
    }
}
