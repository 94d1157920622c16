//! GEMMs on a GPU against binary64, and their throughput.

use super::*;
use crate::cuda::ops::compare::Compare;
use crate::cuda::testing::{Guarded, assert_close, gpu, read, rounded, upload, values};

/// With our own kernel where the GPU supports it, or cuBLASLt alone.
fn open(device: &Device, element: ElementType, alone: bool) -> Matmul {
    let mut matmul = Matmul::open(device, element).unwrap();
    if alone {
        (matmul.own, matmul.few) = (None, None);
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
        let found = matmul.ways.lock().unwrap().len();
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

/// A kind of GEMM in memory of its own, for `make_invariant`.
struct Kind {
    gemm: Gemm,
    weights: Vec<Buffer>,
    /// Kept for its address.
    _bias: Buffer,
    x: Buffer,
    y: Buffer,
}

impl Kind {
    fn new(
        device: &Device,
        (rows, outputs, inputs): (usize, usize, usize),
        element: ElementType,
        epilogue: Epilogue,
    ) -> Self {
        let weights = (0..2).map(|seed| upload(device, &values(outputs * inputs, seed), element)).collect();
        let bias = upload(device, &values(outputs, 7), element);
        let x = Buffer::new(device, rows * inputs * element.bytes()).unwrap();
        let y = Buffer::new(device, (rows + 256) * outputs * element.bytes()).unwrap();
        let (f32_output, overlaps) = (false, false);
        let gemm = Gemm {
            rows,
            outputs,
            inputs,
            weights: 0,
            bias: bias.pointer(),
            x: 0,
            y: 0,
            epilogue,
            f32_output,
            overlaps,
        };
        Self { gemm, weights, _bias: bias, x, y }
    }

    fn trial(&self) -> Trial<'_> {
        Trial { gemm: self.gemm, gates: false, weights: self.weights.iter().map(Buffer::pointer).collect(), y: &self.y }
    }
}

/// Rows that are few and inputs that are many: there the heuristic's first choice for many rows is slowest, and others are found.
#[test]
fn few_rows_take_other_algorithms_and_keep_their_bits() {
    let Some(device) = gpu() else { return };
    for (element, alone) in [
        (ElementType::F32, true),
        (ElementType::F16, true),
        (ElementType::F16, false),
        (ElementType::Bf16, true),
        (ElementType::Bf16, false),
    ] {
        let mut own = 0;
        for (outputs, inputs, epilogue) in [
            (896, 4864, Epilogue::Add),
            (2048, 5632, Epilogue::Add),
            (11264, 2048, Epilogue::Store),
            (3072, 768, Epilogue::Relu),
        ] {
            let most = 8448;
            let matmul = open(&device, element, alone);
            let kind = Kind::new(&device, (most, outputs, inputs), element, epilogue);
            matmul.make_invariant(&device, &kind.x, &[kind.trial()]).unwrap();
            let of_rows = |rows: usize| match matmul.way(&Gemm { rows, ..kind.gemm }, Reduction::Invariant).unwrap() {
                Way::Library(algorithm) => Some(algorithm.data),
                Way::F32 | Way::Few(_) => None,
            };
            let others = [1, 64, 256].iter().filter(|rows| of_rows(**rows) != of_rows(1024)).count();
            own += [1, 32, 64].iter().filter(|rows| of_rows(**rows).is_none()).count();
            assert!(
                element == ElementType::F32 || others > 0,
                "{element:?} [{outputs}, {inputs}]: one algorithm for all"
            );
            // Other numbers than those that it was chosen by.
            let x = upload(&device, &values(most * inputs, 11), element);
            let y = rounded(&values(most * outputs, 12), element);
            let launch = |rows: usize| {
                let guarded = Guarded::of(&device, &y[..rows * outputs], element);
                let (weights, x, y) = (kind.weights[1].pointer(), x.pointer(), guarded.pointer());
                let gemm = Gemm { rows, weights, x, y, ..kind.gemm };
                matmul.launch(&device, &gemm, Reduction::Invariant).unwrap();
                guarded.bytes(&device)
            };
            let all = launch(most);
            for rows in [1, 3, 16, 17, 33, 80, 129, 200, 256, 257, 1319] {
                let found = launch(rows);
                assert!(
                    found == all[..found.len()],
                    "{element:?} [{outputs}, {inputs}]: {rows} rows differ from {most}"
                );
            }
        }
        let kernels = open(&device, element, alone).few.is_some();
        assert_eq!(own > 0, kernels, "{element:?}: our own kernel is the fastest for some, with cuBLASLt's bits");
    }
}

/// Gated outputs are half as many as the weights' rows: once, the other half was compared with nothing, and every GPU refused binary32.
#[test]
fn gated_gemms_are_found_invariant() {
    let Some(device) = gpu() else { return };
    let matmul = open(&device, ElementType::F32, false);
    if matmul.own.is_none() {
        return crate::skip::skip("gpu-gemm", "this GPU has no kernel of our own for binary32 GEMMs");
    }
    for (outputs, inputs) in [(768, 256), (11264, 2048)] {
        let kind = Kind::new(&device, (5216, outputs, inputs), ElementType::F32, Epilogue::Gate);
        matmul.make_invariant(&device, &kind.x, &[kind.trial()]).unwrap();
    }
}

/// An algorithm that splits the sum where rows are few is not taken for one that does not.
#[test]
fn other_bits_are_noticed() {
    let Some(device) = gpu() else { return };
    let compare = Compare::load(&device).unwrap();
    let matmul = open(&device, ElementType::F16, true);
    let kind = Kind::new(&device, (1319, 896, 4864), ElementType::F16, Epilogue::Store);
    let trial = kind.trial();
    let bench = choice::Bench::new(&matmul, &device, &kind.x, &trial);
    choice::fill(&device, &kind.x, ElementType::F16, 256 * 4864).unwrap();
    let all = matmul.ask(&Gemm { rows: 16, ..bench.gemm(16, 0, 0) }, false).unwrap();
    let Some(split) = all.iter().find(|algorithm| splits(algorithm) > 1) else {
        return crate::skip::skip("gpu-split", "cuBLASLt splits no sum of 4,864 here");
    };
    let whole = matmul.ask(&Gemm { rows: 1024, ..bench.gemm(1024, 0, 0) }, true).unwrap();
    assert!(bench.is_invariant(&compare, &Way::Library(whole[0])).unwrap());
    assert!(!bench.same(&compare, &Way::Library(*split), 16).unwrap());
}

/// Which unsplit algorithms give the bits of the invariant one where rows are few, and how long each takes.
#[test]
#[ignore = "a measurement"]
fn measure_f16_gemms() {
    const COLD_BYTES: usize = 160 << 20;
    let Some(device) = gpu() else { return };
    let element = ElementType::F16;
    let matmul = open(&device, element, true);
    // Qwen2.5-0.5B's, OPT-125M's.
    let shapes = [
        (1152, 896),
        (896, 896),
        (9728, 896),
        (896, 4864),
        (151_936, 896),
        (2304, 768),
        (768, 768),
        (3072, 768),
        (768, 3072),
        (50_272, 768),
    ];
    for (outputs, inputs) in shapes {
        let most = 1024;
        let x = upload(&device, &values(most * inputs, 3), element);
        let copies = (COLD_BYTES / (outputs * inputs * 2)).max(1);
        let one = values(outputs * inputs, 4);
        let weights: Vec<Buffer> = (0..copies).map(|_| upload(&device, &one, element)).collect();
        let kind = if outputs > 30000 { ElementType::F32 } else { element };
        let y = Guarded::of(&device, &vec![f32::NAN; most.min(256) * outputs], kind);
        let gemm = |rows: usize, copy: usize| Gemm {
            rows,
            outputs,
            inputs,
            weights: weights[copy % copies].pointer(),
            bias: 0,
            x: x.pointer(),
            y: y.pointer(),
            epilogue: Epilogue::Store,
            f32_output: outputs > 30000,
            overlaps: false,
        };
        let time = |launch: &dyn Fn(usize)| {
            let launches = copies.clamp(8, 48);
            launch(0);
            let of_one = |copy| -> Result<(), EngineError> {
                launch(copy);
                Ok(())
            };
            let seconds = || choice::seconds_of(&device, launches, of_one).unwrap().unwrap();
            (0..5).map(|_| f64::from(seconds()) * 1e6).fold(f64::MAX, f64::min)
        };
        let Way::Library(reference) = matmul.way(&gemm(1024, 0), Reduction::Invariant).unwrap() else {
            panic!("cuBLASLt is alone");
        };
        matmul.call(&device, &gemm(256, 0), &reference).unwrap();
        let want = y.bytes(&device);
        for rows in [1, 8, 24, 64, 80, 128, 256] {
            let fast = time(&|copy| assert!(!matmul.launch(&device, &gemm(rows, copy), Reduction::Fastest).unwrap()));
            let invariant =
                time(&|copy| assert!(!matmul.launch(&device, &gemm(rows, copy), Reduction::Invariant).unwrap()));
            let begin = std::time::Instant::now();
            let candidates = matmul.ask(&gemm(bucket(rows), 0), true).unwrap();
            let asked = begin.elapsed();
            let mut same = Vec::new();
            let mut unequal = 0;
            for (index, candidate) in candidates.iter().enumerate().take(if outputs > 30000 { 6 } else { 32 }) {
                // Other numbers, so that a candidate that writes nothing is seen.
                let other = Gemm { x: x.at(inputs * 2), ..gemm(rows, 0) };
                matmul.call(&device, &other, &reference).unwrap();
                if matmul.call(&device, &gemm(rows, 0), candidate).is_err() {
                    continue;
                }
                let bytes = rows * outputs * kind.bytes();
                if y.bytes(&device)[..bytes] == want[..bytes] {
                    same.push((index, time(&|copy| matmul.call(&device, &gemm(rows, copy), candidate).unwrap())));
                } else {
                    unequal += 1;
                }
            }
            let shown: Vec<String> = same.iter().map(|(index, us)| format!("{index}:{us:.1}")).collect();
            println!(
                "[{outputs}, {inputs}] {rows} rows: fast {fast:.1} us, invariant {invariant:.1}; {} candidates in {asked:.1?}, {unequal} differ; same bits: {}",
                candidates.len(),
                shown.join(" ")
            );
        }
    }
}
