//! Record files: pretty JSON under a version, written whole or not at all.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::RecordError;
use crate::files::write_atomically;

/// The fields that tell one kind of record from another.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Versions {
    #[serde(rename = "bench_format")]
    pub(crate) bench: Option<u32>,
    #[serde(rename = "perplexity_format")]
    pub(crate) perplexity: Option<u32>,
    #[serde(rename = "quality_format")]
    pub(crate) quality: Option<u32>,
}

/// Reads a record of the kind that has a `version`; `None` where the file holds JSON of another kind. Another version than `format`
/// is refused.
pub(crate) fn read_json<T: DeserializeOwned>(
    path: &Path,
    version: impl FnOnce(Versions) -> Option<u32>,
    format: u32,
    what: &str,
) -> Result<Option<T>, RecordError> {
    let bytes = fs::read(path).map_err(RecordError::io("read", path))?;
    let Some(found) = serde_json::from_slice::<Versions>(&bytes).ok().and_then(version) else { return Ok(None) };
    if found != format {
        return Err(RecordError::invalid(
            format!("{}: format {found}, but this evalsuite reads {format}", path.display()),
            "use the version of evalsuite that wrote it (the field `evalsuite`)",
        ));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        RecordError::invalid(
            format!("{}: not a record of a {what}: {error}", path.display()),
            "the file was changed, or another version of evalsuite wrote it; run again, or use that version",
        )
    })
}

/// Writes pretty JSON, whole or not at all.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), RecordError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| RecordError::io("write", path)(error.into()))?;
    bytes.push(b'\n');
    write_atomically(path, &bytes).map_err(RecordError::io("write", path))
}
