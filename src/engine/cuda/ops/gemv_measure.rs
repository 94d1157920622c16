//! How long the kernels for few rows take, beside the floor of the bytes that they must move.

use cudarc::driver::sys::{CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::*;
use crate::engine::cuda::buffer::Buffer;
use crate::engine::cuda::ops::argmax::Argmax;
use crate::engine::cuda::ops::gemv_fixture::{encode, seven, smol, tiny};
use crate::engine::cuda::ops::pack::{AwqShape, int8_code_bytes};
use crate::engine::cuda::ops::testing::{Random, card, report};

/// Bytes that weights rotate through at least: more than any second-level cache.
const BEYOND_CACHE: usize = 400 << 20;
const CASES: [(Dtype, Packing); 5] = [
    (Dtype::F16, Packing::Dense),
    (Dtype::F32, Packing::Dense),
    (Dtype::Bf16, Packing::Dense),
    (Dtype::Int8, Packing::Int8),
    (Dtype::Awq, Packing::Awq { group_size: Some(128) }),
];

/// Random bytes for one layer's weights. Codes may be anything; scales and zero points are those of a quantised model.
struct Weights {
    buffers: Vec<Buffer>,
    packing: Packing,
    bytes: usize,
}

/// 16 MiB of random elements, repeated: what memory moves does not depend on it.
fn random_elements(device: &Device, dtype: Dtype, bytes: usize) -> Buffer {
    let values = Random::new(5).matrix(1, (4 << 20).min(bytes / 2 + 1), 0.02);
    fill(device, &encode(dtype, &values), bytes)
}

fn fill(device: &Device, pattern: &[u8], bytes: usize) -> Buffer {
    let buffer = Buffer::new(device, bytes).unwrap();
    for at in (0..bytes).step_by(pattern.len()) {
        buffer.write(device, at, &pattern[..pattern.len().min(bytes - at)]).unwrap();
    }
    device.synchronize().unwrap();
    buffer
}

impl Weights {
    fn new(device: &Device, shape: &Shape, layer: Layer, packing: Packing, sets: usize) -> Self {
        let outputs = if layer == Layer::NormLogits { shape.config.vocabulary } else { 2 * shape.pairs(layer) };
        let inputs = shape.inputs(layer);
        let codes = |bytes: usize| {
            let pattern: Vec<u8> = (0..1 << 22).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            fill(device, &pattern, bytes * sets)
        };
        let (bytes, buffers) = match packing {
            Packing::Dense => {
                let bytes = outputs * inputs * shape.element_bytes();
                (bytes, vec![random_elements(device, shape.dtype, bytes * sets)])
            }
            Packing::Int8 => {
                let (bytes, scales) = (
                    int8_code_bytes(outputs, inputs),
                    fill(device, &1e-4_f32.to_ne_bytes().repeat(1 << 18), outputs * 4 * sets),
                );
                (bytes + outputs * 4, vec![codes(bytes), scales])
            }
            Packing::Awq { .. } => {
                let packed = AwqShape { outputs, inputs, group_size: shape.group_size(layer), span: 1 };
                let (bytes, group_bytes) = (packed.code_bytes(), packed.group_bytes());
                // A scale of 0.0012 and the zero point 8.
                let groups = fill(device, &0x6408_14ea_u32.to_ne_bytes().repeat(1 << 18), group_bytes * sets);
                (bytes + group_bytes, vec![codes(bytes), groups])
            }
        };
        Self { buffers, packing, bytes }
    }

    fn linear(&self, shape: &Shape, layer: Layer, set: usize, sets: usize) -> LinearRef {
        let at = |buffer: &Buffer| buffer.at(buffer.bytes() / sets * set);
        let weights = match self.packing {
            Packing::Dense => WeightsRef::Dense(at(&self.buffers[0])),
            Packing::Int8 => WeightsRef::Int8 { codes: at(&self.buffers[0]), scales: at(&self.buffers[1]) },
            Packing::Awq { .. } => {
                let group_size = shape.group_size(layer);
                WeightsRef::Awq { codes: at(&self.buffers[0]), groups: at(&self.buffers[1]), group_size }
            }
        };
        LinearRef { weights, bias: None }
    }
}

/// Everything a step reads and writes beside weights.
struct State {
    x: Buffer,
    qkv: Buffer,
    activation: Buffer,
    logits: Buffer,
    norm: Buffer,
    cache: Buffer,
    turns: Buffer,
    numbers: Buffer,
}

impl State {
    fn new(device: &Device, shape: &Shape) -> Self {
        let config = &shape.config;
        let elements = |count: usize| random_elements(device, shape.dtype, count * shape.element_bytes());
        Self {
            x: elements(MAX_ROWS * config.hidden),
            qkv: elements(MAX_ROWS * 2 * shape.pairs(Layer::NormQkv)),
            activation: elements(MAX_ROWS * config.intermediate),
            logits: Buffer::new(device, MAX_ROWS * config.vocabulary * 4).unwrap(),
            norm: elements(config.hidden),
            // Blocks 0 … 7, keys and values.
            cache: elements(2 * MAX_ROWS * config.kv_heads * 64 * config.head_dim),
            turns: Buffer::of(device, &vec![0.7_f32; config.context_tokens * config.head_dim]).unwrap(),
            // Tables of one block, slots and tokens; positions are the same numbers.
            numbers: Buffer::of(device, &(0..MAX_ROWS as i32).collect::<Vec<_>>()).unwrap(),
        }
    }

    fn run(&self, gemv: &Gemv, device: &Device, layer: Layer, rows: usize, linear: LinearRef, overlaps: bool) {
        let (x, norm) = (self.x.pointer(), NormRef { weight: self.norm.pointer(), bias: None });
        let done = match layer {
            Layer::NormQkv => {
                let numbers = self.numbers.pointer();
                let cache = CacheRef {
                    keys: self.cache.pointer(),
                    values: self.cache.at(self.cache.bytes() / 2),
                    tables: numbers,
                    table_stride: 1,
                    positions: numbers,
                    slots: numbers,
                    turns: self.turns.pointer(),
                };
                gemv.norm_qkv(device, rows, x, norm, linear, cache, self.qkv.pointer(), overlaps)
            }
            Layer::Output => gemv.output(device, rows, self.qkv.pointer(), linear, x, overlaps),
            Layer::NormUp => gemv.norm_up(device, rows, x, norm, linear, self.activation.pointer(), overlaps),
            Layer::Down => gemv.down(device, rows, self.activation.pointer(), linear, x, overlaps),
            Layer::NormLogits => {
                let WeightsRef::Dense(table) = linear.weights else { unreachable!("logits are dense") };
                gemv.norm_logits(device, rows, x, norm, table, self.logits.pointer(), overlaps)
            }
        };
        done.unwrap();
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_kernels() {
    let Some(device) = card() else { return };
    for (name, config) in [("TinyLlama", tiny()), ("Llama-2-7B", seven())] {
        for (dtype, packing) in CASES {
            let gemv = Gemv::load(&device, &config, dtype, packing).unwrap();
            let state = State::new(&device, &gemv.shape);
            for layer in LAYERS {
                let packing = if layer == Layer::NormLogits { Packing::Dense } else { packing };
                let one = Weights::new(&device, &gemv.shape, layer, packing, 1).bytes;
                let sets = BEYOND_CACHE / one + 2;
                let weights = Weights::new(&device, &gemv.shape, layer, packing, sets);
                for rows in [1, 4, 8] {
                    for overlaps in [false, true] {
                        let name = format!("{name} {dtype:?} {layer:?}, {rows} rows, overlap {overlaps}");
                        report(&device, &name, one, |i| {
                            let linear = weights.linear(&gemv.shape, layer, i % sets, sets);
                            state.run(&gemv, &device, layer, rows, linear, overlaps);
                        });
                    }
                }
            }
        }
    }
}

/// A step without attention: all layers' four kernels, logits and the choice, in one graph.
#[test]
#[ignore = "a measurement"]
fn measure_step_without_attention() {
    let Some(device) = card() else { return };
    let sizes = [("TinyLlama", tiny(), 22), ("Llama-2-7B", seven(), 32), ("SmolLM2", smol(), 30)];
    for ((name, config, layers), (dtype, packing)) in
        sizes.iter().flat_map(|size| CASES.iter().map(move |case| (size.clone(), *case)))
    {
        let gemv = Gemv::load(&device, &config, dtype, packing).unwrap();
        let argmax = Argmax::load(&device, config.vocabulary).unwrap();
        let state = State::new(&device, &gemv.shape);
        let block = [Layer::NormQkv, Layer::Output, Layer::NormUp, Layer::Down];
        let weights = block.map(|layer| Weights::new(&device, &gemv.shape, layer, packing, layers));
        let table = Weights::new(&device, &gemv.shape, Layer::NormLogits, Packing::Dense, 1);
        let bytes = layers * weights.iter().map(|weights| weights.bytes).sum::<usize>() + table.bytes;
        let tokens = Buffer::new(&device, 4 * MAX_ROWS).unwrap();
        let next = Buffer::new(&device, 4 * MAX_ROWS).unwrap();
        for (rows, overlaps) in [(1, false), (1, true), (2, true), (4, true), (8, true)] {
            let step = || {
                for set in 0..layers {
                    for (layer, weights) in block.iter().zip(&weights) {
                        let linear = weights.linear(&gemv.shape, *layer, set, layers);
                        state.run(&gemv, &device, *layer, rows, linear, overlaps);
                    }
                }
                let linear = table.linear(&gemv.shape, Layer::NormLogits, 0, 1);
                state.run(&gemv, &device, Layer::NormLogits, rows, linear, overlaps);
                let next = (next.pointer(), state.numbers.pointer());
                argmax.launch(&device, state.logits.pointer(), rows, tokens.pointer(), next, overlaps).unwrap();
            };
            step();
            device.synchronize().unwrap();
            device.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
            step();
            let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
            let graph = device.stream.end_capture(flags).unwrap().unwrap();
            let mut times: Vec<f32> = (0..40)
                .map(|_| {
                    let event = || device.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
                    let start = event();
                    for _ in 0..5 {
                        graph.launch().unwrap();
                    }
                    start.elapsed_ms(&event()).unwrap() / 5.0
                })
                .collect();
            times.sort_by(f32::total_cmp);
            println!(
                "{name} {dtype:?}, {rows} rows, overlap {overlaps}: {:.3} ms a step, floor {:.3} ms ({layers} layers)",
                times[times.len() / 2],
                bytes as f32 / 4.65e9,
            );
        }
    }
}
