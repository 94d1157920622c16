//! The fused kernel against the plain kernels: whole steps of several layers, in every format, on random numbers with outliers. (The tests
//! of single phases hold each phase against float64; here are the order of layers, the rings across their ends, the tags, the cache.)

use super::fixture::{
    Made, decode, encode, layer_linear, layer_weights, models, norm_values, rounded, smol, tagged_values,
};
use super::plain::Plain;
use super::shape::MAX_ROWS;
use super::{Decode, HeadRef, LayerRef, NormRef, Packing, WeightsRef};
use crate::cuda::BLOCK_TOKENS;
use crate::cuda::buffer::Buffer;
use crate::cuda::device::Device;
use crate::cuda::ops::elementwise::{PositionTables, Rows};
use crate::cuda::testing::{Random, gpu};
use crate::model::{ModelConfig, PositionKind, Rotary};
use crate::{Arithmetic, Dtype};

const LAYERS: usize = 2;
/// Positions of the longest sequence: three chunks of attention.
const CONTEXT: usize = 600;
/// At most; the plain kernels are slow.
const VOCABULARY: usize = 3000;
/// Of the rows: the longest sequence, the first token, both sides of blocks' and chunks' borders, a padding row.
const POSITIONS: [i32; MAX_ROWS] = [CONTEXT as i32 - 1, 0, 64, 300, -1, 63, 255, 256];
const SLOTS: [i32; MAX_ROWS] = [3, 0, 7, 1, 6, 2, 5, 4];
/// Blocks of a slot.
const STRIDE: usize = CONTEXT.div_ceil(BLOCK_TOKENS);

#[test]
fn a_fused_step_is_what_the_plain_kernels_compute() {
    let Some(device) = gpu() else { return };
    let windowed = ModelConfig { sliding_window: Some(100), ..smol() };
    let windowed = [Dtype::F32, Dtype::F16].map(|dtype| (windowed.clone(), dtype, Packing::Dense));
    for (config, dtype, packing) in models().into_iter().chain(windowed) {
        let vocabulary = config.vocabulary.min(VOCABULARY);
        let config = ModelConfig { layers: LAYERS, vocabulary, context_tokens: CONTEXT, ..config };
        World::new(&device, config, dtype, packing).check();
    }
}

struct Norm {
    weight: Buffer,
    bias: Option<Buffer>,
}

impl Norm {
    fn of(&self) -> NormRef {
        NormRef { weight: self.weight.pointer(), bias: self.bias.as_ref().map(Buffer::pointer) }
    }
}

struct Layer {
    norms: [Norm; 2],
    linears: [Made; 4],
    /// Keys and values `[blocks, kv_heads, BLOCK_TOKENS, head_dim]`, encoded; NaN from each row's own position on.
    cache: [Vec<u8>; 2],
}

/// A model, eight sequences, and what is computed of them.
struct World {
    device: Device,
    config: ModelConfig,
    dtype: Dtype,
    packing: Packing,
    fused: Decode,
    plain: Plain,
    layers: Vec<Layer>,
    embedding: Buffer,
    head: HeadRef,
    positions: PositionTables,
    /// `[MAX_ROWS, STRIDE]`.
    tables: Vec<i32>,
    /// i32: tokens, the tokens sampled last, positions, slots, tables.
    arrays: [Buffer; 5],
    /// Keeps memory alive.
    _held: (Made, Norm, Vec<Buffer>),
}

/// The results of a step, as numbers, `[rows, …]` each.
struct Outcome {
    /// x, qkv, attention, activation and logits.
    tensors: [Vec<f32>; 5],
    /// Keys and values of each layer.
    caches: Vec<[Vec<u8>; 2]>,
}

