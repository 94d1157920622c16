//! Quantisation: from a model in full precision to an AWQ-int4 checkpoint.
//!
//! Layer by layer, each block fed the original output of the one before; finished blocks wait on disk, so that an
//! interrupted run goes on. The same input gives the same bytes, on any number of threads.

mod block;
mod calibration;
mod describe;
mod error;
mod job;
mod round;
mod safetensors;
mod search;
mod tensors;
mod work;

use std::path::Path;

pub use error::QuantizeError;
pub use job::{Event, Finished, GROUP_SIZES, Job, Method, Progress, quantize};

/// Writes pretty JSON, whole or not at all.
fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), QuantizeError> {
    let bytes = describe::pretty(value).map_err(QuantizeError::io("write", path))?;
    crate::files::write_atomically(path, &bytes).map_err(QuantizeError::io("write", path))
}
