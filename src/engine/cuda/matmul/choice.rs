//! The choice among the ways of computing a GEMM of few rows: measured on the device, with a model's weights.

use cudarc::cublaslt::sys::cublasLtMatmulAlgo_t;
use cudarc::driver::sys::CUevent_flags;

use super::{Matmul, Shape, Way, bucket};
use crate::EngineError;
use crate::cuda::buffer::Buffer;
use crate::cuda::device::{Device, failed};
use crate::cuda::element::ElementType;
use crate::cuda::ops::compare::Compare;
use crate::cuda::ops::gemm_f32::{Epilogue, Gemm, Reduction};

/// The numbers of rows, padding included, that get a way of their own: those of decode steps, which are read from memory at best.
pub(super) const FEW_ROWS: [usize; 6] = [16, 32, 64, 128, 192, 256];

/// Candidates that are tried of each of the heuristic's answers.
const CANDIDATES: usize = 3;

/// Inputs for which the heuristic is asked too: where there are many it would split the sum, and what it then says of algorithms that do
/// not is poor.
const SHORT_INPUTS: usize = 1024;

/// Launches of a measurement, each on another layer's weights: they come from memory as in a step, not from a cache.
const LAUNCHES: usize = 24;

/// Of weights that there are once, which no cache holds.
const LEAST_LAUNCHES: usize = 4;

/// Times that a measurement is taken; the least counts.
const REPEATS: usize = 3;

/// How much faster a way must be to take another's place.
const GAIN: f32 = 0.97;

/// Seconds of the kernel that applies gates, where the GEMM does not.
const ACTIVATION: f32 = 2e-6;

/// Seconds at least of the kernel that finds the highest of a GEMM's outputs, where the GEMM does not: 5 us were measured of 8 rows of 50,272, 12 us
/// of 64, 26 us of 64 rows of 151,936.
fn argmax_seconds(gemm: &Gemm) -> f32 {
    2e-6 + (gemm.rows * gemm.outputs) as f32 * 2.5e-12
}

/// Seconds that a GEMM of cuBLASLt's costs a step beside its own: nothing overlaps its beginning and its end. Measured behind its like it seems as
/// fast as ours now and then, and a step of 64 rows took 6 % longer.
const NO_OVERLAP: f32 = 1.5e-6;

/// One in so many numbers that GEMMs are tried on is large.
const OUTLIERS: usize = 97;

/// A kind of GEMM of a model, and memory in which it can be tried between steps.
pub(crate) struct Trial<'a> {
    /// Of as many rows as a step may hold; without addresses but for the bias.
    pub(crate) gemm: Gemm,
    /// Whether what is stored are gates and what they are applied to.
    pub(crate) gates: bool,
    /// Each layer's.
    pub(crate) weights: Vec<u64>,
    /// Room for the rows of y, and for some more.
    pub(crate) y: &'a Buffer,
}

impl Matmul {
    /// Finds the fastest ways to compute `rows` rows of a model's GEMMs, whatever their bits. `x` has room for the rows of every trial's
    /// input.
    pub(crate) fn make_fastest(
        &self,
        device: &Device,
        x: &Buffer,
        trials: &[Trial],
        rows: usize,
    ) -> Result<(), EngineError> {
        if self.few.is_none() {
            return Ok(());
        }
        fill_for(self, device, x, trials)?;
        // Where there is less room than for twice as many rows, the heuristic's choice stays.
        let benches = trials.iter().map(|trial| Bench::new(self, device, x, trial));
        benches.filter(|bench| rows <= bench.few).try_for_each(|bench| self.choose(&bench, rows, None))
    }

