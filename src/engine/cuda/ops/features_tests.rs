//! The kernels of single families against float64, in every element type.

use super::*;
use crate::cuda::buffer::Buffer;
use crate::cuda::testing::{Guarded, assert_close, compiles, gpu, read, rounded, upload, values};
use crate::model::{Family, Features, LayerKind, NormPlaces, Rotary};

const ELEMENTS: [ElementType; 3] = [ElementType::F32, ElementType::F16, ElementType::Bf16];

/// Every feature that there is a kernel for: norms over heads and over rows, weights around one and around zero, parts of heads, a cap.
fn configs() -> [ModelConfig; 2] {
    let example = ModelConfig::example(Family::Llama).unwrap();
    let unrotated = LayerKind { rotated: false, ..LayerKind::USUAL };
    let features = Features {
        norms: NormPlaces::After,
        query_key_norm: Some(QueryKeyNorm::Row),
        layers: vec![LayerKind::USUAL, unrotated],
        rotated_elements: Some(24),
        embedding_scale: Some(12.0),
        residual_scale: Some(0.22),
        logits_divisor: Some(8.0),
        ..Features::default()
    };
    let sizes =
        ModelConfig { vocabulary: 515, hidden: 328, intermediate: 515, heads: 6, kv_heads: 2, head_dim: 80, ..example };
    let of_heads = Features {
        norms: NormPlaces::Both,
        query_key_norm: Some(QueryKeyNorm::Head),
        zero_centred_norms: true,
        residual_scale: None,
        logits_cap: Some(0.5),
        ..features.clone()
    };
    [ModelConfig { features, ..sizes.clone() }, ModelConfig { features: of_heads, ..sizes }]
}

fn everywhere(test: impl Fn(&Device, &ModelConfig, ElementType, &FeatureKernels, usize)) {
    let Some(device) = gpu() else { return };
    for config in configs() {
        for element in ELEMENTS {
            let kernels = FeatureKernels::load(&device, &config, element).unwrap();
            for rows in [1, 7, 130] {
                test(&device, &config, element, &kernels, rows);
            }
        }
    }
}

#[test]
fn kernels_compile_without_a_gpu() {
    let every = configs().into_iter().flat_map(|config| ELEMENTS.map(|element| (SOURCE, options(&config, element))));
    compiles(every.collect::<Vec<_>>());
}

#[test]
fn a_plain_model_needs_none() {
    let Some(device) = gpu() else { return };
    let kernels =
        FeatureKernels::load(&device, &ModelConfig::example(Family::Llama).unwrap(), ElementType::F16).unwrap();
    assert!(kernels.norm_queries_keys.is_none() && kernels.add_rows.is_none() && kernels.finish_logits.is_none());
}

/// x / √(mean(x²) + ε) · weight, in binary64; weights lie around zero where the model's do.
fn normed(config: &ModelConfig, x: &[f32], weight: &[f32]) -> Vec<f64> {
    let centre = if config.features.zero_centred_norms { 1.0 } else { 0.0 };
    let square = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (square + f64::from(1e-5_f32)).sqrt();
    x.iter().zip(weight).map(|(x, weight)| f64::from(*x) * scale * (centre + f64::from(*weight))).collect()
}

fn norm(weight: &Buffer) -> NormWeights {
    NormWeights { weight: weight.pointer(), bias: 0, epsilon: 1e-5 }
}

#[test]
fn norms_of_queries_and_keys_match_binary64() {
    everywhere(|device, config, element, kernels, rows| {
        let width = (config.heads + 2 * config.kv_heads) * config.head_dim;
        let queries = config.heads * config.head_dim;
        let keys = config.kv_heads * config.head_dim;
        let [of_queries, of_keys] = config.query_key_norms().unwrap();
        let x = rounded(&values(rows * width, 1), element);
        let weights = [(of_queries, 2), (of_keys, 3)].map(|(width, seed)| rounded(&values(width, seed), element));
        let on_device = weights.each_ref().map(|weights| upload(device, weights, element));
        let qkv = Guarded::of(device, &x, element);
        let norms = on_device.each_ref().map(norm);
        kernels.norm_queries_keys(device, (rows, rows == 7), qkv.pointer(), Some(&norms)).unwrap();
        let mut expected = Vec::new();
        for row in x.chunks(width) {
            expected.extend(row[..queries].chunks(of_queries).flat_map(|head| normed(config, head, &weights[0])));
            let heads = row[queries..queries + keys].chunks(of_keys);
            expected.extend(heads.flat_map(|head| normed(config, head, &weights[1])));
            expected.extend(row[queries + keys..].iter().map(|value| f64::from(*value)));
        }
        assert_close("norms", &read(device, &qkv, rows * width, element), &expected, element, of_queries);
    });
}

