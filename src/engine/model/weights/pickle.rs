//! `PyTorch`'s `pytorch_model.bin`, for models that have nothing else (facebook/opt-125m), read by candle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::pickle::PthTensors;
use candle_core::{DType, Tensor};

use super::safetensors::{missing_shard, unknown_tensor};
use super::{OpenedWeights, TensorData, TensorValues, Tensors};
use crate::EngineError;
use crate::fault::caught;
use crate::model::files::{ModelFiles, read_failure};
use crate::sandbox::{self, Broken, Sandbox};

/// One or more pickle files as one set of tensors.
pub(in crate::model) struct PickleTensors {
    files: Vec<(PathBuf, PthTensors)>,
    /// Which file holds a tensor.
    places: BTreeMap<String, usize>,
}

impl PickleTensors {
    /// Reads the tables of these files.
    pub(in crate::model) fn open(
        files: &ModelFiles,
        shards: &[String],
        index: &str,
    ) -> Result<OpenedWeights, EngineError> {
        let mut all = Self { files: Vec::new(), places: BTreeMap::new() };
        let mut shapes = BTreeMap::new();
        let mut bytes_by_type: BTreeMap<&str, usize> = BTreeMap::new();
        for shard in shards {
            let path = files.path(shard).ok_or_else(|| missing_shard(files, shard, index))?;
            // Opened for its error alone: candle's own does not name the file.
            std::fs::File::open(path).map_err(|source| read_failure(path, source))?;
            try_in_child(path)?;
            let tensors = guarded(path, || PthTensors::new(path, None))?;
            for (name, info) in tensors.tensor_infos() {
                all.places.insert(name.clone(), all.files.len());
                shapes.insert(name.clone(), info.layout.dims().to_vec());
                let bytes = info.storage_size.saturating_mul(info.dtype.size_in_bytes());
                *bytes_by_type.entry(info.dtype.as_str()).or_default() += bytes;
            }
            all.files.push((path.to_path_buf(), tensors));
        }
        let total = bytes_by_type.values().map(|bytes| *bytes as u64).sum();
        let most = bytes_by_type.into_iter().max_by_key(|(_, bytes)| *bytes);
        let stored_as = most.map(|(name, _)| name.to_owned()).unwrap_or_default();
        Ok(OpenedWeights { tensors: Box::new(all), shapes, stored_as, bytes: total })
    }
}

impl Tensors for PickleTensors {
    fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    fn read(&self, name: &str) -> Result<TensorData, EngineError> {
        let (path, tensors) = &self.files[*self.places.get(name).ok_or_else(|| unknown_tensor(name))?];
        let tensor = guarded(path, || tensors.get(name))?.ok_or_else(|| unknown_tensor(name))?;
        let shape = tensor.dims().to_vec();
        let values = guarded(path, || values(&tensor))?.ok_or_else(|| {
            EngineError::invalid(
                format!("{}: tensor `{name}` is stored as {}", path.display(), tensor.dtype().as_str()),
                "f32, f16 and bf16 are read: convert the model to one of them",
            )
        })?;
        Ok(TensorData { shape, values })
    }
}

fn values(tensor: &Tensor) -> candle_core::Result<Option<TensorValues>> {
    let flat = tensor.flatten_all()?;
    Ok(Some(match tensor.dtype() {
        DType::F32 => TensorValues::F32(flat.to_vec1()?),
        DType::F16 => TensorValues::F16(flat.to_vec1()?),
        DType::BF16 => TensorValues::Bf16(flat.to_vec1()?),
        _ => return Ok(None),
    }))
}

/// The job of [`pickle_answer`].
pub const PICKLE_JOB: &str = "pickle";

/// Lets a child read the file's table first: a pickle may nest without end, and claim a length or a copy of any size.
fn try_in_child(path: &Path) -> Result<(), EngineError> {
    if !sandbox::is_available() {
        return Ok(());
    }
    let answer: Result<Option<String>, Broken> = Sandbox::new(PICKLE_JOB).ask(&path.as_os_str().as_encoded_bytes());
    match answer {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(damaged(path, &why)),
        Err(broken) => Err(damaged(path, &format!("{broken} to read"))),
    }
}

/// What a child answers to a path: why the file's table cannot be read, or nothing.
pub fn pickle_answer(request: &[u8]) -> Vec<u8> {
    let read = |request| {
        let bytes: Vec<u8> = serde_json::from_slice(request).map_err(|error| error.to_string())?;
        PthTensors::new(path_of(bytes), None).map(|_| ()).map_err(|error| error.to_string())
    };
    serde_json::to_vec(&read(request).err()).unwrap_or_default()
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes).into()
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

fn damaged(path: &Path, what: &str) -> EngineError {
    EngineError::invalid(
        format!("{} cannot be read as PyTorch weights: {what}", path.display()),
        "fetch the file again; files from before PyTorch 1.6 are not zip archives and must be saved anew, best as \
         safetensors",
    )
}

/// Runs candle's pickle reader, which panics where a damaged pickle has fewer arguments than a tensor needs.
fn guarded<T>(path: &Path, read: impl FnOnce() -> candle_core::Result<T>) -> Result<T, EngineError> {
    match caught(read) {
        Some(result) => result.map_err(|error| damaged(path, &error.to_string())),
        None => Err(damaged(path, "its pickle is damaged")),
    }
}
