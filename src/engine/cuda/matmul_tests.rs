//! GEMMs on a GPU against binary64, and their throughput.

use super::*;
use crate::cuda::testing::{Guarded, assert_close, gpu, read, rounded, upload, values};

/// With our own kernel where the GPU supports it, or cuBLASLt alone.
fn open(device: &Device, element: ElementType, alone: bool) -> Matmul {
    let mut matmul = Matmul::open(device, element).unwrap();
    if alone {
        matmul.own = None;
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
fn gemms_match_binary64_and_do_not_depend_on_the_number_of_rows() {
    let Some(device) = gpu() else { return };
    // Binary32 by our own kernel where there is one, and once more by cuBLASLt.
    for (element, alone) in
        [(ElementType::F32, false), (ElementType::F32, true), (ElementType::F16, true), (ElementType::Bf16, true)]
    {
        let mut matmul = open(&device, element, alone);
        // Two of the gemms below find their algorithms prepared.
        let like = |f32_output: bool| {
            let (epilogue, bias) = if f32_output { (Epilogue::Store, 0) } else { (Epilogue::Add, 1) };
            Gemm {
                rows: 1,
                outputs: 515,
                inputs: 192,
                weights: 0,
                bias,
                x: 0,
                y: 0,
                epilogue,
                f32_output,
                overlaps: false,
            }
        };
        matmul.prepare(&device, &[like(false), like(true)], Reduction::Invariant).unwrap();
        let found = matmul.algorithms.lock().unwrap().len();
        assert_eq!(found, if matmul.own.is_some() { 0 } else { 2 }, "{element:?}");
        for (outputs, inputs) in [(515, 192), (960, 576), (2560, 2048)] {
            let most = 1319;
            let [x, w, b, y] = [most * inputs, outputs * inputs, outputs, most * outputs]
                .map(|count| rounded(&values(count, count as u64), element));
            let on_device = [&x, &w, &b].map(|values| upload(&device, values, element));
            let launch = |rows: usize, f32_output: bool, reduction| {
                let kind = if f32_output { ElementType::F32 } else { element };
                let guarded = Guarded::of(&device, &y[..rows * outputs], kind);
                let gemm = Gemm {
                    rows,
                    outputs,
                    inputs,
                    weights: on_device[1].pointer(),
                    bias: if f32_output { 0 } else { on_device[2].pointer() },
                    x: on_device[0].pointer(),
                    y: guarded.pointer(),
                    epilogue: if f32_output { Epilogue::Store } else { Epilogue::Add },
                    f32_output,
                    overlaps: false,
                };
                matmul.launch(&device, &gemm, reduction).unwrap();
                read(&device, &guarded, rows * outputs, kind)
            };
            let all = launch(most, false, Reduction::Invariant);
            let exact = expected(&x[..7 * inputs], &w, &b, &y, inputs);
            for rows in [1, 2, 7, 64, 300] {
                let found = launch(rows, false, Reduction::Invariant);
                let same = found.iter().zip(&all).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{element:?} [{outputs}, {inputs}]: {rows} rows differ from {most}");
            }
            let fast = launch(7, false, Reduction::Fastest);
            // cuBLASLt may round the product, and then the sum with the bias, before it adds y: three roundings, each of the value at that
            // point, besides the sum's own error.
            let parts = expected(&x[..7 * inputs], &w, &vec![0.0; outputs], &vec![0.0; 7 * outputs], inputs);
            let unit = match element {
                ElementType::F32 => 2.0_f64.powi(-24),
                ElementType::F16 => 2.0_f64.powi(-11),
                ElementType::Bf16 => 2.0_f64.powi(-8),
            };
            let largest = parts.iter().fold(0.0_f64, |largest, part| largest.max(part.abs()));
            let sum = 4.0 * (inputs as f64).sqrt() * 2.0_f64.powi(-24) * largest;
            for (index, exact) in exact.iter().enumerate() {
                let (gemm, bias) = (parts[index].abs(), f64::from(b[index % outputs].abs()));
                let allowed = unit * (gemm + (gemm + bias) + exact.abs()) + sum;
                for found in [all[index], fast[index]] {
                    let error = (f64::from(found) - exact).abs();
                    assert!(error <= allowed, "{element:?} [{index}]: {found}, not {exact}: {error:e} > {allowed:e}");
                }
            }
            let plain = expected(&x[..7 * inputs], &w, &vec![0.0; outputs], &vec![0.0; 7 * outputs], inputs);
            let f32_output = launch(7, true, Reduction::Invariant);
            assert_close("f32_output gemm", &f32_output, &plain, ElementType::F32, inputs);
        }
    }
}

/// The throughput of binary32 GEMMs at `TinyLlama`'s shapes, by our own kernel and by cuBLASLt.
#[test]
#[ignore = "a measurement"]
fn measure_f32_gemms() {
    const LAUNCHES: usize = 10;
    let Some(device) = gpu() else { return };
    let [ours, theirs] = [false, true].map(|alone| open(&device, ElementType::F32, alone));
    if ours.own.is_none() {
        crate::skip::skip("gpu-gemm", "this GPU has no kernel of our own for binary32 GEMMs");
    }
    for (outputs, inputs) in [(2560, 2048), (2048, 2048), (11264, 2048), (2048, 5632), (32000, 2048)] {
        for rows in [1, 16, 128, 512, 1319, 8192] {
            let [x, w] = [rows * inputs, outputs * inputs]
                .map(|count| upload(&device, &values(count, count as u64), ElementType::F32));
            let y = Buffer::new(&device, rows * outputs * size_of::<f32>()).unwrap();
            let gemm = Gemm {
                rows,
                outputs,
                inputs,
                weights: w.pointer(),
                bias: 0,
                x: x.pointer(),
                y: y.pointer(),
                epilogue: Epilogue::Store,
                f32_output: false,
                overlaps: false,
            };
            let gated = Gemm { epilogue: Epilogue::Gate, ..gemm };
            let rate = |matmul: &Matmul, gemm: &Gemm, reduction| {
                let flags = Some(cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT);
                let [begin, end] = [0, 1].map(|_| device.context.new_event(flags).unwrap());
                matmul.launch(&device, gemm, reduction).unwrap();
                begin.record(&device.stream).unwrap();
                for _ in 0..LAUNCHES {
                    matmul.launch(&device, gemm, reduction).unwrap();
                }
                end.record(&device.stream).unwrap();
                let seconds = f64::from(begin.elapsed_ms(&end).unwrap()) / 1e3 / LAUNCHES as f64;
                (2 * rows * outputs * inputs) as f64 / seconds / 1e12
            };
            let own = ours.own.is_some().then(|| rate(&ours, &gated, Reduction::Fastest));
            println!(
                "{rows} rows [{outputs}, {inputs}]: ours {:.1} TFLOP/s, {:.1} invariant, {:.1} with gates; cuBLASLt {:.1}, {:.1} invariant",
                rate(&ours, &gemm, Reduction::Fastest),
                rate(&ours, &gemm, Reduction::Invariant),
                own.unwrap_or(f64::NAN),
                rate(&theirs, &gemm, Reduction::Fastest),
                rate(&theirs, &gemm, Reduction::Invariant),
            );
        }
    }
}
