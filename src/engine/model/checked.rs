//! What every engine checks while it loads: that values are finite, in range, and of the promised shape.

use super::quant::{Origin, WeightFormat};
use super::{ModelSource, TensorData, TensorValues};
use crate::{Arithmetic, EngineError};

impl ModelSource {
    /// Refuses a weight format that the files cannot be run in.
    pub(crate) fn check_format(&self, format: WeightFormat) -> Result<(), EngineError> {
        match &format.entry().origin {
            Origin::Checkpoint(checkpoint) if self.format != format => Err(EngineError::invalid(
                format!(
                    "{} is no {} checkpoint: its weights are stored as {}",
                    self.name, checkpoint.title, self.stored_as
                ),
                checkpoint.hint,
            )),
            Origin::Packed if self.format.is_packed() => Err(EngineError::invalid(
                format!("{} holds {}, from which no {} is made", self.name, self.stored_as, format.name()),
                format!("give the full-precision model, or `--dtype {}`", self.format.name()),
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

    /// A weight beyond the arithmetic's range would become infinite.
    pub(crate) fn check_range(&self, name: &str, values: &[f32], arithmetic: Arithmetic) -> Result<(), EngineError> {
        let Some(largest) = arithmetic.largest() else { return Ok(()) };
        match values.iter().find(|value| value.abs() > largest) {
            None => Ok(()),
            Some(value) => Err(EngineError::invalid(
                format!("tensor {name} of {} holds {value}, beyond binary16's largest number {largest}", self.name),
                format!("this model cannot run in {arithmetic}: use `--dtype bf16` or `--dtype f32`"),
            )),
        }
    }
}
