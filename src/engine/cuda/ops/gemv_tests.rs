//! The kernels for few rows: they compile everywhere, and on a card they match float64 and do not depend on other rows.

use rayon::prelude::*;

use super::*;
use crate::engine::cuda::buffer::Buffer;
use crate::engine::cuda::ops::gemv_fixture::{Made, decode, encode, layer_weights, models, rounded, tiny};
use crate::engine::cuda::ops::testing::{Random, card, compiles};

/// Positions a block of the cache holds.
const BLOCK_TOKENS: usize = 64;

/// Multiprocessors, and a block's shared memory.
const HOPPER: (usize, usize) = (132, 227 * 1024);

#[test]
fn every_kernel_compiles() {
    for (config, dtype, packing) in &models() {
        assert!(supports(config, *dtype, *packing, HOPPER.1), "{config:?}");
    }
    // OPT and SmolLM2 in everything; of the others what a few seconds allow, as the card's tests compile all of them.
    let few = models().into_iter().filter(|(config, dtype, _)| {
        matches!(config.hidden, 576 | 768) || (*dtype != Dtype::F32 && matches!(config.hidden, 400 | 2048))
    });
    let sources = few.flat_map(|(config, dtype, packing)| {
        let shape = Shape::new(&config, dtype, packing, HOPPER);
        let kinds = if packing == Packing::Dense { vec![packing] } else { vec![Packing::Dense, packing] };
        kinds.into_iter().map(move |kind| (SOURCE, shape.options(kind)))
    });
    compiles(sources);
}

#[test]
fn what_does_not_fit_is_left_to_the_other_path() {
    let config = tiny();
    assert!(supports(&config, Dtype::Awq, Packing::Awq { group_size: None }, HOPPER.1));
    assert!(!supports(&config, Dtype::Awq, Packing::Awq { group_size: Some(96) }, HOPPER.1), "96 does not divide 2048");
    assert!(!supports(&config, Dtype::Awq, Packing::Awq { group_size: Some(4) }, HOPPER.1));
    assert!(!supports(&ModelConfig { hidden: 2052, ..tiny() }, Dtype::F16, Packing::Dense, HOPPER.1));
    assert!(!supports(
        &ModelConfig { heads: 3, kv_heads: 3, head_dim: 5, ..tiny() },
        Dtype::F16,
        Packing::Dense,
        HOPPER.1
    ));
    // So wide that not even one row fits into shared memory.
    assert!(!supports(&ModelConfig { intermediate: 200_000, ..tiny() }, Dtype::F32, Packing::Dense, HOPPER.1));
}

#[test]
fn blocks_are_as_many_as_multiprocessors_or_just_fewer() {
    let shape = Shape::new(&tiny(), Dtype::F16, Packing::Dense, HOPPER);
    let cuts =
        LAYERS.map(|layer| (shape.cut(layer, Packing::Dense).blocks, shape.cut(layer, Packing::Dense).pairs_a_block));
    assert_eq!(cuts, [(128, 10), (128, 8), (131, 43), (128, 8), (132, 122)]);
    // 5632 inputs of eight rows: more than 48 KB, and in one launch.
    assert_eq!(shape.rows_a_launch(Layer::Down, Packing::Dense), 8);
    let wide = Shape { config: ModelConfig { intermediate: 28_672, ..tiny() }, ..shape };
    assert_eq!(wide.rows_a_launch(Layer::Down, Packing::Dense), 2);
}

/// What a dot product of `w` and `h` is, and what may be lost on the way.
#[derive(Clone, Copy, Default)]
struct Dot {
    value: f64,
    /// √Σ(w h)², and Σ|w h|.
    norm: f64,
    magnitude: f64,
}

/// Half a unit in the last place, relative.
fn unit(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 2f64.powi(-24),
        Dtype::F16 | Dtype::Int8 | Dtype::Awq => 2f64.powi(-11),
        Dtype::Bf16 => 2f64.powi(-8),
    }
}

impl Dot {
    /// Of the sum before it is rounded. Inputs that come from a norm were rounded from numbers that differ in the last bits
    /// of binary32, so that a few of them (a fiftieth at the most) lie a unit, 2u, beside the reference's: a random walk of
    /// √(K/50) steps, √(1/50) · 2u · norm, held to seven of its deviations, 2u · norm. Sums in binary32: fewer than 64
    /// additions in a chain, and tensor cores cut off what lies below 2⁻²³ of a sum.
    fn error(&self, dtype: Dtype, normed: bool) -> f64 {
        let flips = if !normed {
            0.0
        } else if dtype == Dtype::F32 {
            // The norm's scale itself is off by some units.
            16.0 * unit(dtype) * (self.norm + self.value.abs())
        } else {
            2.0 * unit(dtype) * self.norm
        };
        flips + 2f64.powi(-18) * self.magnitude * if dtype == Dtype::F32 { 0.0625 } else { 1.0 }
    }

