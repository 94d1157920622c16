use proptest::prelude::*;
use rayon::prelude::*;

use super::*;
use crate::cuda::element::ElementType;
use crate::cuda::testing::{Guarded, compiles_for, gpu, read, upload, values};

#[test]
fn the_kernel_compiles() {
    // Older GPUs have no such instruction.
    compiles_for(&[CAPABILITY], TILE_ROWS.map(|rows| (SOURCE, options(rows))));
}

/// The (tile, step) pairs of one block in its order, as the kernel's `Work` finds them, and how many precede its shared ones.
fn walk(schedule: Schedule, tiles: usize, steps: usize, blocks: usize, block: usize) -> (Vec<(usize, usize)>, usize) {
    let Schedule { rounds, share, .. } = schedule;
    let rounds_here = rounds - usize::from(rounds > 0 && block + (rounds - 1) * blocks >= tiles);
    let (whole, first_left) = (rounds_here * steps, rounds * blocks);
    let left = tiles.saturating_sub(first_left) * steps;
    let first_shared = (block * share).min(left);
    let end = whole + share.min(left - first_shared);
    let find = |position: usize| {
        if position < whole {
            (block + position / steps * blocks, position % steps)
        } else {
            let at = first_shared + position - whole;
            (first_left + at / steps, at % steps)
        }
    };
    ((0..end).map(find).collect(), whole)
}

/// What the kernel relies on in a schedule.
fn check(shape: (usize, usize, usize), tile_rows: usize, blocks: usize, reduction: Reduction) {
    let (rows, outputs, inputs) = shape;
    let schedule = Schedule::new(shape, tile_rows, blocks, reduction);
    let (down, across, steps) = (rows.div_ceil(tile_rows), outputs.div_ceil(TILE), inputs.div_ceil(STEP));
    let tiles = down * across;
    let first_left = schedule.rounds * blocks;
    let mut done = vec![0; tiles * steps];
    let mut parts = vec![Vec::new(); tiles];
    for block in 0..blocks {
        let (steps_of_block, whole) = walk(schedule, tiles, steps, blocks, block);
        for (tile, step) in &steps_of_block {
            done[tile * steps + step] += 1;
        }
        // Ascending steps of a tile up to its last one, then another tile.
        let follows = |a: (usize, usize), b| b == (a.0, a.1 + 1) || a.1 == steps - 1;
        assert!(steps_of_block.windows(2).all(|pair| follows(pair[0], pair[1])));
        let mut shared: Vec<usize> = steps_of_block[whole..].iter().map(|(tile, _)| *tile).collect();
        shared.dedup();
        assert!(shared.len() <= 2, "a block writes two parts at most");
        for tile in shared {
            parts[tile].push(block);
        }
    }
    assert!(done.iter().all(|times| *times == 1), "{shape:?}, {blocks} blocks: {schedule:?}");
    assert!(tiles.saturating_sub(first_left) <= 2 * blocks, "every shared tile has a place in `arrivals`");
    if reduction == Reduction::Invariant {
        assert!(tiles <= first_left, "no tile is shared");
    }
    for (tile, parts) in parts.iter().enumerate().skip(first_left) {
        // Whose parts are added up.
        let begin = (tile - first_left) * steps;
        let blocks: Vec<usize> = (begin / schedule.share..=(begin + steps - 1) / schedule.share).collect();
        assert_eq!(*parts, blocks, "{shape:?}: tile {tile} of {schedule:?}");
    }
    // Every tile has a corner of its own; as the kernel's `Tiles`.
    let corner = |tile: usize| {
        let above = tile / (schedule.panel * across) * schedule.panel;
        let (inside, width) = (tile - above * across, schedule.panel.min(down - above));
        (above + inside % width, inside / width)
    };
    let mut corners: Vec<_> = (0..tiles).map(corner).collect();
    corners.sort_unstable();
    let all: Vec<_> = (0..down).flat_map(|row| (0..across).map(move |output| (row, output))).collect();
    assert_eq!(corners, all);
}