    /// Keeps the fastest way for `rows` rows; in invariant mode of those that give the bits of `reference`, which `compare` compares.
    pub(super) fn choose(
        &self,
        bench: &Bench,
        rows: usize,
        reference: Option<(Way, &Compare)>,
    ) -> Result<(), EngineError> {
        let reduction = if reference.is_some() { Reduction::Invariant } else { Reduction::Fastest };
        let gemm = bench.gemm(rows, 0, 0);
        let short = Gemm { inputs: gemm.inputs.min(SHORT_INPUTS), ..gemm };
        let mut candidates: Vec<Way> = Vec::new();
        for asked in if reference.is_some() { vec![gemm, short] } else { vec![gemm] } {
            let found = self.ask_for(&asked, reference.is_some())?;
            candidates.extend(found.into_iter().take(CANDIDATES).map(Way::Library));
        }
        let tiles = |gemm: &Gemm| -> Vec<Way> {
            self.few.iter().flat_map(|kernels| kernels.tiles(gemm, reduction)).map(Way::Few).collect()
        };
        candidates.extend(tiles(&gemm));
        let mut best = None;
        let mut tried: Vec<[u64; 8]> = Vec::new();
        if let Some((way, _)) = reference {
            best = Some((bench.seconds(&way, &gemm)?, way));
            if let Way::Library(algorithm) = way {
                tried.push(algorithm.data);
            }
        }
        let mut own_has_the_bits = reference.is_none();
        for candidate in candidates {
            if let Way::Library(cublasLtMatmulAlgo_t { data }) = candidate {
                if tried.contains(&data) {
                    continue;
                }
                tried.push(data);
            }
            if let Some((_, compare)) = reference {
                if !(bench.same(compare, &candidate, rows)? && bench.same(compare, &candidate, rows / 2 + 1)?) {
                    continue;
                }
                own_has_the_bits |= matches!(candidate, Way::Few(_));
            }
            let seconds = bench.seconds(&candidate, &gemm)?;
            if best.is_none_or(|(least, _)| seconds < GAIN * least) {
                best = Some((seconds, candidate));
            }
        }
        let Some((seconds, way)) = best else { return Ok(()) };
        self.keep(Shape::of(&gemm, bucket(rows), reduction), way);
        // With another epilogue a tile adds up as it does without.
        let other = if bench.trial.gates {
            Some((Epilogue::Gate, ACTIVATION))
        } else {
            gemm.f32_output.then(|| (Epilogue::Highest, argmax_seconds(&gemm)))
        };
        if let Some((epilogue, saved)) = other.filter(|_| own_has_the_bits) {
            let gemm = Gemm { epilogue, ..gemm };
            let mut least = seconds + saved;
            for way in tiles(&gemm) {
                let seconds = bench.seconds(&way, &gemm)?;
                if seconds < least {
                    least = seconds;
                    self.keep(Shape::of(&gemm, bucket(rows), reduction), way);
                }
            }
        }
        Ok(())
    }

    pub(super) fn ask_for(&self, gemm: &Gemm, invariant: bool) -> Result<Vec<cublasLtMatmulAlgo_t>, EngineError> {
        self.ask(gemm, invariant).map_err(|error| super::failed("choose an algorithm", error))
    }
}

/// Fills the input of all trials.
pub(super) fn fill_for(matmul: &Matmul, device: &Device, x: &Buffer, trials: &[Trial]) -> Result<(), EngineError> {
    let inputs = trials.iter().map(|trial| trial.gemm.inputs).max().unwrap_or(0);
    fill(device, x, matmul.element, FEW_ROWS[FEW_ROWS.len() - 1] * inputs)
}

/// A trial in its memory: `few` rows of y that are wanted, and behind them what is compared with them.
pub(super) struct Bench<'a> {
    matmul: &'a Matmul,
    device: &'a Device,
    x: &'a Buffer,
    pub(super) trial: &'a Trial<'a>,
    pub(super) few: usize,
    pub(super) most: usize,
    /// Bytes of a row of y.
    row: usize,
}

impl<'a> Bench<'a> {
    pub(super) fn new(matmul: &'a Matmul, device: &'a Device, x: &'a Buffer, trial: &'a Trial<'a>) -> Self {
        let gemm = &trial.gemm;
        let kind = if gemm.f32_output { ElementType::F32 } else { matmul.element };
        let halves = usize::from(gemm.epilogue == Epilogue::Gate) + 1;
        let row = gemm.outputs / halves * kind.bytes();
        let room = trial.y.bytes() / row;
        let few = FEW_ROWS[FEW_ROWS.len() - 1].min(room / 2).min(gemm.rows).max(1);
        let x_room = x.bytes() / (gemm.inputs * matmul.element.bytes());
        let most = gemm.rows.min(room.saturating_sub(few)).min(x_room).max(1);
        Self { matmul, device, x, trial, few: few.min(most), most, row }
    }

    /// Of the first `rows` rows of x, with a layer's weights, to y from row `to` on.
    pub(super) fn gemm(&self, rows: usize, layer: usize, to: usize) -> Gemm {
        let weights = self.trial.weights[layer % self.trial.weights.len()];
        let (x, y) = (self.x.pointer(), self.trial.y.at(to * self.row));
        Gemm { rows, weights, x, y, ..self.trial.gemm }
    }

