//! Writing safetensors: a header for data of known length, or parts one at a time that are joined into shards without
//! holding any of them in memory.
//!
//! Format: <https://huggingface.co/docs/safetensors/index#format>.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::CheckpointError;
use crate::files::write_atomically;

/// Bytes of a shard at most.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// A tensor's bytes.
pub struct Tensor {
    name: String,
    /// In the format's spelling: `I32`, `F16`.
    element: &'static str,
    shape: Vec<usize>,
    /// Little-endian.
    bytes: Vec<u8>,
}

impl Tensor {
    /// `element` is in the format's spelling, `bytes` are little-endian.
    pub fn new(name: String, element: &'static str, shape: &[usize], bytes: Vec<u8>) -> Self {
        Self { name, element, shape: shape.to_vec(), bytes }
    }
}

/// Writes tensors as one file, whole or not at all.
pub fn write(path: &Path, tensors: &[Tensor]) -> Result<(), CheckpointError> {
    let entries = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.element, &tensor.shape[..], tensor.bytes.len() as u64));
    let mut bytes = header_of(entries);
    for tensor in tensors {
        bytes.extend_from_slice(&tensor.bytes);
    }
    write_atomically(path, &bytes).map_err(CheckpointError::io("write", path))
}

/// The header of a file that holds these tensors one after the other: (name, element, shape, bytes).
pub fn header_of<'a>(tensors: impl Iterator<Item = (&'a str, &'static str, &'a [usize], u64)>) -> Vec<u8> {
    let mut entries = Map::new();
    let mut end = 0;
    for (name, element, shape, bytes) in tensors {
        let start = end;
        end += bytes;
        entries.insert(name.to_owned(), json!({"dtype": element, "shape": shape, "data_offsets": [start, end]}));
    }
    header(entries)
}

/// The name of the file number `index` (from 0) of `count`.
pub fn shard_name(index: usize, count: usize) -> String {
    match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    }
}

/// Writes the index of a sharded checkpoint: `weight_map` is the file of each tensor.
pub fn write_index(folder: &Path, total_bytes: u64, weight_map: &Map<String, Value>) -> Result<(), CheckpointError> {
    let index = json!({"metadata": {"total_size": total_bytes}, "weight_map": weight_map});
    super::write_json(&folder.join("model.safetensors.index.json"), &index)
}

/// Length and text of a header, padded so that the data is aligned.
fn header(entries: Map<String, Value>) -> Vec<u8> {
    let mut all = Map::new();
    all.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    all.extend(entries);
    let mut text = Value::Object(all).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A file that [`write`] has written.
struct Part {
    path: PathBuf,
    file: File,
    entries: Map<String, Value>,
    data_start: u64,
    data_bytes: u64,
}

impl Part {
    fn open(path: &Path) -> Result<Self, CheckpointError> {
        let failure = || CheckpointError::io("read", path);
        let mut file = File::open(path).map_err(failure())?;
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(failure())?;
        let bytes = file.metadata().map_err(failure())?.len();
        let data_start = 8 + u64::from_le_bytes(length).min(bytes);
        let mut text = vec![0; (data_start - 8) as usize];
        file.read_exact(&mut text).map_err(failure())?;
        let mut entries: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|error| failure()(io::Error::from(error)))?;
        entries.remove("__metadata__");
        Ok(Self { path: path.to_path_buf(), file, entries, data_start, data_bytes: bytes.saturating_sub(data_start) })
    }

    /// The entries as they are when the data stands `by` bytes further back.
    fn shifted(&self, by: u64) -> impl Iterator<Item = (String, Value)> + '_ {
        self.entries.iter().map(move |(name, entry)| {
            let mut entry = entry.clone();
            let ends = entry["data_offsets"].as_array().cloned().unwrap_or_default();
            entry["data_offsets"] = ends.iter().filter_map(Value::as_u64).map(|end| end + by).collect();
            (name.clone(), entry)
        })
    }
}

/// Joins `parts` into `model.safetensors`, or into shards of at most `shard_bytes` (a single larger part is a shard of
/// its own) with an index, in `folder`.
pub fn join(parts: &[PathBuf], folder: &Path, shard_bytes: u64) -> Result<(), CheckpointError> {
    let mut shards: Vec<Vec<Part>> = Vec::new();
    let bytes = |shard: &[Part]| shard.iter().map(|part| part.data_bytes).sum::<u64>();
    for path in parts {
        let part = Part::open(path)?;
        match shards.last_mut().filter(|shard| bytes(shard) + part.data_bytes <= shard_bytes) {
            Some(shard) => shard.push(part),
            None => shards.push(vec![part]),
        }
    }
    let count = shards.len();
    let total: u64 = shards.iter().map(|shard| bytes(shard)).sum();
    let mut weight_map = Map::new();
    for (index, mut shard) in shards.into_iter().enumerate() {
        let name = shard_name(index, count);
        join_shard(&mut shard, &folder.join(&name))?;
        let names = shard.iter().flat_map(|part| part.entries.keys().cloned());
        weight_map.extend(names.map(|tensor| (tensor, Value::from(name.clone()))));
    }
    if count == 1 {
        return Ok(());
    }
    write_index(folder, total, &weight_map)
}

fn join_shard(parts: &mut [Part], path: &Path) -> Result<(), CheckpointError> {
    let mut entries = Map::new();
    let mut length = 0;
    for part in &*parts {
        entries.extend(part.shifted(length));
        length += part.data_bytes;
    }
    let failure = || CheckpointError::io("write", path);
    let mut file = BufWriter::new(File::create(path).map_err(failure())?);
    file.write_all(&header(entries)).map_err(failure())?;
    for part in parts {
        part.file.seek(SeekFrom::Start(part.data_start)).map_err(CheckpointError::io("read", &part.path))?;
        io::copy(&mut part.file, &mut file).map_err(failure())?;
    }
    file.into_inner().map_err(|error| failure()(error.into_error()))?.sync_all().map_err(failure())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, bytes: &[u8]) -> Tensor {
        Tensor::new(name.to_owned(), "F16", &[bytes.len() / 2], bytes.to_vec())
    }

    /// Every tensor of the files in a folder, as the safetensors crate reads them.
    fn read(folder: &Path, files: &[&str]) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        for file in files {
            let bytes = std::fs::read(folder.join(file)).unwrap();
            let tensors = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
            all.extend(tensors.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())));
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn parts_join_into_one_file_or_into_shards() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let parts = [path("a"), path("b"), path("c")];
        write(&parts[0], &[tensor("a.1", &[1, 2]), tensor("a.2", &[3, 4, 5, 6])]).unwrap();
        write(&parts[1], &[tensor("b", &[7; 10])]).unwrap();
        write(&parts[2], &[tensor("c", &[8, 9])]).unwrap();
        let expected: Vec<(String, Vec<u8>)> =
            [("a.1", vec![1, 2]), ("a.2", vec![3, 4, 5, 6]), ("b", vec![7; 10]), ("c", vec![8, 9])]
                .map(|(name, bytes)| (name.to_owned(), bytes))
                .to_vec();

        join(&parts, folder.path(), 1000).unwrap();
        assert_eq!(read(folder.path(), &["model.safetensors"]), expected);
        assert!(!path("model.safetensors.index.json").exists());

        join(&parts, folder.path(), 12).unwrap();
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(read(folder.path(), &shards), expected);
        let index: Value =
            serde_json::from_slice(&std::fs::read(path("model.safetensors.index.json")).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], 18);
        assert_eq!((&index["weight_map"]["a.2"], &index["weight_map"]["c"]), (&json!(shards[0]), &json!(shards[1])));
    }
}
