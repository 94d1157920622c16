//! AWQ checkpoints of the tiny models under tests/data and of other folders, quantised and packed by the tests themselves: nothing
//! of the program's own packing is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evalsuite::engine::model::TensorValues;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::data;
use crate::tiny_model::{open, write_json};

/// Element type, shape and little-endian bytes.
pub(crate) type Stored = (Dtype, Vec<usize>, Vec<u8>);

/// A checkpoint about to be written, and the same model with every weight written out.
pub(crate) struct Checkpoint {
    pub(crate) config: Value,
    pub(crate) packed: BTreeMap<String, Stored>,
    /// (q − z) · s of every packed layer, in f32.
    pub(crate) dense: BTreeMap<String, Stored>,
    /// The model's folder, for what is no tensor.
    original: PathBuf,
}

fn bytes_f16(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect()
}

fn bytes_f32(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

pub(crate) fn bytes_i32(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Rows of codes `[rows][columns]` as `AutoAWQ` packs them: nibble i of a word holds column [0, 2, 4, 6, 1, 3, 5, 7][i].
fn pack(rows: &[Vec<u32>]) -> Vec<u32> {
    let word =
        |c: &[u32]| c[0] | c[2] << 4 | c[4] << 8 | c[6] << 12 | c[1] << 16 | c[3] << 20 | c[5] << 24 | c[7] << 28;
    rows.iter().flat_map(|row| row.chunks(8).map(word)).collect()
}

impl Checkpoint {
    /// Of `family`'s tiny model.
    pub(crate) fn new(family: &str, group: Option<usize>, kept: Option<&str>, short_scales: bool) -> Self {
        Self::of(&data(family), group, kept, short_scales)
    }

    /// Every linear layer within the blocks of the model in this folder in groups of `group` inputs (`None`: one group a
    /// row), but for layers whose names hold `kept`. With `short_scales` the scales have seven significant bits, so that
    /// every (q − z) · s is a binary16 number.
    pub(crate) fn of(original: &Path, group: Option<usize>, kept: Option<&str>, short_scales: bool) -> Self {
        let source = open(original).unwrap();
        let text = std::fs::read_to_string(original.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["quantization_config"] = json!({
            "quant_method": "awq", "bits": 4, "group_size": group.map_or(json!(-1), |group| json!(group)),
            "zero_point": true, "version": "gemm", "modules_to_not_convert": kept.map(|kept| vec![kept]),
        });
        let (mut packed, mut dense) = (BTreeMap::new(), BTreeMap::new());
        for name in source.tensors.names() {
            let tensor = source.tensors.read(&name).unwrap();
            let values: Vec<f32> = match tensor.values {
                TensorValues::F32(values) => values,
                TensorValues::F16(values) => values.into_iter().map(f16::to_f32).collect(),
                TensorValues::Bf16(values) => values.into_iter().map(bf16::to_f32).collect(),
                TensorValues::I32(_) => panic!("{name} holds whole numbers"),
            };
            let linear = tensor.shape.len() == 2 && name.contains(".layers.");
            if !linear || kept.is_some_and(|kept| name.contains(kept)) {
                let half = (Dtype::F16, tensor.shape.clone(), bytes_f16(values.iter().copied()));
                packed.insert(name.clone(), half);
                let rounded = values.iter().map(|value| f16::from_f32(*value).to_f32());
                dense.insert(name, (Dtype::F32, tensor.shape, bytes_f32(rounded)));
                continue;
            }
            let (outputs, inputs) = (tensor.shape[0], tensor.shape[1]);
            let layer = Layer::new(&values, inputs, group.unwrap_or(inputs), short_scales);
            let stem = name.strip_suffix(".weight").unwrap();
            for (part, stored) in ["qweight", "qzeros", "scales"].into_iter().zip(layer.stored(outputs)) {
                packed.insert(format!("{stem}.{part}"), stored);
            }
            dense.insert(name, (Dtype::F32, tensor.shape, bytes_f32(layer.weights())));
        }
        Self { config, packed, dense, original: original.to_owned() }
    }

    fn folder(&self, config: &Value) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
            let from = self.original.join(name);
            if from.exists() {
                std::fs::copy(from, folder.path().join(name)).unwrap();
            }
        }
        write_json(folder.path(), "config.json", config);
        folder
    }

    /// The AWQ checkpoint in a folder.
    pub(crate) fn write(&self) -> TempDir {
        let folder = self.folder(&self.config);
        write_tensors(&folder.path().join("model.safetensors"), self.packed.iter());
        folder
    }

    /// The same in two shards, with the older spelling of the config beside it.
    pub(crate) fn write_sharded_and_older(&self) -> TempDir {
        let mut config = self.config.clone();
        let section = config.as_object_mut().unwrap().remove("quantization_config").unwrap();
        let folder = self.folder(&config);
        let older = json!({"w_bit": 4, "q_group_size": section["group_size"], "zero_point": true, "version": "GEMM"});
        write_json(folder.path(), "quant_config.json", &older);
        let shard = |index: usize| format!("model-{:05}-of-00002.safetensors", index % 2 + 1);
        for part in 0..2 {
            let tensors = self.packed.iter().enumerate().filter(|(index, _)| index % 2 == part);
            write_tensors(&folder.path().join(shard(part)), tensors.map(|(_, tensor)| tensor));
        }
        let map: BTreeMap<&String, String> =
            self.packed.keys().enumerate().map(|(index, name)| (name, shard(index))).collect();
        write_json(folder.path(), "model.safetensors.index.json", &json!({"weight_map": map}));
        folder
    }

    /// The dense model in f32, with no word of quantisation.
    pub(crate) fn write_dense(&self) -> TempDir {
        let mut config = self.config.clone();
        config.as_object_mut().unwrap().remove("quantization_config");
        let folder = self.folder(&config);
        write_tensors(&folder.path().join("model.safetensors"), self.dense.iter());
        folder
    }
}

fn write_tensors<'a>(path: &Path, tensors: impl Iterator<Item = (&'a String, &'a Stored)>) {
    let views = tensors
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A linear layer rounded to the nearest codes.
struct Layer {
    group: usize,
    inputs: usize,
    /// `[outputs][inputs]`.
    codes: Vec<Vec<u32>>,
    /// `[outputs][groups]`.
    zeros: Vec<Vec<u32>>,
    scales: Vec<Vec<f16>>,
}

impl Layer {
    fn new(weights: &[f32], inputs: usize, group: usize, short_scales: bool) -> Self {
        let mut layer = Self { group, inputs, codes: Vec::new(), zeros: Vec::new(), scales: Vec::new() };
        for row in weights.chunks(inputs) {
            let (mut codes, mut zeros, mut scales) = (Vec::new(), Vec::new(), Vec::new());
            for weights in row.chunks(group) {
                let high = weights.iter().copied().fold(0.0, f32::max);
                let low = weights.iter().copied().fold(0.0, f32::min);
                let mut scale = f16::from_f32(((high - low) / 15.0).max(0.001));
                if short_scales {
                    // Four of the eleven bits go.
                    scale = f16::from_bits(scale.to_bits() & !0xf);
                }
                let zero = (-low / scale.to_f32()).round().clamp(0.0, 15.0);
                let code = |weight: &f32| (weight / scale.to_f32() + zero).round().clamp(0.0, 15.0) as u32;
                codes.extend(weights.iter().map(code));
                zeros.push(zero as u32);
                scales.push(scale);
            }
            layer.codes.push(codes);
            layer.zeros.push(zeros);
            layer.scales.push(scales);
        }
        layer
    }

    fn weights(&self) -> Vec<f32> {
        let rows = self.codes.iter().zip(&self.zeros).zip(&self.scales);
        let weight = |(index, code): (usize, &u32), zeros: &[u32], scales: &[f16]| {
            let group = index / self.group;
            ((f64::from(*code) - f64::from(zeros[group])) * scales[group].to_f64()) as f32
        };
        rows.flat_map(|((codes, zeros), scales)| codes.iter().enumerate().map(move |code| weight(code, zeros, scales)))
            .collect()
    }

    /// `qweight`, `qzeros` and `scales`.
    fn stored(&self, outputs: usize) -> [Stored; 3] {
        let groups = self.inputs / self.group;
        let column = |rows: &[Vec<u32>], at: usize| rows.iter().map(|row| row[at]).collect::<Vec<u32>>();
        let codes: Vec<Vec<u32>> = (0..self.inputs).map(|input| column(&self.codes, input)).collect();
        let zeros: Vec<Vec<u32>> = (0..groups).map(|group| column(&self.zeros, group)).collect();
        let scales = (0..groups).flat_map(|group| self.scales.iter().map(move |row| row[group].to_f32()));
        [
            (Dtype::I32, vec![self.inputs, outputs / 8], bytes_i32(pack(&codes))),
            (Dtype::I32, vec![groups, outputs / 8], bytes_i32(pack(&zeros))),
            (Dtype::F16, vec![groups, outputs], bytes_f16(scales)),
        ]
    }
}