    /// Computes `rows` rows to y from row `to` on, which held numbers to be added to; false where the way does not take this GEMM.
    fn compute(&self, way: &Way, rows: usize, to: usize) -> Result<bool, EngineError> {
        self.trial.y.fill_part(self.device, to * self.row, rows * self.row, 0x3c)?;
        let gemm = self.gemm(rows, 0, to);
        match way {
            Way::Library(algorithm) => Ok(self.matmul.call(self.device, &gemm, algorithm).is_ok()),
            own => self.matmul.launch_by(self.device, &gemm, own, Reduction::Invariant).map(|()| true),
        }
    }

    /// Whether `rows` rows are computed with the bits that the rows wanted have.
    pub(super) fn same(&self, compare: &Compare, way: &Way, rows: usize) -> Result<bool, EngineError> {
        let (wanted, found) = (self.trial.y.at(0), self.trial.y.at(self.few * self.row));
        Ok(self.compute(way, rows, self.few)?
            && compare.same(self.device, wanted, found, rows.min(self.few) * self.row)?)
    }

    /// Whether a row has the same bits alone, among some, and among the most; from then on, these are the bits wanted.
    pub(super) fn is_invariant(&self, compare: &Compare, way: &Way) -> Result<bool, EngineError> {
        if !self.compute(way, self.few, 0)? {
            return Ok(false);
        }
        for rows in [1, 16, self.few / 2 + 1, self.most] {
            if rows <= self.most && !self.same(compare, way, rows)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Seconds that a GEMM like this trial's costs a step; infinite where it cannot be measured, so that nothing takes another's place. Ours
    /// overlap each other, as in a step.
    fn seconds(&self, way: &Way, gemm: &Gemm) -> Result<f32, EngineError> {
        let launches = self.trial.weights.len().clamp(LEAST_LAUNCHES, LAUNCHES);
        let alone = matches!(way, Way::Library(_));
        let launch = |layer| {
            let Gemm { weights, y, .. } = self.gemm(gemm.rows, layer, self.few);
            let gemm = Gemm { weights, y, overlaps: !alone, ..*gemm };
            self.matmul.launch_by(self.device, &gemm, way, Reduction::Fastest)
        };
        let seconds = seconds_of(self.device, launches, launch)?.unwrap_or(f32::INFINITY);
        Ok(if alone { seconds + NO_OVERLAP } else { seconds })
    }

    pub(super) fn refusal(&self) -> EngineError {
        let (gemm, most) = (&self.trial.gemm, self.most);
        EngineError::failed(
            format!(
                "a row of [{}, {}] has other bits alone than among {most} rows on this GPU, by every algorithm tried",
                gemm.outputs, gemm.inputs
            ),
            "run with `--batching fast`, which does not promise the same answers in every batch, or with `--engine cpu`",
        )
    }
}

/// The first `count` elements are random numbers with outliers, the others what equal bytes make.
pub(super) fn fill(device: &Device, x: &Buffer, element: ElementType, count: usize) -> Result<(), EngineError> {
    let mut state = 1_u64;
    let value = |index: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        if index.is_multiple_of(OUTLIERS) { 30.0 * uniform } else { uniform }
    };
    let values: Vec<f32> = (0..count.min(x.bytes() / element.bytes())).map(value).collect();
    x.fill(device, 0x3c)?;
    x.write(device, 0, &element.encode(&values))
}

/// Seconds of each of some launches, which are given their numbers, in a graph: the host takes longer to enqueue small ones. `None` where
/// they cannot be launched.
pub(super) fn seconds_of<E>(
    device: &Device,
    launches: usize,
    launch: impl FnMut(usize) -> Result<(), E>,
) -> Result<Option<f32>, EngineError> {
    let measure = |error| failed("measure an algorithm", error);
    device.synchronize()?;
    let Ok(Ok(Some(graph))) = device.capture(|| (0..launches).try_for_each(launch)) else { return Ok(None) };
    let event = || device.context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(measure);
    let [begin, end] = [event()?, event()?];
    let mut least = f32::INFINITY;
    for _ in 0..REPEATS {
        begin.record(&device.stream).map_err(measure)?;
        graph.launch().map_err(measure)?;
        end.record(&device.stream).map_err(measure)?;
        least = least.min(begin.elapsed_ms(&end).map_err(measure)?);
    }
    Ok(Some(least / 1e3 / launches as f32))
}
