//! On a GPU each phase of the fused decode kernel matches float64, and does not depend on other rows.

use super::fixture::{
    Made, decode, encode, layer_linear, layer_weights, models, norm_values, rounded, tagged_values, tiny,
};
use super::reference::{dots, near, normed, rounding};
use super::shape::MAX_ROWS;
use super::{Decode, HeadRef, LayerRef, LinearRef, NormRef, Packing, WeightsRef};
use crate::Dtype;
use crate::cuda::BLOCK_TOKENS;
use crate::cuda::buffer::Buffer;
use crate::cuda::device::Device;
use crate::cuda::ops::attention::tests::{Cache, LENGTHS, all_shapes};
use crate::cuda::ops::elementwise::Rows;
use crate::cuda::testing::{Random, gpu};
use crate::model::{Activation, ModelConfig, PositionKind};

/// Of all models, no less than the positions of any row.
const CONTEXT: usize = 1100;
/// Positions of the longest row, where a phase has no use for them.
const LONGEST: usize = 300;

/// One model's kernels and their inputs.
struct Phases {
    device: Device,
    decode: Decode,
    config: ModelConfig,
    dtype: Dtype,
    packing: Packing,
    random: Random,
    /// 0 … 7: positions, slots and tables of rows that have no cache to speak of.
    numbers: Buffer,
    /// Eight blocks of it, which nothing reads.
    cache: Buffer,
    /// Cosines and sines f32 `[2, context, head_dim / 2]`, which every launch reads.
    cos_sin: (Vec<f32>, Buffer),
}

impl Phases {
    fn new(device: &Device, (config, dtype, packing): (ModelConfig, Dtype, Packing)) -> Self {
        let config = ModelConfig { layers: 1, context_tokens: CONTEXT, ..config };
        let head = HeadRef { norm: NormRef { weight: 0, bias: None }, table: 0 };
        let decode = Decode::load(device, &config, dtype, packing, head).unwrap();
        let numbers = Buffer::of(device, &(0..MAX_ROWS as i32).collect::<Vec<_>>()).unwrap();
        let block_bytes = config.kv_heads * BLOCK_TOKENS * config.head_dim * decode.shape.element_bytes();
        let cache = Buffer::new(device, MAX_ROWS * block_bytes).unwrap();
        let cos_sin = Random::new(18).matrix(2 * CONTEXT, config.head_dim / 2, 0.3);
        let cos_sin = (cos_sin.clone(), Buffer::of(device, &cos_sin).unwrap());
        let (device, random) = (device.clone(), Random::new(17));
        Self { device, decode, config, dtype, packing, random, numbers, cache, cos_sin }
    }

    fn name(&self, what: &str) -> String {
        let ModelConfig { hidden, intermediate, .. } = self.config;
        format!("{what} of {hidden}/{intermediate}, {:?}, {:?}", self.dtype, self.packing)
    }

    fn values(&mut self, rows: usize, columns: usize, spread: f32) -> Vec<f32> {
        let values = self.random.matrix(rows, columns, spread);
        rounded(self.dtype, &values)
    }

    fn buffer(&self, values: &[f32]) -> Buffer {
        Buffer::of(&self.device, &encode(self.dtype, values)).unwrap()
    }

    /// Writes rows of tagged words, followed by 0xff, to one of the buffers through which phases exchange activations.
    fn give(&self, to: &Buffer, values: &[f32], tag: u16) {
        to.fill(&self.device, 0xff).unwrap();
        to.write(&self.device, 0, &self.words(values, tag)).unwrap();
    }

    fn words(&self, values: &[f32], tag: u16) -> Vec<u8> {
        let bytes = self.decode.shape.element_bytes();
        let tag = if bytes == 4 { u32::from(tag).to_ne_bytes().to_vec() } else { tag.to_ne_bytes().to_vec() };
        encode(self.dtype, values).chunks(bytes).flat_map(|value| [value, &tag].concat()).collect()
    }

    fn values_of(&self, words: &[u8], tag: u16) -> Vec<f32> {
        tagged_values(self.dtype, words, tag, &self.name("words"))
    }

    fn bytes(&self, buffer: &Buffer) -> Vec<u8> {
        buffer.read(&self.device, 0, buffer.bytes()).unwrap()
    }

