//! Writing checkpoints: the unfinished folder, and safetensors files.

mod error;
mod folder;
pub mod safetensors;

use std::io;
use std::path::Path;

pub use error::CheckpointError;
pub use folder::{CheckpointFolder, Deciding, free_bytes};

/// Writes pretty JSON, whole or not at all.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), CheckpointError> {
    let bytes = pretty(value).map_err(CheckpointError::io("write", path))?;
    crate::files::write_atomically(path, &bytes).map_err(CheckpointError::io("write", path))
}

/// Indented JSON with a last line break.
pub fn pretty(value: &impl serde::Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
