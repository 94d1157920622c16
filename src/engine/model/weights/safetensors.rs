//! Safetensors, in one file or in shards: <https://huggingface.co/docs/safetensors/index#format>.
//!
//! The header is read here rather than by the crate of the same name, which wants the whole file in memory and cannot
//! say which tensor lies beyond the file's end.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::elements::{self, ElementType};
use super::{OpenedWeights, RawTensor, TensorData, TensorPlace, Tensors};
use crate::EngineError;
use crate::files::Blob;
use crate::model::files::{ModelFiles, read_failure};

/// The format's own limit; a longer header is a file of another kind.
const LONGEST_HEADER: u64 = 100_000_000;

/// One or more safetensors files as one set of tensors.
pub(in crate::model) struct SafetensorsFiles {
    blobs: Vec<Blob>,
    tensors: BTreeMap<String, Place>,
}

/// Where a tensor lies.
struct Place {
    file: usize,
    shape: Vec<usize>,
    element: String,
    /// From the begin of the file.
    offset: u64,
    bytes: usize,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl SafetensorsFiles {
    /// Reads the headers of these files; an index that names a missing file is found here.
    pub(in crate::model) fn open(
        files: &ModelFiles,
        shards: &[String],
        index: &str,
    ) -> Result<OpenedWeights, EngineError> {
        let mut all = Self { blobs: Vec::new(), tensors: BTreeMap::new() };
        let mut bytes_by_type: BTreeMap<String, u64> = BTreeMap::new();
        for shard in shards {
            let blob = files.blob(shard)?.ok_or_else(|| missing_shard(files, shard, index))?;
            for (name, entry, offset) in read_header(&blob)? {
                let bytes = entry.data_offsets.1 - entry.data_offsets.0;
                *bytes_by_type.entry(entry.dtype.to_lowercase()).or_default() += bytes;
                let (file, bytes) = (all.blobs.len(), bytes as usize);
                let place = Place { file, shape: entry.shape, element: entry.dtype, offset, bytes };
                all.tensors.insert(name, place);
            }
            all.blobs.push(blob);
        }
        let shapes = all.tensors.iter().map(|(name, place)| (name.clone(), place.shape.clone())).collect();
        let total = bytes_by_type.values().sum();
        let most = bytes_by_type.into_iter().max_by_key(|(_, bytes)| *bytes);
        let stored_as = most.map(|(element, _)| element).unwrap_or_default();
        Ok(OpenedWeights { tensors: Box::new(all), shapes, stored_as, bytes: total })
    }
}

impl Tensors for SafetensorsFiles {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn read(&self, name: &str) -> Result<TensorData, EngineError> {
        let place = self.tensors.get(name).ok_or_else(|| unknown_tensor(name))?;
        let blob = &self.blobs[place.file];
        let kind = match place.element.as_str() {
            "F32" => ElementType::F32,
            "F16" => ElementType::F16,
            "BF16" => ElementType::Bf16,
            "I32" => ElementType::I32,
            other => {
                return Err(EngineError::invalid(
                    format!("{}: tensor `{name}` is stored as {other}", blob.path().display()),
                    "F32, F16 and BF16 are read, and I32 in AWQ checkpoints: convert the model to one of them",
                ));
            }
        };
        let count = place.shape.iter().product();
        let values =
            elements::read(blob, place.offset, count, kind).map_err(|source| read_failure(&blob.path(), source))?;
        Ok(TensorData { shape: place.shape.clone(), values })
    }

    fn element(&self, name: &str) -> Option<&str> {
        self.tensors.get(name).map(|place| place.element.as_str())
    }

    fn raw(&self, name: &str) -> Result<RawTensor, EngineError> {
        let place = self.tensors.get(name).ok_or_else(|| unknown_tensor(name))?;
        let blob = &self.blobs[place.file];
        let bytes = blob.read_at(place.offset, place.bytes).map_err(|source| read_failure(&blob.path(), source))?;
        Ok(RawTensor { element: place.element.clone(), shape: place.shape.clone(), bytes })
    }

