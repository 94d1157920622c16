//! Models and weights that the tests of the fused decode kernel run on.

use half::{bf16, f16};

use super::super::pack::{AwqShape, AwqSource, Pack, int8_code_bytes};
use super::layers::{LinearRef, Packing, WeightsRef, inputs, is_gated, pair_spans};
use crate::cuda::buffer::Buffer;
use crate::cuda::device::Device;
use crate::cuda::element::ElementType;
use crate::cuda::testing::Random;
use crate::model::{AwqTensor, Family, ModelConfig, NormKind};
use crate::{Arithmetic, Dtype};

/// `TinyLlama`'s sizes.
pub(super) fn tiny() -> ModelConfig {
    ModelConfig {
        vocabulary: 32_000,
        hidden: 2048,
        intermediate: 5632,
        layers: 22,
        heads: 32,
        kv_heads: 4,
        head_dim: 64,
        context_tokens: 300,
        tied_embeddings: false,
        ..ModelConfig::example(Family::Llama).unwrap()
    }
}

/// Another model of the family: hidden, intermediate, heads, KV heads, elements of a head, vocabulary.
fn llama([hidden, intermediate, heads, kv_heads, head_dim, vocabulary]: [usize; 6]) -> ModelConfig {
    ModelConfig { vocabulary, hidden, intermediate, heads, kv_heads, head_dim, ..tiny() }
}

/// `SmolLM2`-135M's sizes.
pub(super) fn smol() -> ModelConfig {
    llama([576, 1536, 9, 3, 64, 5000])
}

/// Llama-2-7B's sizes.
pub(super) fn seven() -> ModelConfig {
    llama([4096, 11_008, 32, 32, 128, 32_000])
}

/// OPT-125M's sizes.
fn opt() -> ModelConfig {
    let ModelConfig { layers, context_tokens, tied_embeddings, .. } = tiny();
    ModelConfig {
        vocabulary: 1001,
        hidden: 768,
        intermediate: 3072,
        layers,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        context_tokens,
        tied_embeddings,
        ..ModelConfig::example(Family::Opt).unwrap()
    }
}

/// What is compiled and compared.
pub(super) fn models() -> Vec<(ModelConfig, Dtype, Packing)> {
    let three_heads = llama([192, 384, 3, 1, 64, 2049]);
    // Qwen2.5's biases, at heads of 128; heads of 80 and 96, and sizes that end within a block of every kind.
    let qwen = ModelConfig { qkv_bias: true, ..llama([896, 1208, 7, 1, 128, 777]) };
    let eighty = ModelConfig { output_bias: true, mlp_bias: true, ..llama([400, 1000, 5, 5, 80, 333]) };
    let ninety_six = llama([288, 200, 3, 3, 96, 64]);
    let mut models = Vec::new();
    for config in [tiny(), smol(), three_heads.clone(), qwen.clone(), opt(), eighty.clone(), ninety_six] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            models.push((config.clone(), dtype, Packing::Dense));
        }
        models.push((config, Dtype::Int8, Packing::Int8));
    }
    let awq = |group_size| Packing::Awq { group_size };
    for (config, group_size) in [
        (tiny(), Some(128)),
        (tiny(), Some(64)),
        (tiny(), Some(32)),
        (tiny(), None),
        (smol(), Some(64)),
        (smol(), Some(32)),
        (smol(), None),
        (three_heads, Some(32)),
        (qwen, Some(8)),
        (opt(), Some(96)),
        (eighty, Some(40)),
        (llama([288, 480, 3, 3, 96, 64]), Some(48)),
    ] {
        models.push((config, Dtype::Awq, awq(group_size)));
    }
    // Rows so long that eight of them do not fit into shared memory.
    models.push((llama([128, 14_336, 2, 1, 64, 64]), Dtype::F16, Packing::Dense));
    models.push((llama([128, 14_336, 2, 1, 64, 64]), Dtype::F32, Packing::Dense));
    models.push((llama([128, 14_336, 2, 1, 64, 64]), Dtype::Awq, awq(Some(128))));
    models
}

/// Values in the run's element type.
pub(super) fn encode(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype.arithmetic {
        Arithmetic::F32 => values.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Arithmetic::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_ne_bytes()).collect(),
        Arithmetic::Bf16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_ne_bytes()).collect(),
    }
}

/// The inverse of [`encode`].
pub(super) fn decode(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let pairs = || bytes.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
    match dtype.arithmetic {
        Arithmetic::F32 => bytes.chunks_exact(4).map(|x| f32::from_ne_bytes([x[0], x[1], x[2], x[3]])).collect(),
        Arithmetic::F16 => pairs().map(|bits| f16::from_bits(bits).to_f32()).collect(),
        Arithmetic::Bf16 => pairs().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
    }
}

/// Rounded to the run's element type.
pub(super) fn rounded(dtype: Dtype, values: &[f32]) -> Vec<f32> {
    decode(dtype, &encode(dtype, values))
}

/// The values of tagged words, all of which must have this tag.
pub(super) fn tagged_values(dtype: Dtype, words: &[u8], tag: u16, what: &str) -> Vec<f32> {
    let bytes = ElementType::of(dtype.arithmetic).bytes();
    let (values, tags): (Vec<&[u8]>, Vec<&[u8]>) = words.chunks(2 * bytes).map(|word| word.split_at(bytes)).unzip();
    let tagged = |found: &&[u8]| found[..2] == tag.to_ne_bytes() && found[2..].iter().all(|byte| *byte == 0);
    assert!(tags.iter().all(tagged), "{what}: a word without the tag {tag}");
    decode(dtype, &values.concat())
}