impl World {
    fn new(device: &Device, config: ModelConfig, dtype: Dtype, packing: Packing) -> Self {
        let mut random = Random::new(23);
        let upload = |values: &[f32]| Buffer::of(device, &encode(dtype, values)).unwrap();
        let norm = |random: &mut Random| {
            let (weight, bias) = norm_values(&config, dtype, random);
            Norm { weight: upload(&weight), bias: bias.map(|bias| upload(&bias)) }
        };
        let mut tables: Vec<i32> = (0..(MAX_ROWS * STRIDE) as i32).collect();
        for i in (1..tables.len()).rev() {
            tables.swap(i, random.below(i + 1));
        }
        let layers = (0..LAYERS).map(|_| Layer {
            norms: [norm(&mut random), norm(&mut random)],
            linears: [0, 1, 2, 3].map(|at| layer_linear(device, &config, dtype, packing, at, &mut random)),
            cache: [(); 2].map(|()| encode(dtype, &cache(&config, &tables, &mut random))),
        });
        let layers: Vec<Layer> = layers.collect();
        let size = [config.vocabulary, config.hidden];
        let table = layer_weights(device, dtype, Packing::Dense, size, (0, 1), false, &mut random);
        let WeightsRef::Dense(table_pointer) = table.linear().weights else { unreachable!("the table is dense") };
        let final_norm = norm(&mut random);
        let head = HeadRef { norm: final_norm.of(), table: table_pointer };
        let embedding = upload(&rounded(dtype, &random.matrix(config.vocabulary, config.hidden, 1.0)));
        let (positions, held) = match config.position {
            PositionKind::Rotary { theta, scaling } => {
                let all: Vec<usize> = (0..CONTEXT).collect();
                let (cosines, sines) = Rotary::new(theta, scaling, config.head_dim).cos_sin(&all);
                let buffer = Buffer::of(device, &[cosines.as_slice(), &sines].concat()).unwrap();
                let (cosines, sines) = (buffer.pointer(), buffer.at(size_of_val(cosines.as_slice())));
                (PositionTables { cosines, sines, learned: 0 }, buffer)
            }
            PositionKind::Learned { offset } => {
                let buffer = upload(&rounded(dtype, &random.matrix(CONTEXT + offset, config.hidden, 1.0)));
                (PositionTables { learned: buffer.pointer(), ..PositionTables::default() }, buffer)
            }
        };
        // The second row's token is the one that was sampled last.
        let token = |random: &mut Random| random.below(config.vocabulary) as i32;
        let mut tokens = [(); MAX_ROWS].map(|()| token(&mut random));
        let next_tokens = [(); MAX_ROWS].map(|()| token(&mut random));
        tokens[1] = -1;
        let arrays =
            [&tokens[..], &next_tokens, &POSITIONS, &SLOTS, &tables].map(|array| Buffer::of(device, array).unwrap());
        let fused = Decode::load(device, &config, dtype, packing, head).unwrap();
        let plain = Plain::load(device, &fused.shape);
        let (device, held) = (device.clone(), (table, final_norm, vec![held]));
        Self {
            device,
            config,
            dtype,
            packing,
            fused,
            plain,
            layers,
            embedding,
            head,
            positions,
            tables,
            arrays,
            _held: held,
        }
    }

    fn check(&self) {
        let expected = self.plain_step();
        for (variant, _) in &self.fused.variants {
            let found = self.fused_step(variant.rows);
            self.compare(variant.rows, &found, &expected);
            // The tags of one step are no obstacle to the next, and every sum has one order.
            let again = self.fused_step(variant.rows);
            assert!(again.caches == found.caches, "{}: another step", self.name("cache"));
            for (again, found) in again.tensors.iter().zip(&found.tensors) {
                let same = again.iter().zip(found).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{}: another step", self.name("bits"));
            }
        }
    }

    fn name(&self, what: &str) -> String {
        let ModelConfig { hidden, intermediate, sliding_window, .. } = self.config;
        format!("{what} of {hidden}/{intermediate}, window {sliding_window:?}, {:?}, {:?}", self.dtype, self.packing)
    }

