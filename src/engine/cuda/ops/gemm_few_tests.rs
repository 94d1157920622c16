//! GEMMs of few rows against binary64, and against each other bit for bit.

use super::*;
use crate::cuda::buffer::Buffer;
use crate::cuda::ops::argmax::Argmax;
use crate::cuda::ops::elementwise::Elementwise;
use crate::cuda::testing::{CONFIGS, Guarded, assert_close, compiles, gpu, read, rounded, upload, values};
use crate::model::ModelConfig;

#[test]
fn the_kernels_compile() {
    compiles([ElementType::F16, ElementType::Bf16].map(|element| (SOURCE, options(element))));
}

#[test]
fn shared_memory_holds_one_block_or_two() {
    for tile in &TILES {
        assert!(2 * tile.shared_bytes() <= 227 << 10, "{tile:?}: two blocks on a multiprocessor of an H100");
        assert!(tile.shared_bytes() <= ALONE_BYTES && 3 <= tile.stages, "{tile:?}");
    }
    const { assert!(2 * ALONE_BYTES > 227 << 10, "and one that is to be alone") };
}

/// y = x · Wᵀ + bias + y in binary64, each term where it is wanted.
fn expected(x: &[f32], w: &[f32], (bias, y): (Option<&[f32]>, Option<&[f32]>), inputs: usize) -> Vec<f64> {
    let outputs = w.len() / inputs;
    let of_row = |(row, x): (usize, &[f32])| -> Vec<f64> {
        let sum = |(output, w): (usize, &[f32])| {
            let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            sum + bias.map_or(0.0, |bias| f64::from(bias[output]))
                + y.map_or(0.0, |y| f64::from(y[row * outputs + output]))
        };
        w.chunks(inputs).enumerate().map(sum).collect()
    };
    x.chunks(inputs).enumerate().flat_map(of_row).collect()
}

/// Numbers of rows that fill no tile, one, and more than one; inputs that fill no step, and fewer steps than stages; outputs that fill no tile.
#[test]
fn every_tile_gives_the_bits_of_every_other_and_what_binary64_gives() {
    let Some(device) = gpu() else { return };
    for element in [ElementType::F16, ElementType::Bf16] {
        let Some(kernels) = GemmFew::load(&device, element).unwrap() else { return };
        for (outputs, inputs) in [(70, 8), (96, 200), (770, 576), (2048, 5632)] {
            let [x, w, b, y] = [MAX_ROWS * inputs, outputs * inputs, outputs, MAX_ROWS * outputs]
                .map(|count| rounded(&values(count, count as u64 + 5), element));
            let on_device = [&x, &w, &b].map(|values| upload(&device, values, element));
            for (epilogue, biased, f32_output) in [
                (Epilogue::Store, false, true),
                (Epilogue::Store, true, false),
                (Epilogue::Add, false, false),
                (Epilogue::Add, true, false),
                (Epilogue::Relu, true, false),
            ] {
                let kind = if f32_output { ElementType::F32 } else { element };
                let run = |rows: usize, tile: usize| -> Vec<f32> {
                    let guarded = Guarded::of(&device, &y[..rows * outputs], kind);
                    let gemm = Gemm {
                        rows,
                        outputs,
                        inputs,
                        weights: on_device[1].pointer(),
                        bias: if biased { on_device[2].pointer() } else { 0 },
                        x: on_device[0].pointer(),
                        y: guarded.pointer(),
                        epilogue,
                        f32_output,
                        overlaps: false,
                    };
                    assert!(kernels.tiles(&gemm, Reduction::Fastest).any(|taken| taken == tile));
                    kernels.launch(&device, &gemm, tile).unwrap();
                    read(&device, &guarded, rows * outputs, kind)
                };
                let plain = (0..TILES.len()).filter(|tile| !TILES[*tile].gated && TILES[*tile].parts == 1);
                let wanted = run(MAX_ROWS, 0);
                for tile in plain {
                    for rows in [1, 7, 16, 17, 33, MAX_ROWS] {
                        let found = run(rows, tile);
                        let same = found.iter().zip(&wanted).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{element:?} [{outputs}, {inputs}] {epilogue:?}, {rows} rows, {:?}", TILES[tile]);
                    }
                }
                let bias = biased.then_some(&b[..]);
                let old = (epilogue == Epilogue::Add).then_some(&y[..3 * outputs]);
                let mut exact = expected(&x[..3 * inputs], &w, (bias, old), inputs);
                if epilogue == Epilogue::Relu {
                    for x in &mut exact {
                        *x = x.max(0.0);
                    }
                }
                if epilogue != Epilogue::Add {
                    assert_close("gemm of few rows", &wanted[..3 * outputs], &exact, kind, inputs);
                    continue;
                }
                // Rounded before y is added and after.
                let unit = if element == ElementType::F16 { 2.0_f64.powi(-11) } else { 2.0_f64.powi(-8) };
                let product = expected(&x[..3 * inputs], &w, (bias, None), inputs);
                let largest = product.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
                let sum = 4.0 * (inputs as f64).sqrt() * 2.0_f64.powi(-24) * largest;
                for ((found, exact), product) in wanted.iter().zip(&exact).zip(&product) {
                    let error = (f64::from(*found) - exact).abs();
                    assert!(error <= unit * (product.abs() + exact.abs()) * 1.01 + sum, "{found}, not {exact}");
                }
            }
        }
    }
}