    /// One phase of one layer, all of whose linear layers are the same.
    fn run(&self, phase: usize, rows: Rows, linear: LinearRef, norm: NormRef) {
        self.run_at(phase, (rows, LONGEST), linear, norm, (self.cache.pointer(), self.cache.pointer()));
    }

    fn run_at(
        &self,
        phase: usize,
        (rows, longest): (Rows, usize),
        linear: LinearRef,
        norm: NormRef,
        (keys, values): (u64, u64),
    ) {
        let layer = LayerRef { attention_norm: norm, linears: [linear; 4], mlp_norm: norm, keys, values };
        self.decode.set_layers(&self.device, &[layer]).unwrap();
        self.launch(phase, (&rows, longest), 0);
        self.device.synchronize().unwrap();
    }

    fn launch(&self, phase: usize, rows: (&Rows, usize), logits: u64) {
        self.decode.phases(&self.device, phase..phase + 1, rows, self.cos_sin.1.pointer(), logits).unwrap();
    }

    fn norm(&mut self) -> (Vec<f32>, Option<Vec<f32>>) {
        norm_values(&self.config, self.dtype, &mut self.random)
    }

    /// Weights of the linear layer number `at` in a decoder layer.
    fn made(&mut self, at: usize) -> Made {
        layer_linear(&self.device, &self.config, self.dtype, self.packing, at, &mut self.random)
    }

    /// Runs `launch` with as many rows as each variant takes, which the caller holds against the reference; then with fewer, and
    /// with other rows beside them: the bits must be the same. `launch` fills and returns the output, rows of `width` bytes, 0xff
    /// behind the last.
    fn same_bits(&self, what: &str, width: usize, launch: impl Fn(usize, bool) -> Vec<u8>) -> Vec<Vec<u8>> {
        let mut least = 1;
        let mut results = Vec::new();
        for (variant, _) in &self.decode.variants {
            let all = launch(variant.rows, false);
            for rows in least..=variant.rows {
                let some = launch(rows, false);
                assert!(some[..rows * width] == all[..rows * width], "{}: {rows} rows", self.name(what));
                assert!(
                    some[rows * width..].iter().all(|byte| *byte == 0xff),
                    "{}: behind {rows} rows",
                    self.name(what)
                );
            }
            // The last half of the rows are others now.
            let (half, end) = (variant.rows / 2 * width, variant.rows * width);
            if half > 0 {
                let others = launch(variant.rows, true);
                assert!(others[..half] == all[..half], "{}: other rows beside them", self.name(what));
                assert!(others[half..end] != all[half..end], "{}", self.name(what));
            }
            least = variant.rows + 1;
            results.push(all[..end].to_vec());
        }
        results
    }

    /// Rows of which only the number matters.
    fn rows(&self, count: usize) -> Rows {
        let (positions, slots, tables) = (self.numbers.pointer(), self.numbers.pointer(), self.numbers.pointer());
        Rows { count, tokens: 0, next_tokens: 0, positions, slots, tables, table_stride: 0, overlaps: false }
    }

    /// Two sets of eight rows; of those that a variant takes, the first half are the same.
    fn inputs(&mut self, width: usize) -> (Vec<f32>, impl Fn(usize, bool) -> Vec<f32> + use<>) {
        let (first, other) = (self.values(MAX_ROWS, width, 1.0), self.values(MAX_ROWS, width, 3.0));
        let rows = first.clone();
        let given = move |count: usize, others: bool| {
            let kept = if others { count / 2 } else { count } * width;
            [&first[..kept], &other[kept..count * width]].concat()
        };
        (rows, given)
    }

    fn check_residual(&mut self, at: usize) {
        let hidden = self.config.hidden;
        let made = self.made(at);
        let (input, given) = self.inputs(made.inputs);
        let x = self.values(MAX_ROWS, hidden, 2.0);
        let (phase, tag) = if at == 1 { (2, 2) } else { (4, 3) };
        let width = hidden * self.decode.shape.word_bytes();
        let none = NormRef { weight: 0, bias: None };
        let results = self.same_bits("residual", width, |rows, others| {
            let decode = &self.decode;
            let from = if at == 1 { &decode.attention } else { &decode.activation };
            self.give(from, &given(rows, others), 1);
            self.give(&decode.x, &x[..rows * hidden], tag - 1);
            self.run(phase, self.rows(rows), made.linear(), none);
            self.bytes(&decode.x)
        });
        let dots = dots(&made, &input);
        for words in results {
            let got = self.values_of(&words, tag);
            for (row, dots) in dots.iter().take(got.len() / hidden).enumerate() {
                for (at, dot) in dots.iter().enumerate() {
                    let x = f64::from(x[row * hidden + at]);
                    let error = dot.error(self.dtype, false) + rounding(Dtype::F32, x.abs());
                    let expected = x + dot.value;
                    near(
                        got[row * hidden + at],
                        expected,
                        error + rounding(self.dtype, expected.abs() + error),
                        || self.name(&format!("residual of phase {phase}, row {row} output {at}")),
                    );
                }
            }
        }
    }

