//! Element-wise kernels against float64, in every element type.

use super::*;
use crate::cuda::buffer::Buffer;
use crate::cuda::testing::{CONFIGS, Guarded, assert_close, compiles, gpu, read, rounded, upload, values};
use crate::model::{Features, Rotary};

const ELEMENTS: [ElementType; 3] = [ElementType::F32, ElementType::F16, ElementType::Bf16];

/// Shapes of real families, and every activation and kind of norm that these do not have.
fn configs() -> Vec<ModelConfig> {
    let mut all: Vec<ModelConfig> = CONFIGS.into_iter().map(|config| config()).collect();
    for activation in [Activation::GeluTanhGated, Activation::Gelu, Activation::GeluTanh] {
        let features = Features { zero_centred_norms: true, ..Features::default() };
        all.push(ModelConfig { activation, features, ..all[0].clone() });
    }
    all
}

/// At odd numbers of rows, in every element type.
fn everywhere(test: impl Fn(&Device, &ModelConfig, ElementType, &Elementwise, usize)) {
    let Some(device) = gpu() else { return };
    for config in configs() {
        for element in ELEMENTS {
            let kernels = Elementwise::load(&device, &config, element).unwrap();
            for rows in [1, 7, 130] {
                test(&device, &config, element, &kernels, rows);
            }
        }
    }
}

#[test]
fn kernels_compile_without_a_gpu() {
    let every = |config: ModelConfig| ELEMENTS.map(|element| (SOURCE, options(&config, element)));
    compiles(configs().into_iter().flat_map(every));
}

#[test]
fn norms_match_binary64() {
    everywhere(|device, config, element, kernels, rows| {
        let n = config.hidden;
        let x = rounded(&values(rows * n, 1), element);
        let (weight, bias) = (rounded(&values(n, 2), element), rounded(&values(n, 3), element));
        let on_device = [&x, &weight, &bias].map(|values| upload(device, values, element));
        let list: Vec<i32> = (0..rows as i32).rev().collect();
        let list = Buffer::of(device, &list).unwrap();
        let weights = NormWeights { weight: on_device[1].pointer(), bias: on_device[2].pointer(), epsilon: 1e-5 };
        let y = Guarded::new(device, rows * n * element.bytes());
        kernels
            .norm(device, (rows, rows == 7), on_device[0].pointer(), Some(list.pointer()), &weights, y.pointer())
            .unwrap();
        let mut expected = Vec::new();
        for row in (0..rows).rev() {
            let row: Vec<f64> = x[row * n..(row + 1) * n].iter().map(|x| f64::from(*x)).collect();
            let layer = config.norm == NormKind::Layer;
            let mean = if layer { row.iter().sum::<f64>() / n as f64 } else { 0.0 };
            let square = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            let scale = 1.0 / (square + f64::from(1e-5_f32)).sqrt();
            let bias = |i: usize| if layer { f64::from(bias[i]) } else { 0.0 };
            let centre = if config.features.zero_centred_norms { 1.0 } else { 0.0 };
            let weight = |i: usize| centre + f64::from(weight[i]);
            expected.extend((0..n).map(|i| (row[i] - mean) * scale * weight(i) + bias(i)));
        }
        assert_close("norm", &read(device, &y, rows * n, element), &expected, element, n);
    });
}

#[test]
fn gathered_rows_are_copies() {
    everywhere(|device, config, element, kernels, rows| {
        let widths = [config.hidden, config.heads * config.head_dim];
        let held = widths.map(|width| rounded(&values(2 * rows * width, 7), element));
        let on_device = held.each_ref().map(|values| upload(device, values, element));
        // Any order, every other row.
        let list: Vec<usize> = (0..rows).map(|row| 2 * (rows - 1 - row) + row % 2).collect();
        let list_on_device = Buffer::of(device, &list.iter().map(|row| *row as i32).collect::<Vec<_>>()).unwrap();
        let taken = widths.map(|width| Guarded::new(device, rows * width * element.bytes()));
        let from = (on_device[0].pointer(), on_device[1].pointer());
        let to = (taken[0].pointer(), taken[1].pointer());
        kernels.gather_rows(device, (rows, rows == 7), list_on_device.pointer(), from, to).unwrap();
        for ((width, held), taken) in widths.into_iter().zip(&held).zip(&taken) {
            let expected: Vec<f32> =
                list.iter().flat_map(|row| held[row * width..(row + 1) * width].to_vec()).collect();
            assert_eq!(read(device, taken, rows * width, element), expected);
        }
    });
}