/// Sums in parts: near binary64, and a row's bits do not depend on how many others there are. None where every row must have the same bits.
#[test]
fn split_sums_are_close_to_binary64_and_do_not_depend_on_the_number_of_rows() {
    let Some(device) = gpu() else { return };
    for element in [ElementType::F16, ElementType::Bf16] {
        let Some(kernels) = GemmFew::load(&device, element).unwrap() else { return };
        for (outputs, inputs, epilogue) in
            [(70, 2056, Epilogue::Store), (768, 3072, Epilogue::Add), (896, 4864, Epilogue::Relu)]
        {
            let [x, w, b, y] = [MAX_ROWS * inputs, outputs * inputs, outputs, MAX_ROWS * outputs]
                .map(|count| rounded(&values(count, count as u64 + 9), element));
            let on_device = [&x, &w, &b].map(|values| upload(&device, values, element));
            let f32_output = epilogue == Epilogue::Store;
            let kind = if f32_output { ElementType::F32 } else { element };
            let gemm_of = |rows: usize, y: u64| Gemm {
                rows,
                outputs,
                inputs,
                weights: on_device[1].pointer(),
                bias: on_device[2].pointer(),
                x: on_device[0].pointer(),
                y,
                epilogue,
                f32_output,
                overlaps: false,
            };
            let run = |rows: usize, tile: usize| -> Vec<f32> {
                let guarded = Guarded::of(&device, &y[..rows * outputs], kind);
                kernels.launch(&device, &gemm_of(rows, guarded.pointer()), tile).unwrap();
                read(&device, &guarded, rows * outputs, kind)
            };
            let any = gemm_of(16, 0);
            assert!(kernels.tiles(&any, Reduction::Invariant).all(|tile| TILES[tile].parts == 1));
            let split: Vec<usize> =
                kernels.tiles(&any, Reduction::Fastest).filter(|tile| TILES[*tile].parts > 1).collect();
            assert!(!split.is_empty() || device.capability < CLUSTERS, "[{outputs}, {inputs}]");
            let of_one = run(MAX_ROWS, 0);
            for tile in split {
                let wanted = run(MAX_ROWS, tile);
                for rows in [1, 7, 16, 17, 33] {
                    let found = run(rows, tile);
                    assert!(
                        found.iter().zip(&wanted).all(|(a, b)| a.to_bits() == b.to_bits()),
                        "{rows} rows, {:?}",
                        TILES[tile]
                    );
                }
                if f32_output {
                    let exact = expected(&x[..3 * inputs], &w, (Some(&b), None), inputs);
                    assert_close("split gemm of few rows", &wanted[..3 * outputs], &exact, kind, inputs);
                    assert!(wanted != of_one, "sums in parts have other bits: {:?}", TILES[tile]);
                } else {
                    // At most a rounding or two away from sums in one part.
                    let unit = if element == ElementType::F16 { 2.0_f32.powi(-10) } else { 2.0_f32.powi(-7) };
                    let largest = of_one.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                    let sum = 4.0 * (inputs as f32).sqrt() * 2.0_f32.powi(-24) * largest;
                    for (a, b) in wanted.iter().zip(&of_one) {
                        assert!(
                            (a - b).abs() <= 2.0 * unit * (a.abs() + largest * unit) + sum,
                            "{a}, not {b}: {:?}",
                            TILES[tile]
                        );
                    }
                }
            }
        }
    }
}