    fn rows(&self, count: usize) -> Rows {
        let [tokens, next_tokens, positions, slots, tables] = self.arrays.each_ref().map(Buffer::pointer);
        Rows { count, tokens, next_tokens, positions, slots, tables, table_stride: STRIDE, overlaps: false }
    }

    /// The layers beside fresh copies of their caches.
    fn layers(&self) -> (Vec<LayerRef>, Vec<[Buffer; 2]>) {
        let fresh = |layer: &Layer| layer.cache.each_ref().map(|bytes| Buffer::of(&self.device, bytes).unwrap());
        let caches: Vec<[Buffer; 2]> = self.layers.iter().map(fresh).collect();
        let refs = self.layers.iter().zip(&caches).map(|(layer, [keys, values])| LayerRef {
            attention_norm: layer.norms[0].of(),
            linears: layer.linears.each_ref().map(Made::linear),
            mlp_norm: layer.norms[1].of(),
            keys: keys.pointer(),
            values: values.pointer(),
        });
        (refs.collect(), caches)
    }

    fn bytes(&self, buffer: &Buffer, count: usize) -> Vec<u8> {
        buffer.read(&self.device, 0, count).unwrap()
    }

    fn caches(&self, caches: &[[Buffer; 2]]) -> Vec<[Vec<u8>; 2]> {
        let read = |cache: &[Buffer; 2]| cache.each_ref().map(|buffer| self.bytes(buffer, buffer.bytes()));
        caches.iter().map(read).collect()
    }

    /// Elements of a row of x, qkv, attention, activation and logits.
    fn columns(&self) -> [usize; 5] {
        let ModelConfig { hidden, heads, head_dim, intermediate, vocabulary, .. } = self.config;
        [hidden, self.fused.shape.qkv(), heads * head_dim, intermediate, vocabulary]
    }

    /// Of as many rows as any variant takes: a row of the plain kernels does not depend on the others.
    fn plain_step(&self) -> Outcome {
        let (layers, caches) = self.layers();
        let rows = self.fused.max_rows();
        let logits = Buffer::new(&self.device, rows * self.config.vocabulary * size_of::<f32>()).unwrap();
        let pointer = logits.pointer();
        self.plain.step(&self.rows(rows), &layers, self.head, self.embedding.pointer(), &self.positions, pointer);
        let [x, qkv, attention, activation, vocabulary] = self.columns().map(|columns| rows * columns);
        let bytes = self.fused.shape.element_bytes();
        let read = |buffer: &Buffer, count: usize| decode(self.dtype, &self.bytes(buffer, count * bytes));
        let tensors = [
            read(&self.plain.x, x),
            read(&self.plain.qkv, qkv),
            read(&self.plain.attention, attention),
            read(&self.plain.activation, activation),
            logits.read(&self.device, 0, vocabulary).unwrap(),
        ];
        Outcome { tensors, caches: self.caches(&caches) }
    }

    fn fused_step(&self, rows: usize) -> Outcome {
        let (layers, caches) = self.layers();
        let logits = Buffer::new(&self.device, rows * self.config.vocabulary * size_of::<f32>()).unwrap();
        self.fused.set_layers(&self.device, &layers).unwrap();
        let (embedding, pointer) = (self.embedding.pointer(), logits.pointer());
        self.fused.step(&self.device, &self.rows(rows), CONTEXT, embedding, &self.positions, pointer).unwrap();
        let [x, qkv, attention, activation, vocabulary] = self.columns().map(|columns| rows * columns);
        let bytes = self.fused.shape.word_bytes();
        let read = |buffer: &Buffer, count: usize, tag: usize| {
            tagged_values(self.dtype, &self.bytes(buffer, count * bytes), tag as u16, &self.name("words"))
        };
        let tensors = [
            read(&self.fused.x, x, 2 * LAYERS + 1),
            read(&self.fused.qkv, qkv, LAYERS),
            read(&self.fused.attention, attention, LAYERS),
            read(&self.fused.activation, activation, LAYERS),
            logits.read(&self.device, 0, vocabulary).unwrap(),
        ];
        Outcome { tensors, caches: self.caches(&caches) }
    }