#[test]
fn real_shapes_are_covered_exactly_once() {
    for (outputs, inputs) in [(515, 196), (2560, 2048), (2048, 5632), (11264, 2048), (32000, 2048)] {
        for rows in [1, 64, 65, 128, 300, 512, 1319, 8192] {
            // An H100 and an H200 have 132 multiprocessors, an H100 with PCIe 114.
            for blocks in [264, 228] {
                for reduction in [Reduction::Invariant, Reduction::Fastest] {
                    for tile_rows in TILE_ROWS {
                        check((rows, outputs, inputs), tile_rows, blocks, reduction);
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_shape_is_covered_exactly_once(
        rows in 1_usize..2000,
        outputs in 1_usize..1500,
        fours in 1_usize..400,
        blocks in 1_usize..300,
        shared: bool,
    ) {
        for tile_rows in TILE_ROWS {
            let reduction = if shared { Reduction::Fastest } else { Reduction::Invariant };
            check((rows, outputs, 4 * fours), tile_rows, blocks, reduction);
        }
    }
}

#[test]
fn only_a_round_that_leaves_blocks_idle_is_shared_out() {
    let schedule = |rows, outputs, inputs| Schedule::new((rows, outputs, inputs), 64, 264, Reduction::Fastest);
    // 840 tiles of 64 steps: three rounds, and 48 tiles for 264 blocks.
    assert_eq!(schedule(1319, 2560, 2048), Schedule { rounds: 3, share: 12, panel: 11 });
    // 264 tiles.
    assert_eq!(schedule(64 * 11, 64 * 24, 2048), Schedule { rounds: 1, share: 1, panel: 11 });
    // Nine tiles, but of five steps each.
    assert_eq!(schedule(64, 515, 160), Schedule { rounds: 1, share: 1, panel: 1 });
}

#[test]
fn sixteen_rows_are_few() {
    assert_eq!([1, 16, 17, 1319].map(|rows| TILE_ROWS[size(rows)]), [16, 16, 64, 64]);
}

#[test]
fn operands_that_cannot_be_read_are_left_to_cublaslt() {
    let gemm = Gemm {
        rows: 7,
        outputs: 64,
        inputs: 64,
        weights: 256,
        bias: 0,
        x: 512,
        y: 4,
        epilogue: Epilogue::Store,
        f32_output: false,
        overlaps: false,
    };
    assert!(supports(&gemm));
    assert!(!supports(&Gemm { inputs: 62, ..gemm }));
    assert!(!supports(&Gemm { x: 520, ..gemm }));
    assert!(!supports(&Gemm { outputs: 1 << 26, ..gemm }));
    assert!(supports(&Gemm { epilogue: Epilogue::Gate, ..gemm }));
    assert!(!supports(&Gemm { epilogue: Epilogue::Gate, outputs: 63, ..gemm }));
}

/// A GEMM's operands, here and in device memory.
struct Operands {
    outputs: usize,
    inputs: usize,
    y: Vec<f32>,
    x_on_device: Buffer,
    w_on_device: Buffer,
    bias_on_device: Buffer,
    /// f64 `[rows, outputs]` each: x · Wᵀ, and the same of magnitudes.
    exact: Vec<(f64, f64)>,
    bias: Vec<f32>,
}

impl Operands {
    fn new(device: &Device, rows: usize, outputs: usize, inputs: usize) -> Self {
        let [x, w, bias, y] =
            [rows * inputs, outputs * inputs, outputs, rows * outputs].map(|count| values(count, count as u64));
        let dot = |x: &[f32], w: &[f32]| {
            x.iter()
                .zip(w)
                .map(|(x, w)| f64::from(*x) * f64::from(*w))
                .fold((0.0, 0.0), |(sum, magnitude), term| (sum + term, magnitude + f64::abs(term)))
        };
        let w = &w;
        let exact = x.par_chunks(inputs).flat_map_iter(|x| w.chunks(inputs).map(move |w| dot(x, w))).collect();
        let [x_on_device, w_on_device, bias_on_device] =
            [&x, w, &bias].map(|values| upload(device, values, ElementType::F32));
        Self { outputs, inputs, y, x_on_device, w_on_device, bias_on_device, exact, bias }
    }

    /// The first `rows` rows.
    fn launch(
        &self,
        device: &Device,
        kernel: &GemmF32,
        rows: usize,
        (with_bias, epilogue): (bool, Epilogue),
        reduction: Reduction,
    ) -> Vec<f32> {
        let count = rows * if epilogue == Epilogue::Gate { self.outputs / 2 } else { self.outputs };
        let y = if epilogue == Epilogue::Add {
            Guarded::of(device, &self.y[..count], ElementType::F32)
        } else {
            Guarded::new(device, count * size_of::<f32>())
        };
        let gemm = Gemm {
            rows,
            outputs: self.outputs,
            inputs: self.inputs,
            weights: self.w_on_device.pointer(),
            bias: if with_bias { self.bias_on_device.pointer() } else { 0 },
            x: self.x_on_device.pointer(),
            y: y.pointer(),
            epilogue,
            f32_output: false,
            overlaps: false,
        };
        kernel.launch(device, &gemm, reduction).unwrap();
        read(device, &y, count, ElementType::F32)
    }

    /// The sum that index `at` of a `[rows, outputs]` array should hold, and how far from it what is found may lie: one rounding.
    ///
    /// Products of two 24-bit significands fit into 53 bits. A sum of n of them and two more terms, in any order, rounds n + 1
    /// times in binary64, each time by at most 2⁻⁵³ of a partial sum, none of which exceeds the sum of magnitudes. The test's own
    /// sum errs as much. Only then is there a rounding to binary32, of 2⁻²⁴ of what is rounded.
    fn sum(&self, at: usize, (with_bias, epilogue): (bool, Epilogue)) -> (f64, f64) {
        let bias = if with_bias { f64::from(self.bias[at % self.outputs]) } else { 0.0 };
        let before = if epilogue == Epilogue::Add { f64::from(self.y[at]) } else { 0.0 };
        let (exact, magnitude) = self.exact[at];
        let (exact, magnitude) = (exact + bias + before, magnitude + bias.abs() + before.abs());
        (exact, 2.0_f64.powi(-24) * exact.abs() + (self.inputs + 2) as f64 * 2.0_f64.powi(-52) * magnitude)
    }

    /// The same of silu(gate) · up, index `at` of `[rows, outputs / 2]`.
    ///
    /// silu's slope stays below 1.1, and it errs by a few units of binary32 itself: two of the exponential, one each of a sum, a
    /// quotient and the gemm. Where e⁻ᵍ overflows silu is −0, and is below 2⁻¹²⁰ indeed.
    fn gated(&self, at: usize, extras: (bool, Epilogue)) -> (f64, f64) {
        let half = self.outputs / 2;
        let gate = at / half * self.outputs + at % half;
        let ((gate, of_gate), (up, of_up)) = (self.sum(gate, extras), self.sum(gate + half, extras));
        let silu = gate / (1.0 + (-gate).exp());
        let error = 1.1 * of_gate * (up.abs() + of_up) + silu.abs() * of_up;
        (silu * up, error + 5.0 * 2.0_f64.powi(-23) * (silu * up).abs() + 2.0_f64.powi(-120) * up.abs())
    }

    fn check(&self, found: &[f32], extras: (bool, Epilogue), what: &str) {
        for (index, found) in found.iter().enumerate() {
            let (exact, allowed) =
                if extras.1 == Epilogue::Gate { self.gated(index, extras) } else { self.sum(index, extras) };
            let error = (f64::from(*found) - exact).abs();
            assert!(error <= allowed, "{what} [{index}]: {found}, not {exact}: {error:e} > {allowed:e}");
        }
    }
}

fn kernel(device: &Device) -> Option<GemmF32> {
    let kernel = GemmF32::load(device).unwrap();
    if kernel.is_none() {
        crate::skip::skip("gpu-gemm", format!("{} has no kernel of our own for binary32 GEMMs", device.name));
    }
    kernel
}

#[test]
fn gemms_are_rounded_once_and_do_not_depend_on_the_number_of_rows() {
    const MOST: usize = 1319;
    let Some(device) = gpu() else { return };
    let Some(kernel) = kernel(&device) else { return };
    for (outputs, inputs) in [(515, 196), (70, 228), (960, 576), (2560, 2048)] {
        let operands = Operands::new(&device, MOST, outputs, inputs);
        let both = |epilogue| [(false, epilogue), (true, epilogue)];
        for extras in [Epilogue::Store, Epilogue::Add, Epilogue::Gate].into_iter().flat_map(both) {
            if extras.1 == Epilogue::Gate && outputs % 2 == 1 {
                continue;
            }
            let all = operands.launch(&device, &kernel, MOST, extras, Reduction::Invariant);
            for rows in [1, 7, 16, 17, 65, 300, MOST] {
                let what = format!("{rows} rows by [{outputs}, {inputs}], bias {}, {:?}", extras.0, extras.1);
                let found = operands.launch(&device, &kernel, rows, extras, Reduction::Invariant);
                operands.check(&found, extras, &what);
                let same = found.iter().zip(&all).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{what}: not what {MOST} rows give");
                // Twice: the second finds what the first left in `arrivals`.
                for _ in 0..2 {
                    let found = operands.launch(&device, &kernel, rows, extras, Reduction::Fastest);
                    operands.check(&found, extras, &what);
                }
            }
        }
    }
}

/// z += gated(x · Wᵀ) · Vᵀ, as an MLP has it, the second gemm beginning while the first ends.
#[test]
fn overlapping_gemms_wait_for_what_they_read() {
    let (hidden, middle) = (576, 1536);
    let Some(device) = gpu() else { return };
    let Some(kernel) = kernel(&device) else { return };
    for rows in [1, 65, 300] {
        let before = values(rows * hidden, 5);
        let [x, w, v] = [rows * hidden, 2 * middle * hidden, hidden * middle]
            .map(|count| upload(&device, &values(count, count as u64), ElementType::F32));
        let chain = |overlaps: bool, reduction| {
            let y = Guarded::new(&device, rows * middle * size_of::<f32>());
            let z = Guarded::of(&device, &before, ElementType::F32);
            let gemm = |(outputs, inputs), weights: &Buffer, x, y, epilogue| {
                let (weights, f32_output) = (weights.pointer(), false);
                Gemm { rows, outputs, inputs, weights, bias: 0, x, y, epilogue, f32_output, overlaps }
            };
            let first = gemm((2 * middle, hidden), &w, x.pointer(), y.pointer(), Epilogue::Gate);
            let second = gemm((hidden, middle), &v, y.pointer(), z.pointer(), Epilogue::Add);
            for gemm in [first, second] {
                kernel.launch(&device, &gemm, reduction).unwrap();
            }
            read(&device, &z, rows * hidden, ElementType::F32)
        };
        for reduction in [Reduction::Invariant, Reduction::Fastest] {
            let alone = chain(false, reduction);
            for _ in 0..20 {
                assert_eq!(chain(true, reduction), alone, "{rows} rows, {reduction:?}");
            }
        }
    }
}