    fn check_up(&mut self) {
        let (hidden, intermediate, dtype) = (self.config.hidden, self.config.intermediate, self.dtype);
        let made = self.made(2);
        let (weight, bias) = self.norm();
        let (x, given) = self.inputs(hidden);
        let (weight_buffer, bias_buffer) = (self.buffer(&weight), bias.as_ref().map(|bias| self.buffer(bias)));
        let norm = NormRef { weight: weight_buffer.pointer(), bias: bias_buffer.as_ref().map(Buffer::pointer) };
        let width = intermediate * self.decode.shape.word_bytes();
        let results = self.same_bits("up", width, |rows, others| {
            self.give(&self.decode.x, &given(rows, others), 2);
            self.give(&self.decode.activation, &[], 0);
            self.run(3, self.rows(rows), made.linear(), norm);
            self.bytes(&self.decode.activation)
        });
        let dots = dots(&made, &normed(&self.config, dtype, &x, &weight, bias.as_deref()));
        for words in results {
            let got = self.values_of(&words, 1);
            for (row, dots) in dots.iter().take(got.len() / intermediate).enumerate() {
                for at in 0..intermediate {
                    let (expected, error) = if self.config.activation == Activation::SiluGated {
                        let (gate, up) = (dots[at], dots[intermediate + at]);
                        let silu = gate.value / (1.0 + (-gate.value).exp());
                        // silu's slope stays below 1.1; exp and the division are good to four units of binary32.
                        let (of_gate, of_up) = (1.1 * gate.stored_error(dtype, true), up.stored_error(dtype, true));
                        let error = of_gate * (up.value.abs() + of_up) + silu.abs() * of_up;
                        (silu * up.value, error + 8.0 * rounding(Dtype::F32, (silu * up.value).abs()))
                    } else {
                        (dots[at].value.max(0.0), dots[at].error(dtype, true))
                    };
                    near(
                        got[row * intermediate + at],
                        expected,
                        error + rounding(dtype, expected.abs() + error),
                        || self.name(&format!("up row {row} output {at}")),
                    );
                }
            }
        }
    }

    fn check_logits(&mut self) {
        let (hidden, vocabulary) = (self.config.hidden, self.config.vocabulary);
        let made = {
            let (size, random) = ([vocabulary, hidden], &mut self.random);
            layer_weights(&self.device, self.dtype, Packing::Dense, size, (0, 1), false, random)
        };
        let (weight, bias) = self.norm();
        let (x, given) = self.inputs(hidden);
        let (weight_buffer, bias_buffer) = (self.buffer(&weight), bias.as_ref().map(|bias| self.buffer(bias)));
        let norm = NormRef { weight: weight_buffer.pointer(), bias: bias_buffer.as_ref().map(Buffer::pointer) };
        let WeightsRef::Dense(table) = made.linear().weights else { unreachable!("logits are dense") };
        self.decode.head = HeadRef { norm, table };
        let results = self.same_bits("logits", vocabulary * 4, |rows, others| {
            let to = Buffer::new(&self.device, MAX_ROWS * vocabulary * 4).unwrap();
            to.fill(&self.device, 0xff).unwrap();
            self.give(&self.decode.x, &given(rows, others), 3);
            self.launch(5, (&self.rows(rows), LONGEST), to.pointer());
            self.bytes(&to)
        });
        let dots = dots(&made, &normed(&self.config, self.dtype, &x, &weight, bias.as_deref()));
        for bytes in results {
            let got = decode(Dtype::F32, &bytes);
            for (row, dots) in dots.iter().take(got.len() / vocabulary).enumerate() {
                for (at, dot) in dots.iter().enumerate() {
                    let error = dot.error(self.dtype, true) + rounding(Dtype::F32, dot.value.abs());
                    near(got[row * vocabulary + at], dot.value, error, || {
                        self.name(&format!("logit {at} of row {row}"))
                    });
                }
            }
        }
    }

