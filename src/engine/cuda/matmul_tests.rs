//! Products on a card against binary64, and what they bring.

use super::*;
use crate::engine::cuda::testing::{Guarded, card, closeness, read, rounded, upload, values};

/// With our own kernel where the card has it, or cuBLASLt alone.
fn open(device: &Device, element: ElementType, alone: bool) -> Matmul {
    let mut matmul = Matmul::open(device, element).unwrap();
    if alone {
        matmul.product = None;
    }
    matmul
}

/// y = x · Wᵀ + b + y in binary64.
fn expected(x: &[f32], w: &[f32], b: &[f32], y: &[f32], inputs: usize) -> Vec<f64> {
    let outputs = b.len();
    let rows = x.chunks(inputs).enumerate();
    rows.flat_map(|(row, x)| {
        w.chunks(inputs).enumerate().map(move |(output, w)| {
            let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            sum + f64::from(b[output]) + f64::from(y[row * outputs + output])
        })
    })
    .collect()
}

#[test]
fn products_match_binary64_and_do_not_depend_on_the_number_of_rows() {
    let Some(device) = card() else { return };
    // Binary32 as the card does it, and once more as all other cards do.
    for (element, alone) in
        [(ElementType::F32, false), (ElementType::F32, true), (ElementType::F16, true), (ElementType::Bf16, true)]
    {
        let mut matmul = open(&device, element, alone);
        // Two of the products below find their algorithms prepared.
        let like = |wide: bool| {
            let (finish, bias) = if wide { (Finish::Store, 0) } else { (Finish::Add, 1) };
            Product { rows: 1, outputs: 515, inputs: 192, weights: 0, bias, x: 0, y: 0, finish, wide, overlaps: false }
        };
        matmul.prepare(&device, &[like(false), like(true)], Reduction::Invariant).unwrap();
        let found = matmul.algorithms.lock().unwrap().len();
        assert_eq!(found, if matmul.product.is_some() { 0 } else { 2 }, "{element:?}");
        for (outputs, inputs) in [(515, 192), (960, 576), (2560, 2048)] {
            let most = 1319;
            let [x, w, b, y] = [most * inputs, outputs * inputs, outputs, most * outputs]
                .map(|count| rounded(&values(count, count as u64), element));
            let on_card = [&x, &w, &b].map(|values| upload(&device, values, element));
            let multiply = |rows: usize, wide: bool, reduction| {
                let kind = if wide { ElementType::F32 } else { element };
                let guarded = Guarded::of(&device, &y[..rows * outputs], kind);
                let product = Product {
                    rows,
                    outputs,
                    inputs,
                    weights: on_card[1].pointer(),
                    bias: if wide { 0 } else { on_card[2].pointer() },
                    x: on_card[0].pointer(),
                    y: guarded.pointer(),
                    finish: if wide { Finish::Store } else { Finish::Add },
                    wide,
                    overlaps: false,
                };
                matmul.multiply(&device, &product, reduction).unwrap();
                read(&device, &guarded, rows * outputs, kind)
            };
            let all = multiply(most, false, Reduction::Invariant);
            let exact = expected(&x[..7 * inputs], &w, &b, &y, inputs);
            for rows in [1, 2, 7, 64, 300] {
                let found = multiply(rows, false, Reduction::Invariant);
                let same = found.iter().zip(&all).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{element:?} [{outputs}, {inputs}]: {rows} rows differ from {most}");
            }
            let fast = multiply(7, false, Reduction::Fastest);
            // cuBLASLt may round the product, and then the sum with the bias, before it adds y: three roundings, each of
            // what stands there at that time, besides the sum's own error.
            let parts = expected(&x[..7 * inputs], &w, &vec![0.0; outputs], &vec![0.0; 7 * outputs], inputs);
            let unit = match element {
                ElementType::F32 => 2.0_f64.powi(-24),
                ElementType::F16 => 2.0_f64.powi(-11),
                ElementType::Bf16 => 2.0_f64.powi(-8),
            };
            let largest = parts.iter().fold(0.0_f64, |largest, part| largest.max(part.abs()));
            let sum = 4.0 * (inputs as f64).sqrt() * 2.0_f64.powi(-24) * largest;
            for (index, exact) in exact.iter().enumerate() {
                let (product, bias) = (parts[index].abs(), f64::from(b[index % outputs].abs()));
                let allowed = unit * (product + (product + bias) + exact.abs()) + sum;
                for found in [all[index], fast[index]] {
                    let error = (f64::from(found) - exact).abs();
                    assert!(error <= allowed, "{element:?} [{index}]: {found}, not {exact}: {error:e} > {allowed:e}");
                }
            }
            let plain = expected(&x[..7 * inputs], &w, &vec![0.0; outputs], &vec![0.0; 7 * outputs], inputs);
            let wide = multiply(7, true, Reduction::Invariant);
            closeness("wide product", &wide, &plain, ElementType::F32, inputs);
        }
    }
}

/// What binary32 products bring at `TinyLlama`'s shapes, by our own kernel and by cuBLASLt.
#[test]
#[ignore = "a measurement"]
fn measure_f32_products() {
    const LAUNCHES: usize = 10;
    let Some(device) = card() else { return };
    let [ours, theirs] = [false, true].map(|alone| open(&device, ElementType::F32, alone));
    if ours.product.is_none() {
        eprintln!("SKIPPED: this card has no kernel of our own for binary32 products");
    }
    for (outputs, inputs) in [(2560, 2048), (2048, 2048), (11264, 2048), (2048, 5632), (32000, 2048)] {
        for rows in [1, 16, 128, 512, 1319, 8192] {
            let [x, w] = [rows * inputs, outputs * inputs]
                .map(|count| upload(&device, &values(count, count as u64), ElementType::F32));
            let y = Buffer::new(&device, rows * outputs * size_of::<f32>()).unwrap();
            let product = Product {
                rows,
                outputs,
                inputs,
                weights: w.pointer(),
                bias: 0,
                x: x.pointer(),
                y: y.pointer(),
                finish: Finish::Store,
                wide: false,
                overlaps: false,
            };
            let gated = Product { finish: Finish::Gate, ..product };
            let rate = |matmul: &Matmul, product: &Product, reduction| {
                let flags = Some(cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT);
                let [begin, end] = [0, 1].map(|_| device.context.new_event(flags).unwrap());
                matmul.multiply(&device, product, reduction).unwrap();
                begin.record(&device.stream).unwrap();
                for _ in 0..LAUNCHES {
                    matmul.multiply(&device, product, reduction).unwrap();
                }
                end.record(&device.stream).unwrap();
                let seconds = f64::from(begin.elapsed_ms(&end).unwrap()) / 1e3 / LAUNCHES as f64;
                (2 * rows * outputs * inputs) as f64 / seconds / 1e12
            };
            let own = ours.product.is_some().then(|| rate(&ours, &gated, Reduction::Fastest));
            println!(
                "{rows} rows [{outputs}, {inputs}]: ours {:.1} TFLOP/s, {:.1} invariant, {:.1} with gates; cuBLASLt {:.1}, {:.1} invariant",
                rate(&ours, &product, Reduction::Fastest),
                rate(&ours, &product, Reduction::Invariant),
                own.unwrap_or(f64::NAN),
                rate(&theirs, &product, Reduction::Fastest),
                rate(&theirs, &product, Reduction::Invariant),
            );
        }
    }
}
