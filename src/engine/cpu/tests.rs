//! The kernels against binary64, against each other on every instruction set, and alone against in company.

use proptest::prelude::*;

use super::attention::{QueryRow, attention};
use super::kv_cache::{BLOCK_TOKENS, KvCache};
use super::linear::{Linear, Matrix, Weights};
use super::ops::{Norm, Rotations, activate, add, round};
use super::quantized::{Int4Weights, Int8Weights};
use super::simd::{InstructionSet, Kernel, Lanes, dots, exp, sum, vectorize_for};
use crate::model::{Activation, AwqTensor, Family, LayerKind, ModelConfig, NormKind, Rotary, RotaryScaling};
use crate::{Arithmetic, Precision};

const SETS: [InstructionSet; 3] = [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512];

/// Normal-looking numbers with one in fifty thirty times larger, from a fixed seed.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count)
        .map(|_| {
            let value = next() + next() + next();
            if next() < -0.48 { value * 30.0 } else { value }
        })
        .collect()
}

fn matrix(rows: usize, columns: usize, seed: u64) -> Matrix {
    Matrix { columns, values: values(rows * columns, seed) }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

struct Everything<'a> {
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut Vec<f32>,
}

impl Kernel for Everything<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let [[alone]] = dots::<L, 1, 1>([self.a], [self.b]);
        let tile = dots::<L, 4, 4>([self.a, self.b, self.a, self.b], [self.b, self.a, self.a, self.b]);
        self.out.push(alone);
        self.out.extend(tile.as_flattened());
        self.out.push(sum::<L>(self.a));
        self.out.extend(self.a.iter().map(|value| exp(value * 3.0)));
    }
}

proptest! {
    /// Golden files rest on this: no machine's vector width changes a bit.
    #[test]
    fn every_instruction_set_computes_the_same_bits(length in 0_usize..700, seed in any::<u64>()) {
        let (a, b) = (values(length, seed), values(length, seed ^ 0x77));
        let results = SETS.map(|set| {
            let mut out = Vec::new();
            vectorize_for(set, Everything { a: &a, b: &b, out: &mut out });
            bits(&out)
        });
        prop_assert_eq!(&results[0], &results[1]);
        prop_assert_eq!(&results[0], &results[2]);
        // A sum in a tile is the sum alone.
        prop_assert_eq!(results[0][0], results[0][1]);
    }

    /// Error of a sum of n rounded products: below (n / 16 + 6) roundings of the sum of magnitudes (Higham, 2002, §4.2).
    #[test]
    fn a_dot_product_is_as_exact_as_its_order_allows(length in 1_usize..3000, seed in any::<u64>()) {
        let (a, b) = (values(length, seed), values(length, seed ^ 5));
        let mut out = Vec::new();
        vectorize_for(InstructionSet::Avx512, Everything { a: &a, b: &b, out: &mut out });
        let products = || a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        let bound = (length as f64 / 16.0 + 6.0) * f64::from(f32::EPSILON) / 2.0 * products().map(f64::abs).sum::<f64>();
        prop_assert!((f64::from(out[0]) - products().sum::<f64>()).abs() <= bound);
    }
}

#[test]
fn exp_is_within_one_unit_in_the_last_place() {
    let mut x = -87.0_f32;
    while x < 88.0 {
        let exact = f64::from(x).exp();
        let error = (f64::from(exp(x)) - exact).abs() / exact;
        assert!(error < f64::from(f32::EPSILON), "exp({x}) is off by {error:e}");
        x += 0.0007;
    }
    assert_eq!(bits(&[exp(0.0), exp(-100.0), exp(f32::NEG_INFINITY)]), bits(&[1.0, 0.0, 0.0]));
    assert!(exp(89.0).is_infinite());
}

