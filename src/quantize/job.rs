//! The pipeline from a model to its quantised checkpoint: open → quantise block by block → copy the other tensors → join → describe.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::block::{STEPS, batches, improve, pass};
use super::calibration::CalibrationText;
use super::scheme::{GROUP_SIZES, Groups, Scheme, StoredFormat, check};
use super::{QuantizeError, describe, tensors};
use crate::checkpoint::{CheckpointError, CheckpointFolder, safetensors};
use crate::engine::cpu::Calibration;
use crate::engine::model::{ModelConfig, ModelSource, ModelSpec, TensorNames};
use crate::hub::Hub;

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Activation-aware: scales and limits are searched for on a calibration text.
    Awq,
    /// Round to nearest, as the weights are.
    Rtn,
}

impl Method {
    /// Names on the command line.
    pub const NAMES: [&str; 2] = ["awq", "rtn"];

    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Awq, Self::Rtn].into_iter().find(|method| method.name() == name)
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Awq => "awq",
            Self::Rtn => "rtn",
        }
    }
}

/// One quantisation.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizeJob {
    /// The model.
    pub model: ModelSpec,
    /// The folder to make.
    pub out: PathBuf,
    /// What the packed layers are stored as.
    pub format: StoredFormat,
    /// Inputs that share a scale; by default the largest of [`GROUP_SIZES`] that fits every layer.
    pub groups: Option<Groups>,
    /// Whether codes are counted from the middle, without zero points.
    pub symmetric: bool,
    /// Text to calibrate on, instead of the bundled problems' train split.
    pub calibration: Option<PathBuf>,
    /// How.
    pub method: Method,
    /// Blocks that stay in binary16, by number from 0.
    pub keep: BTreeSet<usize>,
}

/// Events of a running quantisation.
#[derive(Debug, Clone, PartialEq)]
pub enum QuantizeEvent {
    /// Everything is read and checked; work begins, or goes on.
    Begun {
        /// The model's name.
        model: String,
        /// What the packed layers are stored as.
        format: StoredFormat,
        /// How weights become codes.
        scheme: Scheme,
        /// Source and number of tokens of the calibration text, where there is one.
        calibration: Option<(String, usize)>,
        /// The folder that the checkpoint grows in.
        folder: PathBuf,
        /// Blocks that are there already.
        done: usize,
        /// Blocks of the model.
        blocks: usize,
        /// Those that stay in binary16.
        kept: Vec<usize>,
    },
    /// A step of a block is done.
    Progress(QuantizeProgress),
}

/// Progress so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantizeProgress {
    /// Steps done, those of earlier sessions included.
    pub done: usize,
    /// Steps done in this session.
    pub done_now: usize,
    /// All steps.
    pub total: usize,
    /// The block at work, from 1.
    pub block: usize,
    /// Blocks of the model.
    pub blocks: usize,
    /// Seconds of this session.
    pub seconds: f64,
}

impl QuantizeProgress {
    /// Estimated seconds left, at the speed so far.
    pub fn remaining_seconds(&self) -> Option<f64> {
        let left = self.total.saturating_sub(self.done) as f64;
        (self.done_now > 0).then(|| self.seconds / self.done_now as f64 * left)
    }
}

/// How a quantisation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuantizeEnd {
    /// The checkpoint is in this folder.
    Written(PathBuf),
    /// Finished blocks are in this folder; the same command goes on there.
    Interrupted(PathBuf),
}