    fn compare(&self, rows: usize, found: &Outcome, expected: &Outcome) {
        let names = ["x", "qkv", "attention", "activation", "logits"];
        for (at, columns) in self.columns().into_iter().enumerate() {
            let pairs = found.tensors[at].chunks(columns).zip(expected.tensors[at].chunks(columns));
            for (row, (found, expected)) in pairs.enumerate() {
                self.near(&format!("{} of row {row} of {rows}", names[at]), found, expected);
            }
        }
        // New keys and values of every row that is no padding, and nothing else.
        let ModelConfig { kv_heads, head_dim, .. } = self.config;
        let bytes = self.fused.shape.element_bytes();
        for (layer, (found, expected)) in found.caches.iter().zip(&expected.caches).enumerate() {
            for part in 0..2 {
                let mut untouched = self.layers[layer].cache[part].clone();
                for (row, position) in POSITIONS.iter().enumerate().take(rows) {
                    let Ok(position) = usize::try_from(*position) else { continue };
                    for head in 0..kv_heads {
                        let first = cache_index(&self.config, &self.tables, SLOTS[row] as usize, head, position);
                        let line = first * bytes..(first + head_dim) * bytes;
                        let [found, expected] =
                            [found, expected].map(|cache| decode(self.dtype, &cache[part][line.clone()]));
                        let what = format!("{} of layer {layer}, row {row}, head {head}", ["keys", "values"][part]);
                        self.near(&what, &found, &expected);
                        untouched[line].copy_from_slice(&encode(self.dtype, &found));
                    }
                }
                assert!(found[part] == untouched, "{}: something else was written", self.name("cache"));
            }
        }
    }

    /// Both round every stored number to the element type; sums in another order, and softmax weights that the fused kernel rounds to 16
    /// bits, make some of these roundings differ. The bound is that of whole models (`tests/it/cuda.rs`), relative to a row's largest number.
    fn near(&self, what: &str, found: &[f32], expected: &[f32]) {
        let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(f64::from(value.abs())));
        let part = match self.dtype.arithmetic {
            Arithmetic::F32 => 1e-5,
            Arithmetic::F16 => 16.0 * 2_f64.powi(-11),
            Arithmetic::Bf16 => 16.0 * 2_f64.powi(-8),
        };
        let tolerance = part * (LAYERS as f64).sqrt() * largest;
        assert_eq!(found.len(), expected.len(), "{}", self.name(what));
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = f64::from(found - expected).abs();
            assert!(
                error <= tolerance,
                "{}: [{at}] is {found}, plain {expected}: {error:e} > {tolerance:e}",
                self.name(what)
            );
        }
    }
}

/// Index of the first element of a position of a slot.
fn cache_index(config: &ModelConfig, tables: &[i32], slot: usize, kv_head: usize, position: usize) -> usize {
    let block = tables[slot * STRIDE + position / BLOCK_TOKENS] as usize;
    ((block * config.kv_heads + kv_head) * BLOCK_TOKENS + position % BLOCK_TOKENS) * config.head_dim
}

/// Keys or values of one layer: random before the rows' positions, NaN from there on, where nothing may be read before it is written.
fn cache(config: &ModelConfig, tables: &[i32], random: &mut Random) -> Vec<f32> {
    let mut values = random.matrix(tables.len() * config.kv_heads * BLOCK_TOKENS, config.head_dim, 1.0);
    for (slot, position) in SLOTS.iter().zip(POSITIONS) {
        for at in position.max(0) as usize..STRIDE * BLOCK_TOKENS {
            for head in 0..config.kv_heads {
                let first = cache_index(config, tables, *slot as usize, head, at);
                values[first..first + config.head_dim].fill(f32::NAN);
            }
        }
    }
    values
}