/// Weights in every precision that a layer of this shape can have.
fn every_kind(outputs: usize, inputs: usize) -> Vec<(Precision, Weights)> {
    let raw = values(outputs * inputs, 1);
    let floating = Precision::FLOATING.map(|one| (one, Weights::new(raw.clone(), one.arithmetic)));
    let mut all = Vec::from(floating);
    all.push((Precision::Int8, Weights::Int8(Int8Weights::new(&raw, inputs))));
    if outputs.is_multiple_of(8) {
        let codes = |count, seed| values(count, seed).iter().map(|x| (x.to_bits() >> 3 & 15) as u8).collect::<Vec<_>>();
        let scales = values(outputs * 3, 9).iter().map(|x| half::f16::from_f32(x.abs() + 0.001)).collect::<Vec<_>>();
        let (q, z) = (codes(outputs * inputs, 7), codes(outputs * 3, 8));
        let tensor = AwqTensor::pack(outputs, inputs, inputs / 3, &q, &z, &scales).unwrap();
        all.push((Precision::Awq, Weights::Int4(Int4Weights::stack(vec![tensor]))));
    }
    all
}

/// A row's outputs are the same bits alone and in any company, in every precision.
#[test]
fn a_linear_layer_does_not_see_the_batch() {
    for (outputs, inputs) in [(7, 33), (64, 576), (130, 48)] {
        for (kind, weights) in every_kind(outputs, inputs) {
            let linear = Linear { outputs, inputs, weights, bias: Some(values(outputs, 2)) };
            let x = matrix(67, inputs, 3);
            let alone: Vec<Vec<f32>> = (0..67)
                .map(|row| linear.forward(&Matrix { columns: inputs, values: x.row(row).to_vec() }).values)
                .collect();
            for rows in [2, 3, 4, 5, 7, 64, 67] {
                let y = linear.forward(&Matrix { columns: inputs, values: x.values[..rows * inputs].to_vec() });
                for (row, alone) in alone[..rows].iter().enumerate() {
                    assert_eq!(bits(y.row(row)), bits(alone), "{kind} {outputs}x{inputs}, row {row} of {rows}");
                }
            }
        }
    }
}

#[test]
fn a_linear_layer_multiplies_by_the_rounded_weights() {
    let (outputs, inputs) = (9, 80);
    let raw = values(outputs * inputs, 4);
    let x = matrix(3, inputs, 5);
    for arithmetic in Arithmetic::ALL {
        let mut rounded = raw.clone();
        round(&mut rounded, arithmetic);
        let linear = Linear { outputs, inputs, weights: Weights::new(raw.clone(), arithmetic), bias: None };
        let y = linear.forward(&x);
        for row in 0..3 {
            for output in 0..outputs {
                let w = &rounded[output * inputs..(output + 1) * inputs];
                let products = || x.row(row).iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                let bound = 11.0 * f64::from(f32::EPSILON) / 2.0 * products().map(f64::abs).sum::<f64>();
                assert!((f64::from(y.row(row)[output]) - products().sum::<f64>()).abs() <= bound);
            }
        }
    }
}

#[test]
fn rounding_is_to_nearest_even() {
    let mut values = vec![1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 70_000.0, 0.1];
    round(&mut values, Arithmetic::F16);
    assert_eq!(values, [1.0, 1.0 + 4.0 / 2048.0, f32::INFINITY, 0.099_975_586]);
    let mut values = vec![1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0];
    round(&mut values, Arithmetic::Bf16);
    assert_eq!(values, [1.0, 1.0 + 4.0 / 256.0]);
}

#[test]
fn norms_match_binary64() {
    let x = matrix(2, 100, 6);
    let (weight, bias) = (values(100, 7), values(100, 8));
    for kind in [NormKind::Rms, NormKind::Layer] {
        let layer = kind == NormKind::Layer;
        let norm = Norm { kind, weight: weight.clone(), bias: layer.then(|| bias.clone()), epsilon: 1e-5 };
        let y = norm.forward(&x, Arithmetic::F32);
        for row in 0..2 {
            let exact: Vec<f64> = x.row(row).iter().map(|x| f64::from(*x)).collect();
            let mean = if layer { exact.iter().sum::<f64>() / 100.0 } else { 0.0 };
            let variance = exact.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 100.0;
            for i in 0..100 {
                let shift = if layer { f64::from(bias[i]) } else { 0.0 };
                let expected = (exact[i] - mean) / (variance + 1e-5).sqrt() * f64::from(weight[i]) + shift;
                // Some ten roundings, of values up to the largest in the row.
                let bound = 1e-6 * (1.0 + expected.abs() + f64::from(weight[i].abs()));
                assert!((f64::from(y.row(row)[i]) - expected).abs() < bound, "{kind:?} {row} {i}");
            }
        }
    }
}