/// Gates that are applied by the GEMM have the bits of those that a kernel applies after it.
#[test]
fn gates_are_those_of_the_kernel_behind_a_plain_gemm() {
    let Some(device) = gpu() else { return };
    for config in CONFIGS[..3].iter().map(|config| config()) {
        for element in [ElementType::F16, ElementType::Bf16] {
            let Some(kernels) = GemmFew::load(&device, element).unwrap() else { return };
            let elementwise = Elementwise::load(&device, &config, element).unwrap();
            let ModelConfig { hidden: inputs, intermediate, .. } = config;
            let (outputs, rows) = (2 * intermediate, 16);
            let [x, w, b] = [(rows * inputs, 1.0), (outputs * inputs, 0.05), (outputs, 1.0)].map(|(count, spread)| {
                let numbers: Vec<f32> = values(count, count as u64).iter().map(|x| x * spread).collect();
                upload(&device, &numbers, element)
            });
            let plain = Guarded::new(&device, rows * outputs * 2);
            let after = Guarded::new(&device, rows * intermediate * 2);
            let like = |rows: usize, y: u64, epilogue: Epilogue| Gemm {
                rows,
                outputs,
                inputs,
                weights: w.pointer(),
                bias: b.pointer(),
                x: x.pointer(),
                y,
                epilogue,
                f32_output: false,
                overlaps: false,
            };
            kernels.launch(&device, &like(rows, plain.pointer(), Epilogue::Store), 0).unwrap();
            elementwise.activate(&device, (rows, false), plain.pointer(), after.pointer()).unwrap();
            let wanted = after.bytes(&device);
            let tiles = (0..TILES.len()).filter(|tile| TILES[*tile].gated);
            for (tile, rows) in tiles.flat_map(|tile| [1, 5, rows].map(|rows| (tile, rows))) {
                let gated = Guarded::new(&device, rows * intermediate * 2);
                kernels.launch(&device, &like(rows, gated.pointer(), Epilogue::Gate), tile).unwrap();
                assert!(
                    gated.bytes(&device) == wanted[..rows * intermediate * 2],
                    "{element:?}, {rows} rows: {config:?}"
                );
            }
        }
    }
}

/// The token of the highest key is that of the outputs stored and searched, of every tile: bits that tie, a number that is not finite, padding rows'.
#[test]
fn the_highest_keys_give_the_tokens_of_the_stored_outputs() {
    let Some(device) = gpu() else { return };
    let inputs = 200;
    for element in [ElementType::F16, ElementType::Bf16] {
        let Some(kernels) = GemmFew::load(&device, element).unwrap() else { return };
        for (outputs, biased) in [(70, false), (515 * 2, true), (50_272, false)] {
            let argmax = Argmax::load(&device, outputs).unwrap();
            let [mut x, mut w, b] = [MAX_ROWS * inputs, outputs * inputs, outputs]
                .map(|count| rounded(&values(count, count as u64 + 7), element));
            // Rows 3 and 5: no output is above another, and not every one is a number. Outputs 11 and 60 are equal.
            x[3 * inputs..4 * inputs].fill(0.0);
            x[5 * inputs + 1] = f32::INFINITY;
            let equal = w[11 * inputs..12 * inputs].to_vec();
            w[60 * inputs..61 * inputs].copy_from_slice(&equal);
            let on_device = [&x, &w, &b].map(|values| upload(&device, values, element));
            let slots = Buffer::of(&device, &(0..MAX_ROWS as i32).rev().collect::<Vec<_>>()).unwrap();
            for rows in [1, 7, 16, 33, MAX_ROWS] {
                let like = |y: u64, epilogue: Epilogue| Gemm {
                    rows,
                    outputs,
                    inputs,
                    weights: on_device[1].pointer(),
                    bias: if biased { on_device[2].pointer() } else { 0 },
                    x: on_device[0].pointer(),
                    y,
                    epilogue,
                    f32_output: true,
                    overlaps: true,
                };
                // What `sample` leaves of tokens, and of the slots' next tokens.
                let sampled = |sample: &dyn Fn(u64, (u64, u64))| {
                    let [tokens, next] = [(); 2].map(|()| Guarded::new(&device, MAX_ROWS * size_of::<i32>()));
                    sample(tokens.pointer(), (next.pointer(), slots.pointer()));
                    [tokens, next].map(|tokens| tokens.bytes(&device))
                };
                let logits = Guarded::new(&device, rows * outputs * size_of::<f32>());
                let highest = like(argmax.highest(), Epilogue::Highest);
                let wanted = sampled(&|tokens, next| {
                    kernels.launch(&device, &like(logits.pointer(), Epilogue::Store), 0).unwrap();
                    argmax.launch(&device, logits.pointer(), rows, tokens, next, true).unwrap();
                });
                let tiles: Vec<usize> = kernels.tiles(&highest, Reduction::Fastest).collect();
                assert!(tiles.len() >= 5, "{tiles:?}");
                for tile in tiles {
                    let found = sampled(&|tokens, next| {
                        kernels.launch(&device, &highest, tile).unwrap();
                        argmax.take(&device, rows, tokens, next, true).unwrap();
                    });
                    assert!(found == wanted, "{element:?} {rows} rows of {outputs}, {:?}", TILES[tile]);
                }
            }
        }
    }
}