    /// Of the stored number.
    fn stored_error(&self, dtype: Dtype, normed: bool) -> f64 {
        let error = self.error(dtype, normed);
        error + rounding(dtype, self.value.abs() + error)
    }
}

/// What storing a number costs at most: half a unit, or half of the smallest subnormal of binary16.
fn rounding(dtype: Dtype, value: f64) -> f64 {
    let smallest = if matches!(dtype, Dtype::F32 | Dtype::Bf16) { 0.0 } else { 2f64.powi(-25) };
    (unit(dtype) * value * 1.01).max(smallest)
}

/// The norm in float64, rounded to the element: `[rows, hidden]`.
fn normed(config: &ModelConfig, dtype: Dtype, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let rows = x.chunks(config.hidden).flat_map(|x| {
        let n = x.len() as f64;
        let mean = if config.norm == NormKind::Layer { x.iter().map(|x| f64::from(*x)).sum::<f64>() / n } else { 0.0 };
        let square = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (square + f64::from(config.norm_epsilon as f32)).sqrt();
        let element = move |(i, x): (usize, &f32)| {
            let y = (f64::from(*x) - mean) * scale * f64::from(weight[i]) + bias.map_or(0.0, |bias| f64::from(bias[i]));
            y as f32
        };
        x.iter().enumerate().map(element).collect::<Vec<f32>>()
    });
    rounded(dtype, &rows.collect::<Vec<f32>>())
}

/// `[rows][outputs]`.
fn dots(made: &Made, h: &[f32]) -> Vec<Vec<Dot>> {
    let row = |h: &[f32]| -> Vec<Dot> {
        let output = |(w, bias): (&[f64], &f32)| {
            let mut dot = Dot::default();
            let mut squares = 0.0;
            for (w, h) in w.iter().zip(h) {
                let product = w * f64::from(*h);
                dot.value += product;
                dot.magnitude += product.abs();
                squares += product * product;
            }
            dot.norm = squares.sqrt();
            dot.value += f64::from(*bias);
            dot.magnitude += f64::from(bias.abs());
            dot
        };
        made.values.par_chunks(made.inputs).zip(&made.bias).map(output).collect()
    };
    h.chunks(made.inputs).map(row).collect()
}

fn near(got: f32, wanted: f64, error: f64, place: impl Fn() -> String) {
    let off = (f64::from(got) - wanted).abs();
    assert!(off <= error, "{}: {got}, not {wanted} ± {error:e}", place());
}

/// One model's kernels and what they are fed.
struct Bench {
    device: Device,
    gemv: Gemv,
    config: ModelConfig,
    dtype: Dtype,
    packing: Packing,
    random: Random,
}