    fn check_qkv(&mut self) {
        let ModelConfig { hidden, heads, kv_heads, head_dim, .. } = self.config;
        let (width, query, half) = ((heads + 2 * kv_heads) * head_dim, heads * head_dim, head_dim / 2);
        let (context, dtype) = (self.config.context_tokens, self.dtype);
        let made = self.made(0);
        let (weight, bias) = self.norm();
        let (x, given) = self.inputs(hidden);
        let (weight_buffer, bias_buffer) = (self.buffer(&weight), bias.as_ref().map(|bias| self.buffer(bias)));
        let norm = NormRef { weight: weight_buffer.pointer(), bias: bias_buffer.as_ref().map(Buffer::pointer) };
        // The row before the last is a padding row.
        let positions: Vec<i32> = vec![0, context as i32 - 1, 63, 64, 1, 127, -1, 65];
        let position_buffer = Buffer::of(&self.device, &positions).unwrap();
        let results = self.same_bits("qkv", width * self.decode.shape.word_bytes(), |rows, others| {
            self.give(&self.decode.x, &given(rows, others), 1);
            self.give(&self.decode.qkv, &[], 0);
            let rows = Rows { positions: position_buffer.pointer(), ..self.rows(rows) };
            self.run(0, rows, made.linear(), norm);
            self.bytes(&self.decode.qkv)
        });
        let (rotary, cos_sin) = (matches!(self.config.position, PositionKind::Rotary { .. }), &self.cos_sin.0);
        let dots = dots(&made, &normed(&self.config, dtype, &x, &weight, bias.as_deref()));
        for words in results {
            let got = self.values_of(&words, 1);
            for (row, dots) in dots.iter().take(got.len() / width).enumerate() {
                for at in 0..width {
                    if positions[row] < 0 {
                        break;
                    }
                    let (i, base) = (at % head_dim, at - at % head_dim);
                    let rotated = rotary && at < query + kv_heads * head_dim;
                    let (expected, error) = if rotated {
                        let (a, b) = (dots[base + i % half], dots[base + half + i % half]);
                        let place = positions[row] as usize * half + i % half;
                        let (cosine, sine) = (f64::from(cos_sin[place]), f64::from(cos_sin[context * half + place]));
                        let (a_error, b_error) = (a.stored_error(dtype, true), b.stored_error(dtype, true));
                        let (own, other, value) = if i < half {
                            (a_error, b_error, a.value * cosine - b.value * sine)
                        } else {
                            (b_error, a_error, b.value * cosine + a.value * sine)
                        };
                        let products = (a.value * cosine).abs().max((a.value * sine).abs())
                            + (b.value * cosine).abs().max((b.value * sine).abs());
                        (value, own * cosine.abs() + other * sine.abs() + 4.0 * rounding(Dtype::F32, products))
                    } else {
                        (dots[at].value, dots[at].error(dtype, true))
                    };
                    near(got[row * width + at], expected, error + rounding(dtype, expected.abs() + error), || {
                        self.name(&format!("qkv row {row} output {at}"))
                    });
                }
            }
        }
    }