#[test]
fn rows_are_added_as_binary64_adds_them() {
    everywhere(|device, config, element, kernels, rows| {
        let n = config.hidden;
        let [x, y] = [4, 5].map(|seed| rounded(&values(rows * n, seed), element));
        let weight = rounded(&values(n, 6), element);
        let (y_there, weight_there) = (upload(device, &y, element), upload(device, &weight, element));
        let to = Guarded::of(device, &x, element);
        kernels
            .add_rows(device, (rows, rows == 7), to.pointer(), y_there.pointer(), Some(&norm(&weight_there)))
            .unwrap();
        let after = config.features.has_norms_after();
        let once = |value: f64| f64::from(rounded(&[value as f32], element)[0]);
        let added = y
            .chunks(n)
            .flat_map(|y| if after { normed(config, y, &weight) } else { y.iter().map(|y| f64::from(*y)).collect() });
        // Each step is stored: the terms' own roundings are those of the sum's terms, not of the sum.
        let scale = f64::from(config.features.residual_scale.unwrap_or(1.0) as f32);
        let expected: Vec<f64> = x.iter().zip(added).map(|(x, y)| f64::from(*x) + once(once(y) * scale)).collect();
        let found = read(device, &to, rows * n, element);
        let unit = if element == ElementType::Bf16 { 2.0_f64.powi(-8) } else { 2.0_f64.powi(-11) };
        for ((found, expected), x) in found.iter().zip(&expected).zip(&x) {
            let added = (expected - f64::from(*x)).abs();
            let allowed = unit * (expected.abs() + 3.0 * added) + 1e-5;
            assert!((f64::from(*found) - expected).abs() <= allowed, "{found} instead of {expected}");
        }
    });
}

#[test]
fn scales_and_caps_match_binary64() {
    everywhere(|device, config, element, kernels, rows| {
        let n = config.hidden;
        let x = rounded(&values(rows * n, 7), element);
        let on_device = Guarded::of(device, &x, element);
        kernels.scale_embeddings(device, (rows, rows == 7), on_device.pointer()).unwrap();
        let expected: Vec<f64> = x.iter().map(|x| f64::from(*x) * 12.0).collect();
        assert_close("embeddings", &read(device, &on_device, rows * n, element), &expected, element, 1);

        let logits = Guarded::of(device, &values(rows * 515, 8), ElementType::F32);
        kernels.finish_logits(device, (rows * 515, false), logits.pointer()).unwrap();
        let divided = values(rows * 515, 8).into_iter().map(|logit| f64::from(logit) / 8.0);
        let capped = |logit: f64| config.features.logits_cap.map_or(logit, |cap| cap * libm::tanh(logit / cap));
        let expected: Vec<f64> = divided.map(capped).collect();
        assert_close("logits", &read(device, &logits, rows * 515, ElementType::F32), &expected, ElementType::F32, 1);
    });
}

#[test]
fn rotation_of_a_part_and_of_nothing_match_binary64() {
    everywhere(|device, config, element, kernels, rows| {
        let (heads, kv_heads, d, rotated) = (config.heads, config.kv_heads, config.head_dim, config.rotated_elements());
        let width = (heads + 2 * kv_heads) * d;
        let x = rounded(&values(rows * width, 9), element);
        let (stride, blocks) = (4, 8);
        let tables: [i32; 8] = [5, 0, 7, 2, 1, 6, 3, 4];
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
        let (cosines, sines) = Rotary::of(config).unwrap().cos_sin(&(0..200).collect::<Vec<_>>());
        let angles = [&cosines, &sines].map(|table| Buffer::of(device, table).unwrap());
        let angles_there = PositionTables { cosines: angles[0].pointer(), sines: angles[1].pointer(), learned: 0 };
        let size = blocks * kv_heads * BLOCK_TOKENS * d;
        for rotates in [true, false] {
            let qkv = Guarded::of(device, &x, element);
            let caches = [0, 1].map(|_| Guarded::new(device, size * element.bytes()));
            let places = (caches[0].pointer(), caches[1].pointer());
            assert!(
                kernels.rope_and_store_kv(device, &at, (&angles_there, rotates), qkv.pointer(), places).unwrap(),
                "the layer's kernel is there"
            );
            let queries = read(device, &qkv, rows * width, element);
            let [keys, stored_values] = caches.each_ref().map(|cache| read(device, cache, size, element));
            for row in 0..rows {
                let Ok(position) = usize::try_from(positions[row]) else {
                    assert_eq!(queries[row * width..][..width], x[row * width..][..width], "a padding row was touched");
                    continue;
                };
                let block = tables[slots[row] as usize * stride + position / BLOCK_TOKENS] as usize;
                let half = rotated / 2;
                for head in 0..heads + 2 * kv_heads {
                    let from = &x[row * width + head * d..][..d];
                    let turns = rotates && head < heads + kv_heads;
                    let value = |i: usize| f64::from(from[i]);
                    let angle = |i: usize| {
                        let j = position * half + i % half;
                        (f64::from(cosines[j]), f64::from(sines[j]))
                    };
                    let expected: Vec<f64> = (0..d)
                        .map(|i| {
                            if !turns || i >= rotated {
                                return value(i);
                            }
                            let ((c, s), (a, b)) = (angle(i), (value(i % half), value(i % half + half)));
                            if i < half { a * c - b * s } else { b * c + a * s }
                        })
                        .collect();
                    let kv_head =
                        if head < heads + kv_heads { head.saturating_sub(heads) } else { head - heads - kv_heads };
                    let place = ((block * kv_heads + kv_head) * BLOCK_TOKENS + position % BLOCK_TOKENS) * d;
                    let found = if head < heads {
                        &queries[row * width + head * d..][..d]
                    } else if head < heads + kv_heads {
                        &keys[place..place + d]
                    } else {
                        &stored_values[place..place + d]
                    };
                    assert_close("rotation", found, &expected, element, 4);
                }
            }
        }
    });
}