#[test]
fn activations_match_binary64() {
    everywhere(|device, config, element, kernels, rows| {
        let n = config.intermediate;
        let gated = config.activation.is_gated();
        let x = rounded(&values(rows * n * if gated { 2 } else { 1 }, 4), element);
        let on_device = upload(device, &x, element);
        let y = Guarded::new(device, rows * n * element.bytes());
        kernels.activate(device, (rows, rows == 7), on_device.pointer(), y.pointer()).unwrap();
        let expected: Vec<f64> = (0..rows * n)
            .map(|i| {
                let (row, at) = (i / n, i % n);
                let (gate, up) = if gated {
                    (f64::from(x[row * 2 * n + at]), f64::from(x[row * 2 * n + n + at]))
                } else {
                    (f64::from(x[i]), 1.0)
                };
                let function = match config.activation {
                    Activation::SiluGated => gate / (1.0 + (-gate).exp()),
                    Activation::ClampedSwiglu { .. } => unreachable!("experts alone have it"),
                    Activation::Relu => gate.max(0.0),
                    Activation::Gelu => 0.5 * gate * (1.0 + libm::erf(gate / 2.0_f64.sqrt())),
                    Activation::GeluTanh | Activation::GeluTanhGated => {
                        let inner = (2.0 / std::f64::consts::PI).sqrt() * (gate + 0.044_715 * gate * gate * gate);
                        0.5 * gate * (1.0 + libm::tanh(inner))
                    }
                };
                function * up
            })
            .collect();
        assert_close("activation", &read(device, &y, rows * n, element), &expected, element, 4);
    });
}

#[test]
fn rotation_and_cache_match_binary64() {
    everywhere(|device, config, element, kernels, rows| {
        let (heads, kv_heads, d) = (config.heads, config.kv_heads, config.head_dim);
        let width = (heads + 2 * kv_heads) * d;
        let x = rounded(&values(rows * width, 5), element);
        let qkv = Guarded::of(device, &x, element);
        // Two sequences whose blocks lie in any order; odd rows belong to the second.
        let (stride, blocks) = (4, 8);
        let tables: [i32; 8] = [5, 0, 7, 2, 1, 6, 3, 4];
        // The fourth row is a padding row.
        let positions: Vec<i32> = (0..rows as i32).map(|row| if row == 3 { -1 } else { row / 2 + 60 }).collect();
        let slots: Vec<i32> = (0..rows as i32).map(|row| row % 2).collect();
        let arrays = [&tables[..], &positions, &slots].map(|array| Buffer::of(device, array).unwrap());
        let at = Rows {
            count: rows,
            tokens: 0,
            positions: arrays[1].pointer(),
            slots: arrays[2].pointer(),
            next_tokens: 0,
            tables: arrays[0].pointer(),
            table_stride: stride,
            overlaps: rows == 7,
        };
        let rotary = matches!(config.position, PositionKind::Rotary { .. });
        let all: Vec<usize> = (0..200).collect();
        let (cosines, sines) = match config.position {
            PositionKind::Rotary { theta, scaling } => Rotary::new(theta, scaling, d).cos_sin(&all),
            PositionKind::Learned { .. } => (vec![1.0; 200 * d / 2], vec![0.0; 200 * d / 2]),
        };
        let angles = [&cosines, &sines].map(|table| Buffer::of(device, table).unwrap());
        let tables_on_device = PositionTables { cosines: angles[0].pointer(), sines: angles[1].pointer(), learned: 0 };
        let size = blocks * kv_heads * BLOCK_TOKENS * d;
        let caches = [0, 1].map(|_| Guarded::new(device, size * element.bytes()));
        kernels
            .rope_and_store_kv(device, &at, &tables_on_device, qkv.pointer(), caches[0].pointer(), caches[1].pointer())
            .unwrap();
        let rotated = read(device, &qkv, rows * width, element);
        let [keys, values] = caches.each_ref().map(|cache| read(device, cache, size, element));
        for row in 0..rows {
            let Ok(position) = usize::try_from(positions[row]) else {
                assert_eq!(rotated[row * width..][..width], x[row * width..][..width], "a padding row was touched");
                continue;
            };
            let slot = slots[row] as usize;
            let block = tables[slot * stride + position / BLOCK_TOKENS] as usize;
            let half = d / 2;
            for head in 0..heads + 2 * kv_heads {
                let at = row * width + head * d;
                let rotates = rotary && head < heads + kv_heads;
                let expected: Vec<f64> = (0..d)
                    .map(|i| {
                        let j = position * half + i % half;
                        let (a, b) = (f64::from(x[at + i % half]), f64::from(x[at + half + i % half]));
                        let (c, s) = (f64::from(cosines[j]), f64::from(sines[j]));
                        match (rotates, i < half) {
                            (false, _) => f64::from(x[at + i]),
                            (true, true) => a * c - b * s,
                            (true, false) => b * c + a * s,
                        }
                    })
                    .collect();
                let found = if head < heads {
                    &rotated[at..at + d]
                } else {
                    let (cache, head) = if head < heads + kv_heads {
                        (&keys, head - heads)
                    } else {
                        (&values, head - heads - kv_heads)
                    };
                    let place = ((block * kv_heads + head) * BLOCK_TOKENS + position % BLOCK_TOKENS) * d;
                    &cache[place..place + d]
                };
                // Two products and a sum, whose operands may cancel: relative to their size, not to the result.
                assert_close("rotation", found, &expected, element, 4);
            }
        }
    });
}