/// Runs a job. `interrupted` is looked at between the steps of a block.
pub fn quantize(
    job: &QuantizeJob,
    hub: &Hub,
    emit: &mut dyn FnMut(QuantizeEvent),
    interrupted: &AtomicBool,
) -> Result<QuantizeEnd, QuantizeError> {
    // The cheap and the local first: a destination that is taken should not wait for a download.
    check(job.format, job.groups, job.symmetric)?;
    CheckpointFolder::check_destination(&job.out)?;
    let source = ModelSource::open(&job.model, hub)?;
    tensors::check_features(&source)?;
    let names = TensorNames::new(&source.config, &source.tensors.names());
    let groups = groups(&source.config, &names, job.format, job.groups)?;
    let scheme = Scheme { groups, symmetric: job.symmetric };
    check_kept(&job.keep, &source)?;
    let description = describe::files(&source, describe::section(job.format, scheme, &names, &job.keep))?;
    let text = match job.method {
        Method::Awq => Some(CalibrationText::open(job.calibration.as_deref(), &source, hub)?),
        Method::Rtn => None,
    };
    let mut deciding = vec![
        ("evalsuite's version", env!("CARGO_PKG_VERSION").to_owned()),
        ("model (SHA-256)", source.sha256.wait()?.to_owned()),
        ("method", job.method.name().to_owned()),
        ("group size", groups.in_words()),
        (
            "calibration text (SHA-256 of its tokens)",
            text.as_ref().map_or_else(|| "none".to_owned(), CalibrationText::sha256),
        ),
    ];
    if !job.keep.is_empty() {
        deciding.push(("layers that are kept", in_words(&job.keep)));
    }
    if job.format != StoredFormat::Awq {
        deciding.push(("format", job.format.name().to_owned()));
    }
    if job.symmetric {
        deciding.push(("rounding", "symmetric".to_owned()));
    }
    let work = CheckpointFolder::open(&job.out, &deciding)?;
    work.check_space(bytes_needed(&source.config, scheme, job.keep.len()))?;

    let format = job.format;
    let run = Run { source: &source, names: &names, format, scheme, keep: &job.keep, work: &work, interrupted };
    emit(run.begun(text.as_ref()));
    let mut parts = vec![run.outside_blocks()?];
    let Some(blocks) = run.blocks(text.as_ref(), emit)? else {
        return Ok(QuantizeEnd::Interrupted(work.path().to_path_buf()));
    };
    parts.extend(blocks);
    safetensors::join(&parts, work.path(), safetensors::SHARD_BYTES)?;
    for (name, bytes) in &description {
        let path = work.path().join(name);
        crate::files::write_atomically(&path, bytes).map_err(CheckpointError::io("write", &path))?;
    }
    work.finish(&parts)?;
    Ok(QuantizeEnd::Written(job.out.clone()))
}

/// What every step of a run needs.
struct Run<'a> {
    source: &'a ModelSource,
    names: &'a TensorNames,
    format: StoredFormat,
    scheme: Scheme,
    keep: &'a BTreeSet<usize>,
    work: &'a CheckpointFolder,
    interrupted: &'a AtomicBool,
}

impl Run<'_> {
    fn begun(&self, text: Option<&CalibrationText>) -> QuantizeEvent {
        let blocks = self.source.config.layers;
        QuantizeEvent::Begun {
            model: self.source.name.clone(),
            format: self.format,
            scheme: self.scheme,
            calibration: text.map(|text| (text.source.clone(), text.tokens())),
            folder: self.work.path().to_path_buf(),
            done: (0..blocks).filter(|layer| self.block_part(*layer).exists()).count(),
            blocks,
            kept: self.keep.iter().copied().collect(),
        }
    }

    fn block_part(&self, layer: usize) -> PathBuf {
        self.work.part(&format!("block-{layer:05}"))
    }

    /// Writes embeddings, final norm and output projection.
    fn outside_blocks(&self) -> Result<PathBuf, QuantizeError> {
        let path = self.work.part("outside-blocks");
        if !path.exists() {
            let names = tensors::outside_blocks(&self.source.config, self.names);
            let tensors = names.iter().map(|name| tensors::copied(self.source, name)).collect::<Result<Vec<_>, _>>()?;
            safetensors::write(&path, &tensors)?;
        }
        Ok(path)
    }

    /// Writes every block that is not there yet; `None` when interrupted.
    fn blocks(
        &self,
        text: Option<&CalibrationText>,
        emit: &mut dyn FnMut(QuantizeEvent),
    ) -> Result<Option<Vec<PathBuf>>, QuantizeError> {
        let mut calibrated = match text {
            Some(text) => {
                let calibration = Calibration::open(self.source)?;
                Some((batches(&text.sequences, &calibration), calibration))
            }
            None => None,
        };
        let config = &self.source.config;
        let mut clock = Clock {
            blocks: config.layers,
            steps_a_block: if calibrated.is_some() { STEPS } else { 1 },
            done: 0,
            done_now: 0,
            began: Instant::now(),
            emit,
        };
        let mut paths = Vec::new();
        for layer in 0..config.layers {
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let path = self.block_part(layer);
            let done = path.exists();
            if !done || calibrated.is_some() {
                let mut block = Calibration::block(self.source, layer)?;
                let mut step = || {
                    clock.step(layer);
                    !self.interrupted.load(Ordering::Relaxed)
                };
                let kept = self.keep.contains(&layer);
                let finished = match &mut calibrated {
                    // What was finished earlier, or stays as it is, still has to feed the next block.
                    Some((batches, calibration)) if done || kept => {
                        pass(batches, &block, calibration);
                        true
                    }
                    Some((batches, calibration)) => {
                        improve(&mut block, batches, calibration, config, self.scheme, &mut step)
                    }
                    None => {
                        step();
                        true
                    }
                };
                if !finished {
                    return Ok(None);
                }
                if !done {
                    let packed = (!kept).then_some((self.format, self.scheme));
                    let tensors = tensors::of_block(&block, config, &self.names.block(layer), packed)?;
                    safetensors::write(&path, &tensors)?;
                }
            }
            if done || (calibrated.is_some() && self.keep.contains(&layer)) {
                clock.skip();
            }
            paths.push(path);
        }
        Ok(Some(paths))
    }
}

