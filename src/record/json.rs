//! JSON files of a run: indented, with a checksum, written whole or not at all; records stand under a version.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::RecordError;
use super::checksum::{self, Checksum, Layout};
use crate::files::write_atomically;

/// The fields that tell one kind of record from another.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Versions {
    #[serde(rename = "bench_format")]
    pub(crate) bench: Option<u32>,
    #[serde(rename = "blame_format")]
    pub(crate) blame: Option<u32>,
    #[serde(rename = "perplexity_format")]
    pub(crate) perplexity: Option<u32>,
    #[serde(rename = "load_format")]
    pub(crate) load: Option<u32>,
    #[serde(rename = "determinism_format")]
    pub(crate) determinism: Option<u32>,
    #[serde(rename = "probe_format")]
    pub(crate) probe: Option<u32>,
    #[serde(rename = "quality_format")]
    pub(crate) quality: Option<u32>,
}

/// What to do about a record that is damaged.
pub(crate) const REMAKE: &str = "the file was changed, or its disk is at fault: put an unchanged copy in its place; in a run's folder \
                                 delete it and give `evalsuite resume RUN`, which makes it anew";

/// Reads a JSON file and refuses it if it is not as it was written. One of an earlier version has no checksum, and is taken as it is.
pub(crate) fn read_checked(path: &Path, hint: &str) -> Result<Vec<u8>, RecordError> {
    let bytes = fs::read(path).map_err(RecordError::io("read", path))?;
    if checksum::check(&bytes, Layout::of_file(&bytes)) == Checksum::Wrong {
        return Err(RecordError::invalid(
            format!("{}: damaged: it does not have the checksum that it names (crc32)", path.display()),
            hint,
        ));
    }
    Ok(bytes)
}

/// Reads a record of the kind that has a `version`; `None` where the file holds JSON of another kind. Another version than `format`
/// is refused.
pub(crate) fn read_json<T: DeserializeOwned>(
    path: &Path,
    version: impl FnOnce(Versions) -> Option<u32>,
    format: u32,
    what: &str,
) -> Result<Option<T>, RecordError> {
    let bytes = read_checked(path, REMAKE)?;
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
    let layout = Layout::of_file(&bytes);
    checksum::add(&mut bytes, layout);
    write_atomically(path, &bytes).map_err(RecordError::io("write", path))
}