#[test]
fn silu_and_addition_match_binary64() {
    let x = matrix(2, 40, 9);
    let y = activate(x.clone(), Activation::SiluGated, Arithmetic::F32);
    for row in 0..2 {
        let (gate, up) = x.row(row).split_at(20);
        for i in 0..20 {
            let gate = f64::from(gate[i]);
            let expected = gate / (1.0 + (-gate).exp()) * f64::from(up[i]);
            assert!((f64::from(y.row(row)[i]) - expected).abs() <= 4.0 * f64::from(f32::EPSILON) * expected.abs());
        }
    }
    let mut z = matrix(2, 40, 10);
    add(&mut z, &x, Arithmetic::F16);
    let mut expected: Vec<f32> = matrix(2, 40, 10).values.iter().zip(&x.values).map(|(a, b)| a + b).collect();
    round(&mut expected, Arithmetic::F16);
    assert_eq!(bits(&z.values), bits(&expected));
}

#[test]
fn rotation_keeps_lengths_and_depends_on_distance_only() {
    let rotary = Rotary::new(10_000.0, RotaryScaling::None, 8);
    let rotations = Rotations::new(&rotary, &[0, 5, 12, 17]);
    let (q, k) = (values(8, 11), values(8, 12));
    let rotated = |vector: &[f32], row| {
        let mut vector = vector.to_vec();
        rotations.apply(row, &mut vector, 8);
        vector
    };
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    assert_eq!(rotated(&q, 0), q);
    let (near, far) = (product(&rotated(&q, 1), &rotated(&k, 0)), product(&rotated(&q, 3), &rotated(&k, 2)));
    assert!((near - far).abs() < 1e-4, "{near} at distance 5, {far} at distance 5 further on");
}

fn config(sliding_window: Option<usize>) -> ModelConfig {
    let example = ModelConfig::example(Family::Llama).unwrap();
    ModelConfig { heads: 6, kv_heads: 2, head_dim: 20, sliding_window, ..example }
}

#[test]
fn attention_matches_binary64_with_and_without_a_window_and_sinks() {
    let sinks = [0.5, -2.0, 30.0, 0.0, 3.0, -40.0];
    for (window, sinks) in [(None, None), (Some(1), None), (Some(5), None), (None, Some(sinks)), (Some(5), Some(sinks))]
    {
        let config = config(window);
        let (all_keys, all_values) = (values(23 * 40, 13), values(23 * 40, 14));
        // Blocks in any order.
        let (blocks, mut cache) = ([3, 1], KvCache::new(&config));
        for position in 0..23 {
            let row = position * 40..(position + 1) * 40;
            let block = blocks[position / BLOCK_TOKENS];
            cache.write(0, block, position, &all_keys[row.clone()], &all_values[row]);
        }
        let q = matrix(3, 120, 15);
        let rows: Vec<QueryRow<'_>> = [0, 9, 22].map(|position| QueryRow { blocks: &blocks, position }).to_vec();
        let kind = (&config, LayerKind::USUAL, sinks.as_ref().map(<[f32; 6]>::as_slice));
        let y = attention(&q, cache.layer(0), &rows, kind, Arithmetic::F32);
        for (row, QueryRow { position, .. }) in rows.iter().enumerate() {
            let start = window.map_or(0, |window| (position + 1_usize).saturating_sub(window));
            for head in 0..6 {
                let at = |data: &[f32], p: usize, d: usize| f64::from(data[p * 40 + head / 3 * 20 + d]);
                let score =
                    |p| (0..20).map(|d| f64::from(q.row(row)[head * 20 + d]) * at(&all_keys, p, d)).sum::<f64>();
                let weights: Vec<f64> = (start..=*position).map(|p| (score(p) / 20_f64.sqrt()).exp()).collect();
                let sink = sinks.map_or(0.0, |sinks| f64::from(sinks[head]).exp());
                let total = weights.iter().sum::<f64>() + sink;
                for d in 0..20 {
                    let value = |(weight, p)| weight / total * at(&all_values, p, d);
                    let expected: f64 = weights.iter().copied().zip(start..=*position).map(value).sum();
                    let found = f64::from(y.row(row)[head * 20 + d]);
                    assert!((found - expected).abs() < 2e-5, "{window:?} {position} {head} {d}: {found} {expected}");
                }
            }
        }
    }
}