/// Counts steps and emits their progress.
struct Clock<'a> {
    blocks: usize,
    steps_a_block: usize,
    done: usize,
    done_now: usize,
    began: Instant,
    emit: &'a mut dyn FnMut(QuantizeEvent),
}

impl Clock<'_> {
    fn skip(&mut self) {
        self.done += self.steps_a_block;
    }

    fn step(&mut self, layer: usize) {
        self.done_now += 1;
        self.done += 1;
        (self.emit)(QuantizeEvent::Progress(QuantizeProgress {
            done: self.done,
            done_now: self.done_now,
            total: self.blocks * self.steps_a_block,
            block: layer + 1,
            blocks: self.blocks,
            seconds: self.began.elapsed().as_secs_f64(),
        }));
    }
}

/// The wanted groups, or the largest that divide every layer's inputs.
fn groups(
    config: &ModelConfig,
    names: &TensorNames,
    format: StoredFormat,
    wanted: Option<Groups>,
) -> Result<Groups, QuantizeError> {
    let names = names.block(0);
    let shapes = names.linear_shapes(config);
    let unfilled = shapes.iter().find(|(_, [outputs, _])| format == StoredFormat::Awq && !outputs.is_multiple_of(8));
    if let Some((name, [outputs, _])) = unfilled {
        return Err(QuantizeError::invalid(
            format!("{name} has {outputs} outputs, which do not fill words of eight codes"),
            "the AWQ format cannot hold this model: add `--format compressed-tensors`",
        ));
    }
    let wanted = match wanted {
        Some(Groups::Channel) => return Ok(Groups::Channel),
        Some(Groups::Size(size)) => Some(size),
        None => None,
    };
    let misfit = |size: usize| shapes.iter().find(|(_, [_, inputs])| !inputs.is_multiple_of(size));
    let fitting = GROUP_SIZES.into_iter().find(|size| misfit(*size).is_none());
    let chosen = wanted.or(fitting).unwrap_or(GROUP_SIZES[GROUP_SIZES.len() - 1]);
    let Some((name, [_, inputs])) = misfit(chosen) else { return Ok(Groups::Size(chosen)) };
    Err(QuantizeError::invalid(
        format!("{name} has {inputs} inputs, which do not divide into groups of {chosen}"),
        match fitting {
            Some(size) => format!("`--group-size {size}` fits every layer of this model; so does leaving it out"),
            None => format!(
                "none of the group sizes {GROUP_SIZES:?} fits every layer of this model: add `--format \
                 compressed-tensors --group-size channel`, one scale an output"
            ),
        },
    ))
}

