//! The pipeline from a shape to a checkpoint folder: check → lay out tensors → fill in parallel → write config and tokenizer.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::layout::{Filler, Tensor, shards, tensors};
use super::{ModelShape, SynthError, SynthFormat, tokenizer};
use crate::checkpoint::safetensors::{header_of, shard_name, write_index};
use crate::checkpoint::{CheckpointError, CheckpointFolder, write_json};
use crate::engine::model::ModelConfig;
use crate::files::write_all_at;

/// Bytes that one thread makes and writes at a time.
const CHUNK_BYTES: u64 = 4 << 20;

/// Chunks a thread between two looks at the clock.
const CHUNKS_A_THREAD: usize = 4;

/// One checkpoint to make.
#[derive(Debug, Clone, PartialEq)]
pub struct SynthJob {
    /// Whose shape.
    pub shape: ModelShape,
    /// How weights are stored.
    pub format: SynthFormat,
    /// The folder to make.
    pub out: PathBuf,
    /// Of all values.
    pub seed: u64,
    /// Only the first blocks of the model.
    pub layers: Option<usize>,
}

/// Progress so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SynthProgress {
    /// Bytes written.
    pub done_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
    /// Seconds since the first.
    pub seconds: f64,
}

impl SynthProgress {
    /// Estimated seconds left, at the speed so far.
    pub fn remaining_seconds(&self) -> Option<f64> {
        let left = self.total_bytes.saturating_sub(self.done_bytes) as f64;
        (self.done_bytes > 0).then(|| self.seconds / self.done_bytes as f64 * left)
    }
}

/// How a synthesis ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SynthEnd {
    /// The checkpoint is in the job's folder; its bytes of weights.
    Written(u64),
    /// Nothing is left of it.
    Interrupted,
}

/// Runs a job. An unfinished folder is removed on failure or interruption: making it again takes seconds.
pub fn synthesise(
    job: &SynthJob,
    emit: &mut dyn FnMut(SynthProgress),
    interrupted: &AtomicBool,
) -> Result<SynthEnd, SynthError> {
    let layers = layers(job)?;
    let mut config = job.shape.config(layers, job.format.torch_dtype());
    if let Some(quantization) = job.format.quantization() {
        config["quantization_config"] = quantization.to_awq_json();
    }
    let model = ModelConfig::from_json(&config, &format!("the shape {}", job.shape.name))?;
    let shards = shards(tensors(&model, job.format)?);
    let total_bytes = shards.iter().flatten().map(|tensor| tensor.bytes).sum();

    let folder = CheckpointFolder::open(&job.out, &deciding(job, layers))?;
    let written = folder.check_space(total_bytes).map_err(SynthError::from).and_then(|()| {
        let mut writer = Writer {
            filler: Filler::new(job.seed, job.format),
            progress: SynthProgress { done_bytes: 0, total_bytes, seconds: 0.0 },
            begun: Instant::now(),
            emit,
            interrupted,
        };
        writer.write(&shards, folder.path())
    });
    match written {
        Ok(true) => {
            describe(folder.path(), &config, &job.shape)?;
            folder.finish(&[])?;
            Ok(SynthEnd::Written(total_bytes))
        }
        Ok(false) => folder.discard().map(|()| SynthEnd::Interrupted).map_err(SynthError::from),
        Err(error) => {
            // The first failure is returned; a failed clean-up after it is not reported.
            let _ = folder.discard();
            Err(error)
        }
    }
}

fn layers(job: &SynthJob) -> Result<usize, SynthError> {
    let all = job.shape.layers();
    match job.layers {
        None => Ok(all),
        Some(layers) if (1..=all).contains(&layers) => Ok(layers),
        Some(layers) => Err(SynthError::invalid(
            format!("--layers {layers}: the shape {} has {all} blocks", job.shape.name),
            format!("give a number from 1 to {all}, or leave it out for all of them"),
        )),
    }
}

fn deciding(job: &SynthJob, layers: usize) -> [(&'static str, String); 5] {
    [
        ("evalsuite's version", env!("CARGO_PKG_VERSION").to_owned()),
        ("shape", job.shape.name.to_owned()),
        ("format", job.format.in_words()),
        ("blocks", layers.to_string()),
        ("seed", job.seed.to_string()),
    ]
}

fn describe(folder: &Path, config: &Value, shape: &ModelShape) -> Result<(), CheckpointError> {
    write_json(&folder.join("config.json"), config)?;
    tokenizer::files(shape).iter().try_for_each(|(name, value)| write_json(&folder.join(name), value))
}

struct Writer<'a> {
    filler: Filler,
    progress: SynthProgress,
    begun: Instant,
    emit: &'a mut dyn FnMut(SynthProgress),
    interrupted: &'a AtomicBool,
}

/// A piece of a tensor and its offset in the file.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    tensor: &'a Tensor,
    start: u64,
    length: u64,
    offset: u64,
}

impl Writer<'_> {
    /// Writes the weights; `false` when interrupted. They are not synced: after a power cut they are made again.
    fn write(&mut self, shards: &[Vec<Tensor>], folder: &Path) -> Result<bool, SynthError> {
        let mut weight_map = Map::new();
        for (index, tensors) in shards.iter().enumerate() {
            let name = shard_name(index, shards.len());
            if !self.write_shard(tensors, &folder.join(&name))? {
                return Ok(false);
            }
            weight_map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), json!(name))));
        }
        if shards.len() > 1 {
            write_index(folder, self.progress.total_bytes, &weight_map)?;
        }
        Ok(true)
    }

    fn write_shard(&mut self, tensors: &[Tensor], path: &Path) -> Result<bool, SynthError> {
        let failure = || CheckpointError::io("write", path);
        let entries =
            tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.element, &tensor.shape[..], tensor.bytes));
        let header = header_of(entries);
        let file = File::create(path).map_err(failure())?;
        write_all_at(&file, &header, 0).map_err(failure())?;
        let chunks = chunks(tensors, header.len() as u64);
        for wave in chunks.chunks(CHUNKS_A_THREAD * rayon::current_num_threads()) {
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(false);
            }
            wave.par_iter()
                .try_for_each_init(Vec::new, |buffer, chunk| {
                    buffer.resize(chunk.length as usize, 0);
                    self.filler.fill(chunk.tensor, chunk.start, buffer);
                    write_all_at(&file, buffer, chunk.offset)
                })
                .map_err(failure())?;
            self.progress.done_bytes += wave.iter().map(|chunk| chunk.length).sum::<u64>();
            self.progress.seconds = self.begun.elapsed().as_secs_f64();
            (self.emit)(self.progress);
        }
        Ok(true)
    }
}

fn chunks(tensors: &[Tensor], mut offset: u64) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    for tensor in tensors {
        let mut start = 0;
        while start < tensor.bytes {
            let length = CHUNK_BYTES.min(tensor.bytes - start);
            chunks.push(Chunk { tensor, start, length, offset: offset + start });
            start += length;
        }
        offset += tensor.bytes;
    }
    chunks
}