impl Bench {
    fn new(device: &Device, (config, dtype, packing): (ModelConfig, Dtype, Packing)) -> Self {
        let gemv = Gemv::load(device, &config, dtype, packing).unwrap();
        Self { device: device.clone(), gemv, config, dtype, packing, random: Random::new(17) }
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

    fn poison(&self, elements: usize) -> Buffer {
        let buffer = Buffer::new(&self.device, elements * self.gemv.shape.element_bytes()).unwrap();
        buffer.fill(&self.device, 0xff).unwrap();
        buffer
    }

    fn bytes(&self, buffer: &Buffer) -> Vec<u8> {
        buffer.read(&self.device, 0, buffer.bytes()).unwrap()
    }

    fn norm(&mut self) -> (Vec<f32>, Option<Vec<f32>>) {
        let hidden = self.config.hidden;
        let weight = self.values(1, hidden, 0.3).iter().map(|w| 1.0 + w).collect::<Vec<f32>>();
        let bias = (self.config.norm == NormKind::Layer).then(|| self.values(1, hidden, 0.2));
        (rounded(self.dtype, &weight), bias)
    }

    fn made(&mut self, layer: Layer, packing: Packing) -> Made {
        let has_bias = match layer {
            Layer::NormQkv => self.config.qkv_bias,
            Layer::Output => self.config.output_bias,
            Layer::NormUp | Layer::Down => self.config.mlp_bias,
            Layer::NormLogits => false,
        };
        let shape = &self.gemv.shape;
        let group_size = if matches!(packing, Packing::Awq { .. }) { shape.group_size(layer) } else { 0 };
        let outputs = match layer {
            Layer::NormLogits => self.config.vocabulary,
            _ => 2 * shape.pairs(layer),
        };
        let [qkv, output, up, down] = pair_spans(&self.config);
        let span = match layer {
            Layer::NormQkv => qkv,
            Layer::Output => output,
            Layer::NormUp => up,
            Layer::Down => down,
            Layer::NormLogits => 1,
        };
        let size = [outputs, shape.inputs(layer)];
        layer_weights(&self.device, self.dtype, packing, size, (group_size, span), has_bias, &mut self.random)
    }

    /// Runs `launch` with eight rows, which `check` holds against the reference; then with fewer rows, with other rows beside
    /// them, and as a dependent launch: the bits must be the same. `launch` fills and returns the output, rows of
    /// `width` elements of `bytes` bytes and an untouched one behind.
    fn same_bits(&self, what: &str, width: usize, launch: impl Fn(usize, bool, bool) -> Vec<u8>) -> Vec<u8> {
        let all = launch(MAX_ROWS, false, false);
        for rows in [1, 2, 3, 5, 8] {
            let some = launch(rows, false, true);
            assert!(some[..rows * width] == all[..rows * width], "{}: {rows} rows", self.name(what));
            assert!(some[rows * width..].iter().all(|byte| *byte == 0xff), "{}: behind {rows} rows", self.name(what));
        }
        // The last four rows are others now.
        let others = launch(MAX_ROWS, true, true);
        assert!(others[..4 * width] == all[..4 * width], "{}: other rows beside them", self.name(what));
        assert!(others[4 * width..MAX_ROWS * width] != all[4 * width..MAX_ROWS * width], "{}", self.name(what));
        all
    }

    /// Two sets of rows that agree in the first four.
    fn inputs(&mut self, width: usize) -> (Vec<f32>, Buffer, Buffer) {
        let first = self.values(MAX_ROWS, width, 1.0);
        let mut second = first.clone();
        second[4 * width..].copy_from_slice(&self.values(4, width, 3.0));
        let (a, b) = (self.buffer(&first), self.buffer(&second));
        (first, a, b)
    }

    fn check_residual(&mut self, layer: Layer, packing: Packing) {
        let hidden = self.config.hidden;
        let made = self.made(layer, packing);
        let (input, first, second) = self.inputs(made.inputs);
        let x = self.values(MAX_ROWS, hidden, 2.0);
        let bytes = self.gemv.shape.element_bytes();
        let all = self.same_bits("residual", hidden * bytes, |rows, others, overlaps| {
            let to = self.poison((MAX_ROWS + 1) * hidden);
            to.write(&self.device, 0, &encode(self.dtype, &x[..rows * hidden])).unwrap();
            let from = if others { &second } else { &first }.pointer();
            let linear = made.linear();
            match layer {
                Layer::Output => self.gemv.output(&self.device, rows, from, linear, to.pointer(), overlaps),
                _ => self.gemv.down(&self.device, rows, from, linear, to.pointer(), overlaps),
            }
            .unwrap();
            self.bytes(&to)
        });
        let got = decode(self.dtype, &all);
        for (row, dots) in dots(&made, &input).iter().enumerate() {
            for (at, dot) in dots.iter().enumerate() {
                let x = f64::from(x[row * hidden + at]);
                let error = dot.error(self.dtype, false) + rounding(Dtype::F32, x.abs());
                let wanted = x + dot.value;
                near(got[row * hidden + at], wanted, error + rounding(self.dtype, wanted.abs() + error), || {
                    self.name(&format!("{layer:?} row {row} output {at}"))
                });
            }
        }
    }

    fn check_up(&mut self, packing: Packing) {
        let (hidden, intermediate) = (self.config.hidden, self.config.intermediate);
        let made = self.made(Layer::NormUp, packing);
        let (weight, bias) = self.norm();
        let (x, first, second) = self.inputs(hidden);
        let (weight_buffer, bias_buffer) = (self.buffer(&weight), bias.as_ref().map(|bias| self.buffer(bias)));
        let norm = NormRef { weight: weight_buffer.pointer(), bias: bias_buffer.as_ref().map(Buffer::pointer) };
        let bytes = self.gemv.shape.element_bytes();
        let all = self.same_bits("norm_up", intermediate * bytes, |rows, others, overlaps| {
            let to = self.poison((MAX_ROWS + 1) * intermediate);
            let from = if others { &second } else { &first }.pointer();
            self.gemv.norm_up(&self.device, rows, from, norm, made.linear(), to.pointer(), overlaps).unwrap();
            self.bytes(&to)
        });
        let (got, dtype) = (decode(self.dtype, &all), self.dtype);
        let h = normed(&self.config, dtype, &x, &weight, bias.as_deref());
        for (row, dots) in dots(&made, &h).iter().enumerate() {
            for at in 0..intermediate {
                let (wanted, error) = if self.config.activation == Activation::SiluGated {
                    let (gate, up) = (dots[at], dots[intermediate + at]);
                    let silu = gate.value / (1.0 + (-gate.value).exp());
                    // silu's slope stays below 1.1; exp and the division are good to four units of binary32.
                    let (of_gate, of_up) = (1.1 * gate.stored_error(dtype, true), up.stored_error(dtype, true));
                    let error = of_gate * (up.value.abs() + of_up) + silu.abs() * of_up;
                    (silu * up.value, error + 8.0 * rounding(Dtype::F32, (silu * up.value).abs()))
                } else {
                    (dots[at].value.max(0.0), dots[at].error(dtype, true))
                };
                near(got[row * intermediate + at], wanted, error + rounding(dtype, wanted.abs() + error), || {
                    self.name(&format!("norm_up row {row} output {at}"))
                });
            }
        }
    }

    fn check_logits(&mut self) {
        let (hidden, vocabulary) = (self.config.hidden, self.config.vocabulary);
        let made = self.made(Layer::NormLogits, Packing::Dense);
        let (weight, bias) = self.norm();
        let (x, first, second) = self.inputs(hidden);
        let (weight_buffer, bias_buffer) = (self.buffer(&weight), bias.as_ref().map(|bias| self.buffer(bias)));
        let norm = NormRef { weight: weight_buffer.pointer(), bias: bias_buffer.as_ref().map(Buffer::pointer) };
        let WeightsRef::Dense(table) = made.linear().weights else { unreachable!("logits are dense") };
        let all = self.same_bits("norm_logits", vocabulary * 4, |rows, others, overlaps| {
            let to = Buffer::new(&self.device, (MAX_ROWS + 1) * vocabulary * 4).unwrap();
            to.fill(&self.device, 0xff).unwrap();
            let from = if others { &second } else { &first }.pointer();
            self.gemv.norm_logits(&self.device, rows, from, norm, table, to.pointer(), overlaps).unwrap();
            self.bytes(&to)
        });
        let got = decode(Dtype::F32, &all);
        let h = normed(&self.config, self.dtype, &x, &weight, bias.as_deref());
        for (row, dots) in dots(&made, &h).iter().enumerate() {
            for (at, dot) in dots.iter().enumerate() {
                let error = dot.error(self.dtype, true) + rounding(Dtype::F32, dot.value.abs());
                near(got[row * vocabulary + at], dot.value, error, || self.name(&format!("logit {at} of row {row}")));
            }
        }
    }

    fn check_qkv(&mut self, packing: Packing) {
        let ModelConfig { hidden, heads, kv_heads, head_dim, .. } = self.config;
        let (width, query, half) = ((heads + 2 * kv_heads) * head_dim, heads * head_dim, head_dim / 2);
        let (context, dtype) = (self.config.context_tokens, self.dtype);
        let made = self.made(Layer::NormQkv, packing);
        let (weight, bias) = self.norm();
        let (x, first, second) = self.inputs(hidden);
        let (weight_buffer, bias_buffer) = (self.buffer(&weight), bias.as_ref().map(|bias| self.buffer(bias)));
        let norm = NormRef { weight: weight_buffer.pointer(), bias: bias_buffer.as_ref().map(Buffer::pointer) };
        let turns = self.random.matrix(2 * context, half, 0.3);
        let turn_buffer = Buffer::of(&self.device, &turns).unwrap();
        // Slots out of order; the row before the last has no position, and must leave the cache alone.
        let slots: Vec<i32> = vec![2, 0, 7, 5, 1, 9, 3, 4];
        let last = context as i32 - 1;
        let positions: Vec<i32> = vec![0, last, 63, 64, 1, 127, -1, 65];
        let (stride, blocks) = (context.div_ceil(BLOCK_TOKENS) + 1, 16);
        let mut tables = vec![-1_000_000_i32; 10 * stride];
        for (row, (slot, position)) in slots.iter().zip(&positions).enumerate() {
            if *position >= 0 {
                tables[*slot as usize * stride + *position as usize / BLOCK_TOKENS] = (blocks - 2 - row) as i32;
            }
        }
        let [slot_buffer, position_buffer, table_buffer] =
            [&slots, &positions, &tables].map(|values| Buffer::of(&self.device, values).unwrap());
        let cache_elements = blocks * kv_heads * BLOCK_TOKENS * head_dim;
        let bytes = self.gemv.shape.element_bytes();
        let launch = |rows: usize, others: bool, overlaps: bool| {
            let [keys, values] = [(); 2].map(|()| self.poison(cache_elements));
            let to = self.poison((MAX_ROWS + 1) * width);
            let from = if others { &second } else { &first }.pointer();
            let cache = CacheRef {
                keys: keys.pointer(),
                values: values.pointer(),
                tables: table_buffer.pointer(),
                table_stride: stride,
                positions: position_buffer.pointer(),
                slots: slot_buffer.pointer(),
                turns: turn_buffer.pointer(),
            };
            let linear = made.linear();
            self.gemv.norm_qkv(&self.device, rows, from, norm, linear, cache, to.pointer(), overlaps).unwrap();
            // Gather what went to the cache into the rows, and poison it: what is left must be poison.
            let mut row_bytes = self.bytes(&to);
            for (part, buffer) in [&keys, &values].into_iter().enumerate() {
                let mut cached = self.bytes(buffer);
                for (row, position) in positions[..rows].iter().enumerate() {
                    for head in 0..kv_heads {
                        let at = (row * width + query + (part * kv_heads + head) * head_dim) * bytes;
                        let untouched = &mut row_bytes[at..at + head_dim * bytes];
                        assert!(untouched.iter().all(|byte| *byte == 0xff), "k or v was written into qkv");
                        if *position < 0 {
                            untouched.fill(0);
                            continue;
                        }
                        let line =
                            ((blocks - 2 - row) * kv_heads + head) * BLOCK_TOKENS + *position as usize % BLOCK_TOKENS;
                        let from = &mut cached[line * head_dim * bytes..(line + 1) * head_dim * bytes];
                        untouched.copy_from_slice(from);
                        from.fill(0xff);
                    }
                }
                assert!(
                    cached.iter().all(|byte| *byte == 0xff),
                    "{}: a write beside the cache's line",
                    self.name("qkv")
                );
            }
            row_bytes
        };
        let got = decode(dtype, &self.same_bits("norm_qkv", width * bytes, launch));
        let h = normed(&self.config, dtype, &x, &weight, bias.as_deref());
        let rotary = matches!(self.config.position, PositionKind::Rotary { .. });
        for (row, dots) in dots(&made, &h).iter().enumerate() {
            for at in 0..width {
                if positions[row] < 0 {
                    break;
                }
                let (i, base) = (at % head_dim, at - at % head_dim);
                let turned = rotary && at < query + kv_heads * head_dim;
                let (wanted, error) = if turned {
                    let (a, b) = (dots[base + i % half], dots[base + half + i % half]);
                    let place = positions[row] as usize * half + i % half;
                    let (cosine, sine) = (f64::from(turns[place]), f64::from(turns[context * half + place]));
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
                near(got[row * width + at], wanted, error + rounding(dtype, wanted.abs() + error), || {
                    self.name(&format!("qkv row {row} output {at}"))
                });
            }
        }
    }
}

fn each_model(check: impl Fn(&mut Bench, Packing)) {
    let Some(device) = card() else { return };
    for model in models() {
        let packing = model.2;
        let mut bench = Bench::new(&device, model);
        check(&mut bench, packing);
        // A layer that a packed model leaves as it is.
        if packing != Packing::Dense && bench.config.hidden < 1000 {
            check(&mut bench, Packing::Dense);
        }
    }
}

#[test]
fn qkv_matches_float64() {
    each_model(Bench::check_qkv);
}

#[test]
fn output_matches_float64() {
    each_model(|bench, packing| bench.check_residual(Layer::Output, packing));
}

#[test]
fn up_matches_float64() {
    each_model(Bench::check_up);
}

#[test]
fn down_matches_float64() {
    each_model(|bench, packing| bench.check_residual(Layer::Down, packing));
}

#[test]
fn logits_match_float64() {
    each_model(|bench, packing| {
        if packing == bench.packing {
            bench.check_logits();
        }
    });
}