/// Refuses layers that the model has not, and keeping all of them.
fn check_kept(keep: &BTreeSet<usize>, source: &ModelSource) -> Result<(), QuantizeError> {
    let layers = source.config.layers;
    if let Some(layer) = keep.last().filter(|layer| **layer >= layers) {
        return Err(QuantizeError::invalid(
            format!("--keep {layer}: {} has {layers} layers", source.name),
            format!("layers are counted from 0: give some of 0 to {}", layers - 1),
        ));
    }
    if keep.len() == layers {
        return Err(QuantizeError::invalid(
            format!("--keep names all {layers} layers of {}: nothing is left to quantise", source.name),
            "keep fewer; `--dtype f16` runs the model as it is",
        ));
    }
    Ok(())
}

fn in_words(layers: &BTreeSet<usize>) -> String {
    layers.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Bytes on disk at the worst moment: the parts, and the checkpoint that is joined from them.
fn bytes_needed(config: &ModelConfig, scheme: Scheme, kept: usize) -> u64 {
    let in_blocks = config.parameters() - config.table_parameters();
    let kept = in_blocks / config.layers.max(1) as u64 * kept as u64;
    let (tables, packed) = (config.table_parameters() + kept, in_blocks - kept);
    // Half a byte a weight, and two and a half a group.
    2 * (2 * tables + packed / 2 + packed / scheme.group_of(config.hidden) as u64 * 5 / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::Family;

    fn config(hidden: usize, intermediate: usize) -> ModelConfig {
        let heads = hidden / 32;
        let example = ModelConfig::example(Family::Llama).unwrap();
        ModelConfig { hidden, intermediate, heads, kv_heads: 1, head_dim: 32, ..example }
    }

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done_in_this_session() {
        let progress = QuantizeProgress { done: 6, done_now: 4, total: 10, block: 3, blocks: 5, seconds: 8.0 };
        assert_eq!(progress.remaining_seconds(), Some(8.0));
        assert_eq!(QuantizeProgress { done_now: 1, ..progress }.remaining_seconds(), Some(32.0));
        assert_eq!(QuantizeProgress { done_now: 0, ..progress }.remaining_seconds(), None);
    }

    #[test]
    fn a_checkpoint_takes_twice_its_tables_and_packed_weights() {
        let config = config(128, 256);
        let (tables, blocks) =
            (config.table_parameters() as f64, (config.parameters() - config.table_parameters()) as f64);
        let scheme = Scheme { groups: Groups::Size(64), symmetric: false };
        for kept in 0..=config.layers {
            let whole = blocks * kept as f64 / config.layers as f64;
            let expected = 2.0 * (2.0 * (tables + whole) + (blocks - whole) * (0.5 + 2.5 / 64.0));
            let found = bytes_needed(&config, scheme, kept) as f64;
            assert!((found - expected).abs() < 64.0 * 5.0, "{found} is not {expected}");
        }
    }

    #[test]
    fn the_group_size_is_the_largest_that_fits() {
        let groups = |hidden, intermediate, format, wanted| {
            let config = config(hidden, intermediate);
            groups(&config, &TensorNames::new(&config, &[]), format, wanted).map_err(|error| error.to_string())
        };
        let size = |hidden, intermediate, wanted: Option<usize>| {
            groups(hidden, intermediate, StoredFormat::Awq, wanted.map(Groups::Size))
        };
        assert_eq!(size(576, 1536, None), Ok(Groups::Size(64)), "SmolLM2-135M");
        assert_eq!(size(2048, 5632, None), Ok(Groups::Size(128)), "TinyLlama");
        assert_eq!(size(96, 256, None), Ok(Groups::Size(32)));
        assert_eq!(size(2048, 5632, Some(32)), Ok(Groups::Size(32)));
        let error = size(576, 1536, Some(128)).unwrap_err();
        assert!(error.contains("q_proj has 576 inputs") && error.contains("`--group-size 64` fits"), "{error}");
        let error = size(128, 200, None).unwrap_err();
        assert!(error.contains("down_proj has 200 inputs") && error.contains("none of the group sizes"), "{error}");
        let error = size(128, 204, None).unwrap_err();
        assert!(error.contains("gate_proj has 204 outputs"), "{error}");
        let format = StoredFormat::CompressedTensors;
        assert_eq!(groups(128, 204, format, Some(Groups::Channel)), Ok(Groups::Channel));
        assert!(groups(128, 204, format, None).unwrap_err().contains("down_proj has 204 inputs"));
    }
}