#[test]
fn embeddings_and_casts_are_exact() {
    everywhere(|device, config, element, kernels, rows| {
        let n = config.hidden;
        let table = values(50 * n, 6);
        let PositionKind::Learned { offset } = config.position else {
            let (from, flag) = (Buffer::of(device, &table).unwrap(), Buffer::of(device, &[0_i32]).unwrap());
            let to = Guarded::new(device, table.len() * element.bytes());
            kernels.cast(device, from.pointer(), ElementType::F32, to.pointer(), table.len(), flag.pointer()).unwrap();
            assert_eq!(read(device, &to, table.len(), element), rounded(&table, element));
            assert_eq!(flag.read::<i32>(device, 0, 1).unwrap(), [0]);
            let tokens: Vec<i32> = (0..rows as i32).map(|row| if row % 3 == 2 { -1 } else { row * 7 % 50 }).collect();
            let (slots, next) = (vec![1; rows], [9, 33]);
            let arrays = [&tokens[..], &slots, &next].map(|array| Buffer::of(device, array).unwrap());
            let at = Rows {
                count: rows,
                tokens: arrays[0].pointer(),
                positions: arrays[1].pointer(),
                slots: arrays[1].pointer(),
                next_tokens: arrays[2].pointer(),
                tables: 0,
                table_stride: 0,
                overlaps: false,
            };
            let x = Guarded::new(device, rows * n * element.bytes());
            kernels.embed(device, &at, to.pointer(), &PositionTables::default(), x.pointer()).unwrap();
            let expected: Vec<f32> = tokens
                .iter()
                .map(|token| if *token < 0 { 33 } else { *token as usize })
                .flat_map(|token| rounded(&table[token * n..(token + 1) * n], element))
                .collect();
            assert_eq!(read(device, &x, rows * n, element), expected);
            return;
        };
        assert_eq!(offset, 2);
    });
}

#[test]
fn a_value_that_does_not_fit_is_flagged() {
    let Some(device) = gpu() else { return };
    let kernels = Elementwise::load(&device, &CONFIGS[0](), ElementType::F16).unwrap();
    for (value, flagged) in [(65_504.0_f32, 0), (65_520.0, 1), (f32::NAN, 1), (f32::NEG_INFINITY, 1)] {
        let mut values = vec![1.0_f32; 5000];
        values[4321] = value;
        let (from, flag) = (Buffer::of(&device, &values).unwrap(), Buffer::of(&device, &[0_i32]).unwrap());
        let to = Guarded::new(&device, 5000 * 2);
        kernels.cast(&device, from.pointer(), ElementType::F32, to.pointer(), 5000, flag.pointer()).unwrap();
        assert_eq!(flag.read::<i32>(&device, 0, 1).unwrap(), [flagged], "{value}");
    }
}