/// A norm's weight, and its bias where it has one.
pub(super) fn norm_values(config: &ModelConfig, dtype: Dtype, random: &mut Random) -> (Vec<f32>, Option<Vec<f32>>) {
    let mut values = |spread| rounded(dtype, &random.matrix(1, config.hidden, spread));
    let weight = values(0.3).iter().map(|w| 1.0 + w).collect::<Vec<f32>>();
    let bias = (config.norm == NormKind::Layer).then(|| values(0.2));
    (rounded(dtype, &weight), bias)
}

/// A linear layer in device memory, and what it is.
pub(super) struct Made {
    pub(super) inputs: usize,
    /// `[outputs, inputs]`, exactly.
    pub(super) values: Vec<f64>,
    /// `[outputs]`, zeros where there is none.
    pub(super) bias: Vec<f32>,
    weights: WeightsRef,
    bias_buffer: Option<Buffer>,
    /// Keeps the weights alive.
    _buffers: Vec<Buffer>,
}

impl Made {
    pub(super) fn linear(&self) -> LinearRef {
        LinearRef { weights: self.weights, bias: self.bias_buffer.as_ref().map(Buffer::pointer) }
    }
}

/// The linear layer number `at` of a decoder layer.
pub(super) fn layer_linear(
    device: &Device,
    config: &ModelConfig,
    dtype: Dtype,
    packing: Packing,
    at: usize,
    random: &mut Random,
) -> Made {
    let has_bias = [config.qkv_bias, config.output_bias, config.mlp_bias, config.mlp_bias][at];
    let qkv = (config.heads + 2 * config.kv_heads) * config.head_dim;
    let up = if is_gated(config) { 2 * config.intermediate } else { config.intermediate };
    let (outputs, inputs) = ([qkv, config.hidden, up, config.hidden][at], inputs(config)[at]);
    let group_size = if let Packing::Awq { group_size } = packing { group_size.unwrap_or(inputs) } else { 0 };
    let span = pair_spans(config)[at];
    layer_weights(device, dtype, packing, [outputs, inputs], (group_size, span), has_bias, random)
}

/// Random weights `[outputs, inputs]`, packed by the kernels of `pack.rs`; four bits in groups, rows at a distance of `span` paired.
pub(super) fn layer_weights(
    device: &Device,
    dtype: Dtype,
    packing: Packing,
    [outputs, inputs]: [usize; 2],
    (group_size, span): (usize, usize),
    has_bias: bool,
    random: &mut Random,
) -> Made {
    let dense = rounded(dtype, &random.matrix(outputs, inputs, 1.0 / (inputs as f32).sqrt()));
    let bias = if has_bias { rounded(dtype, &random.matrix(1, outputs, 0.5)) } else { vec![0.0; outputs] };
    let bias_buffer = has_bias.then(|| Buffer::of(device, &encode(dtype, &bias)).unwrap());
    let (weights, values, buffers): (_, Vec<f64>, _) = match packing {
        Packing::Dense => {
            let buffer = Buffer::of(device, &encode(dtype, &dense)).unwrap();
            (WeightsRef::Dense(buffer.pointer()), dense.iter().map(|w| f64::from(*w)).collect(), vec![buffer])
        }
        Packing::Int8 => {
            let source = Buffer::of(device, &dense).unwrap();
            let codes = Buffer::new(device, int8_code_bytes(outputs, inputs)).unwrap();
            let scales = Buffer::new(device, outputs * 4).unwrap();
            let pointers = (codes.pointer(), scales.pointer());
            let pack = Pack::load(device).unwrap();
            pack.int8(device, (source.pointer(), ElementType::F32), [outputs, inputs], pointers).unwrap();
            let scale = |row: &[f32]| row.iter().fold(0.0_f32, |top, w| top.max(w.abs())) / 127.0;
            let row = |row: &[f32]| -> Vec<f64> {
                let scale = scale(row);
                row.iter().map(|w| f64::from((w / scale).round_ties_even()) * f64::from(scale)).collect()
            };
            let values = dense.chunks(inputs).flat_map(row).collect();
            device.synchronize().unwrap();
            (WeightsRef::Int8 { codes: pointers.0, scales: pointers.1 }, values, vec![codes, scales])
        }
        Packing::Awq { .. } => {
            let groups = inputs / group_size;
            let q: Vec<u8> = (0..outputs * inputs).map(|_| random.below(16) as u8).collect();
            let zeros: Vec<u8> = (0..outputs * groups).map(|_| random.below(16) as u8).collect();
            let scale = 0.2 / (inputs as f32).sqrt();
            let scales: Vec<f16> =
                (0..outputs * groups).map(|_| f16::from_f32(scale * (0.1 + random.normal().abs()))).collect();
            let tensor = AwqTensor::pack(outputs, inputs, group_size, &q, &zeros, &scales).unwrap();
            let [qweight, qzeros] = [&tensor.qweight, &tensor.qzeros].map(|words| Buffer::of(device, words).unwrap());
            let scales = Buffer::of(device, &tensor.scales).unwrap();
            let shape = AwqShape { outputs, inputs, group_size, span };
            let codes = Buffer::new(device, shape.code_bytes()).unwrap();
            let words = Buffer::new(device, shape.group_bytes()).unwrap();
            let source =
                AwqSource { outputs, qweight: qweight.pointer(), qzeros: qzeros.pointer(), scales: scales.pointer() };
            let pack = Pack::load(device).unwrap();
            pack.awq(device, &shape, &source, (codes.pointer(), words.pointer()), 0).unwrap();
            device.synchronize().unwrap();
            let weights = WeightsRef::Awq { codes: codes.pointer(), groups: words.pointer(), group_size };
            (weights, tensor.dequantize().iter().map(|w| f64::from(*w)).collect(), vec![codes, words])
        }
    };
    Made { inputs, values, bias, weights, bias_buffer, _buffers: buffers }
}