    fn raw_entry(&self, name: &str, index: usize) -> Result<RawTensor, EngineError> {
        let place = self.tensors.get(name).ok_or_else(|| unknown_tensor(name))?;
        let count = place.shape.first().copied().unwrap_or(1);
        if index >= count {
            return Err(EngineError::invalid(
                format!("tensor `{name}` has {count} entries, of which number {index} was asked for"),
                "take the weights and config.json from one repository and one revision",
            ));
        }
        let (blob, bytes) = (&self.blobs[place.file], place.bytes / count);
        let read = blob.read_at(place.offset + (index * bytes) as u64, bytes);
        let bytes = read.map_err(|source| read_failure(&blob.path(), source))?;
        Ok(RawTensor { element: place.element.clone(), shape: place.shape[1..].to_vec(), bytes })
    }

    fn place(&self, name: &str) -> Option<TensorPlace<'_>> {
        let place = self.tensors.get(name)?;
        let (element, size) = match place.element.as_str() {
            "F32" => ("f32", 4),
            "F16" => ("f16", 2),
            "BF16" => ("bf16", 2),
            _ => return None,
        };
        let bytes = place.shape.iter().product::<usize>() as u64 * size;
        Some(TensorPlace { blob: &self.blobs[place.file], offset: place.offset, bytes, element })
    }
}

/// A tensor that was asked for by a name that no file holds.
pub(super) fn unknown_tensor(name: &str) -> EngineError {
    EngineError::invalid(
        format!("there is no tensor `{name}` in the weights"),
        "take all files from one repository and one revision",
    )
}

/// An index and a folder that do not fit together.
pub(super) fn missing_shard(files: &ModelFiles, shard: &str, index: &str) -> EngineError {
    EngineError::invalid(
        format!("{index} names the file {shard}, which is not in {}", files.place),
        "copy every part of the weights into the folder",
    )
}

fn damaged(blob: &Blob, what: &str) -> EngineError {
    EngineError::invalid(
        format!("{} is damaged or cut off: {what}", blob.path().display()),
        "fetch the file again, and compare its size and hash with the published ones",
    )
}

/// Every tensor's name, entry and first byte; afterwards each is known to lie inside the file.
fn read_header(blob: &Blob) -> Result<Vec<(String, Entry, u64)>, EngineError> {
    let path = blob.path();
    let failure = |source| read_failure(&path, source);
    let file_bytes = blob.len().map_err(failure)?;
    if file_bytes < 8 {
        return Err(damaged(blob, &format!("{file_bytes} bytes are too few for safetensors")));
    }
    let prefix = blob.read_at(0, 8).map_err(failure)?;
    if prefix.starts_with(b"version ") {
        return Err(EngineError::invalid(
            format!("{} is a Git LFS pointer, not the weights", path.display()),
            "run `git lfs pull` in the folder, or name the model by its hub id",
        ));
    }
    let header_bytes = prefix.iter().rev().fold(0u64, |length, byte| length << 8 | u64::from(*byte));
    if header_bytes > LONGEST_HEADER || header_bytes > file_bytes - 8 {
        let what = format!("its header claims {header_bytes} bytes, the file has {file_bytes}");
        return Err(damaged(blob, &what));
    }
    let header = blob.read_at(8, header_bytes as usize).map_err(failure)?;
    let entries: Map<String, Value> =
        serde_json::from_slice(&header).map_err(|error| damaged(blob, &format!("its header is not JSON: {error}")))?;
    let data = 8 + header_bytes;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        if name == "__metadata__" {
            continue;
        }
        let entry: Entry = serde_json::from_value(value)
            .map_err(|error| damaged(blob, &format!("the entry of tensor `{name}`: {error}")))?;
        check_entry(blob, &name, &entry, file_bytes - data)?;
        let offset = data + entry.data_offsets.0;
        tensors.push((name, entry, offset));
    }
    Ok(tensors)
}

fn check_entry(blob: &Blob, name: &str, entry: &Entry, data_bytes: u64) -> Result<(), EngineError> {
    let (start, end) = entry.data_offsets;
    if start > end || end > data_bytes {
        let what = format!("tensor `{name}` lies at bytes {start} to {end} of {data_bytes} bytes of data");
        return Err(damaged(blob, &what));
    }
    let element_bytes = match entry.dtype.as_str() {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 1,
        // Of no use to any family; refused only when it is asked for.
        _ => return Ok(()),
    };
    let bytes = entry.shape.iter().try_fold(element_bytes, |bytes: u64, size| bytes.checked_mul(*size as u64));
    if bytes == Some(end - start) {
        Ok(())
    } else {
        let what = format!("tensor `{name}` of shape {:?} in {} has {} bytes", entry.shape, entry.dtype, end - start);
        Err(damaged(blob, &what))
    }
}
