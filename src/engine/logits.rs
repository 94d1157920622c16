//! Rows of logits, wherever an engine has them.

use std::borrow::Cow;

use super::{DeviceLogits, EngineError};

/// Rows of logits, where the engine has them.
#[derive(Debug)]
pub enum Logits<'a> {
    /// f32 `[rows, vocabulary]`.
    Host(Cow<'a, [f32]>),
    /// The same on a GPU.
    Device(DeviceLogits<'a>),
}

impl Logits<'_> {
    /// f32 `[rows, vocabulary]`, copied where they are on a GPU.
    pub fn to_host(&self) -> Result<Cow<'_, [f32]>, EngineError> {
        match self {
            Self::Host(values) => Ok(Cow::Borrowed(values)),
            Self::Device(logits) => logits.to_host().map(Cow::Owned),
        }
    }
}