    /// Attention of the last position of sequences of attention's own tests, whose own keys and values are not in the cache yet.
    fn check_attention(&mut self) {
        let cache = Cache::of(&self.device, &self.config, self.dtype);
        let ModelConfig { heads, kv_heads, head_dim, .. } = self.config;
        let (width, out_width) = ((heads + 2 * kv_heads) * head_dim, heads * head_dim);
        // In any order, the long ones first, for every variant takes the first rows.
        let slots = [8_usize, 6, 0, 2, 3, 4, 5, 1];
        let positions: Vec<i32> = slots.iter().map(|slot| LENGTHS[*slot] as i32 - 1).collect();
        let slot_words: Vec<i32> = slots.iter().map(|slot| *slot as i32).collect();
        let fills = [positions[0], -1, positions[2], positions[3], -1, positions[5], positions[6], positions[7]];
        let [position_buffer, fill_buffer, slot_buffer] =
            [positions.as_slice(), &fills, &slot_words].map(|values| Buffer::of(&self.device, values).unwrap());
        let mut qkv = cache.queries(MAX_ROWS, 9);
        let mut poisoned = [cache.keys.clone(), cache.values.clone()];
        for (row, (slot, position)) in slots.iter().zip(&positions).enumerate() {
            for head in 0..kv_heads {
                let at = cache.at(*slot, head, *position as usize);
                for (part, values) in [&cache.keys, &cache.values].into_iter().enumerate() {
                    let to = row * width + (heads + part * kv_heads + head) * head_dim;
                    qkv[to..to + head_dim].copy_from_slice(&values[at..at + head_dim]);
                    poisoned[part][at..at + head_dim].fill(f32::NAN);
                }
            }
        }
        let nothing = LinearRef { weights: WeightsRef::Dense(0), bias: None };
        let none = NormRef { weight: 0, bias: None };
        let bytes = out_width * self.decode.shape.word_bytes();
        let launch = |rows: usize, positions: &Buffer| {
            let [keys, values] = [0, 1].map(|part| self.buffer(&poisoned[part]));
            self.give(&self.decode.qkv, &qkv[..rows * width], 1);
            self.give(&self.decode.attention, &[], 0);
            let paged = cache.paged();
            let rows = Rows {
                positions: positions.pointer(),
                slots: slot_buffer.pointer(),
                tables: paged.tables,
                table_stride: paged.table_stride,
                ..self.rows(rows)
            };
            self.run_at(1, (rows, 1025), nothing, none, (keys.pointer(), values.pointer()));
            [&self.decode.attention, &keys, &values].map(|buffer| self.bytes(buffer))
        };
        let mut least = 1;
        for (variant, _) in &self.decode.variants {
            let [all, keys, values] = launch(variant.rows, &position_buffer);
            let got = self.values_of(&all[..variant.rows * bytes], 1);
            for row in 0..variant.rows {
                cache.check(&qkv, &got, row, slots[row], positions[row] as usize);
            }
            if variant.rows == MAX_ROWS {
                // All that was poisoned is there, and nothing else has changed.
                let expected = [&cache.keys, &cache.values].map(|values| encode(self.dtype, values));
                assert!(expected == [keys, values], "{}: the cache", self.name("attention"));
            }
            for rows in least..=variant.rows {
                let [some, ..] = launch(rows, &position_buffer);
                assert!(some[..rows * bytes] == all[..rows * bytes], "{}: {rows} rows", self.name("attention"));
                assert!(some[rows * bytes..].iter().all(|byte| *byte == 0xff), "{}", self.name("attention"));
            }
            // Padding rows give zeros, which the next phase waits for.
            let [filled, ..] = launch(variant.rows, &fill_buffer);
            let filled = self.values_of(&filled[..variant.rows * bytes], 1);
            for (row, position) in fills.iter().enumerate().take(variant.rows) {
                let here = row * out_width..(row + 1) * out_width;
                let expected = if *position < 0 { &vec![0.0; out_width] } else { &got[here.clone()] };
                assert!(filled[here] == *expected, "{}: row {row} beside padding rows", self.name("attention"));
            }
            least = variant.rows + 1;
        }
    }
}

fn each_model(check: impl Fn(&mut Phases)) {
    let Some(device) = gpu() else { return };
    for model in models() {
        check(&mut Phases::new(&device, model));
    }
}

#[test]
fn qkv_matches_float64() {
    each_model(Phases::check_qkv);
}

#[test]
fn output_matches_float64() {
    each_model(|bench| bench.check_residual(1));
}

#[test]
fn up_matches_float64() {
    each_model(Phases::check_up);
}

#[test]
fn down_matches_float64() {
    each_model(|bench| bench.check_residual(3));
}

#[test]
fn logits_match_float64() {
    each_model(Phases::check_logits);
}

#[test]
fn attention_matches_float64() {
    let Some(device) = gpu() else { return };
    for (dtype, (heads, kv_heads, head_dim, window)) in all_shapes() {
        if head_dim > 128 {
            continue; // not for this kernel
        }
        let sliding_window = (window > 0).then_some(window);
        let sizes = ModelConfig { hidden: 64, intermediate: 64, vocabulary: 64, context_tokens: 1100, ..tiny() };
        let config = ModelConfig { heads, kv_heads, head_dim, sliding_window, ..sizes };
        Phases::new(&device, (config, dtype, Packing::Dense)).check_attention();
    }
}
