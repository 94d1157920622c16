//! Invariance of GEMMs: checked on the device when a model is loaded, and at little cost where rows are few.
//!
//! A row's bits must not depend on how many rows share its step, and NVIDIA promises that of no algorithm of cuBLASLt. So it is checked, for
//! each kind of GEMM of a model and with its weights: a row alone, among some, and among the most that a step may hold.
//!
//! Tiles for many rows keep few multiprocessors busy where rows are few. But algorithms that do not split a sum add up its products in the
//! same order, one tensor-core instruction after the other, whatever their tiles: for few rows, the fastest of those whose bits are found to
//! be the same takes the place of the one for many.

use cudarc::cublaslt::sys::cublasLtMatmulAlgo_t;
use cudarc::driver::sys::CUevent_flags;

use super::{INVARIANT_ROWS, Matmul, Shape, bucket};
use crate::EngineError;
use crate::cuda::buffer::Buffer;
use crate::cuda::device::{Device, failed};
use crate::cuda::element::ElementType;
use crate::cuda::ops::compare::Compare;
use crate::cuda::ops::gemm_f32::{Epilogue, Gemm, Reduction, supports};

/// The numbers of rows, padding included, that get an algorithm of their own: those of decode steps, which are read from memory at best.
const FEW_ROWS: [usize; 6] = [16, 32, 64, 128, 192, 256];

/// Candidates that are tried of each of the heuristic's answers.
const CANDIDATES: usize = 3;

/// Inputs for which the heuristic is asked too: where there are many it would split the sum, and what it then says of algorithms that do
/// not is poor.
const SHORT_INPUTS: usize = 1024;

/// Launches of a measurement, each on another layer's weights: they come from memory as in a step, not from a cache.
const LAUNCHES: usize = 24;

/// Attempts to capture a measurement.
const CAPTURES: usize = 3;

/// How much faster an algorithm must be to take another's place.
const GAIN: f32 = 0.97;

/// One in so many numbers that GEMMs are tried on is large.
const OUTLIERS: usize = 97;

/// A kind of GEMM of a model, and memory in which it can be tried before the first step.
pub(crate) struct Trial<'a> {
    /// Of as many rows as a step may hold; without addresses but for the bias.
    pub(crate) gemm: Gemm,
    /// Each layer's.
    pub(crate) weights: Vec<u64>,
    /// Room for the rows of y, and for some more.
    pub(crate) y: &'a Buffer,
}

impl Matmul {
    /// Checks that a row's bits do not depend on the number of rows, and finds the fastest algorithms for few rows that give the same bits.
    /// `x` has room for the rows of every trial's input.
    pub(crate) fn make_invariant(
        &self,
        device: &Device,
        compare: &Compare,
        x: &Buffer,
        trials: &[Trial],
    ) -> Result<(), EngineError> {
        let inputs = trials.iter().map(|trial| trial.gemm.inputs).max().unwrap_or(0);
        fill(device, x, self.element, FEW_ROWS[FEW_ROWS.len() - 1] * inputs)?;
        trials.iter().try_for_each(|trial| self.try_one(&Bench::new(self, device, compare, x, trial)))
    }

    fn try_one(&self, bench: &Bench) -> Result<(), EngineError> {
        if self.own.as_ref().is_some_and(|_| supports(&bench.gemm(bench.few, 0, 0))) {
            return if bench.is_invariant(None)? { Ok(()) } else { Err(bench.refusal()) };
        }
        let many = bench.gemm(INVARIANT_ROWS, 0, 0);
        let mut reference = None;
        for candidate in self.ask_for(&many)? {
            if bench.is_invariant(Some(&candidate))? {
                reference = Some(candidate);
                break;
            }
        }
        let reference = reference.ok_or_else(|| bench.refusal())?;
        self.keep(Shape::of(&many, INVARIANT_ROWS, Reduction::Invariant), reference);
        for rows in FEW_ROWS.into_iter().filter(|rows| *rows <= bench.few) {
            let gemm = bench.gemm(rows, 0, 0);
            let short = Gemm { inputs: gemm.inputs.min(SHORT_INPUTS), ..gemm };
            let mut best = (bench.seconds(&reference, rows)?, reference);
            let mut tried = vec![reference.data];
            for asked in [gemm, short] {
                for candidate in self.ask_for(&asked)?.into_iter().take(CANDIDATES) {
                    if tried.contains(&candidate.data) {
                        continue;
                    }
                    tried.push(candidate.data);
                    if bench.same(Some(&candidate), rows)? && bench.same(Some(&candidate), rows / 2 + 1)? {
                        let seconds = bench.seconds(&candidate, rows)?;
                        if seconds < GAIN * best.0 {
                            best = (seconds, candidate);
                        }
                    }
                }
            }
            self.keep(Shape::of(&gemm, bucket(rows), Reduction::Invariant), best.1);
        }
        Ok(())
    }

    fn ask_for(&self, gemm: &Gemm) -> Result<Vec<cublasLtMatmulAlgo_t>, EngineError> {
        self.ask(gemm, true).map_err(|error| super::failed("choose an algorithm", error))
    }
}

/// A trial in its memory: `few` rows of y that are wanted, and behind them what is compared with them.
pub(super) struct Bench<'a> {
    matmul: &'a Matmul,
    device: &'a Device,
    compare: &'a Compare,
    x: &'a Buffer,
    trial: &'a Trial<'a>,
    few: usize,
    most: usize,
    /// Bytes of a row of y.
    row: usize,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        matmul: &'a Matmul,
        device: &'a Device,
        compare: &'a Compare,
        x: &'a Buffer,
        trial: &'a Trial<'a>,
    ) -> Self {
        let gemm = &trial.gemm;
        let kind = if gemm.f32_output { ElementType::F32 } else { matmul.element };
        let halves = usize::from(gemm.epilogue == Epilogue::Gate) + 1;
        let row = gemm.outputs / halves * kind.bytes();
        let room = trial.y.bytes() / row;
        let few = FEW_ROWS[FEW_ROWS.len() - 1].min(room / 2).min(gemm.rows).max(1);
        let x_room = x.bytes() / (gemm.inputs * matmul.element.bytes());
        let most = gemm.rows.min(room.saturating_sub(few)).min(x_room).max(1);
        Self { matmul, device, compare, x, trial, few: few.min(most), most, row }
    }

    /// Of the first `rows` rows of x, with a layer's weights, to y from row `to` on.
    pub(super) fn gemm(&self, rows: usize, layer: usize, to: usize) -> Gemm {
        let weights = self.trial.weights[layer % self.trial.weights.len()];
        let (x, y) = (self.x.pointer(), self.trial.y.at(to * self.row));
        Gemm { rows, weights, x, y, ..self.trial.gemm }
    }

    /// Computes `rows` rows to y from row `to` on, which held numbers to be added to; false where the algorithm does not take this GEMM.
    /// Without an algorithm, by our own kernel.
    fn compute(&self, algorithm: Option<&cublasLtMatmulAlgo_t>, rows: usize, to: usize) -> Result<bool, EngineError> {
        self.trial.y.fill_part(self.device, to * self.row, rows * self.row, 0x3c)?;
        let gemm = self.gemm(rows, 0, to);
        match algorithm {
            None => self.matmul.launch(self.device, &gemm, Reduction::Invariant).map(|()| true),
            Some(algorithm) => Ok(self.matmul.call(self.device, &gemm, algorithm).is_ok()),
        }
    }

    /// Whether `rows` rows are computed with the bits that the rows wanted have.
    pub(super) fn same(&self, algorithm: Option<&cublasLtMatmulAlgo_t>, rows: usize) -> Result<bool, EngineError> {
        let (wanted, found) = (self.trial.y.at(0), self.trial.y.at(self.few * self.row));
        Ok(self.compute(algorithm, rows, self.few)?
            && self.compare.same(self.device, wanted, found, rows.min(self.few) * self.row)?)
    }

    /// Whether a row has the same bits alone, among some, and among the most; from then on, these are the bits wanted.
    pub(super) fn is_invariant(&self, algorithm: Option<&cublasLtMatmulAlgo_t>) -> Result<bool, EngineError> {
        if !self.compute(algorithm, self.few, 0)? {
            return Ok(false);
        }
        for rows in [1, 16, self.few / 2 + 1, self.most] {
            if rows <= self.most && !self.same(algorithm, rows)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Seconds of a launch on the device; infinite where it cannot be measured, so that nothing takes another's place.
    fn seconds(&self, algorithm: &cublasLtMatmulAlgo_t, rows: usize) -> Result<f32, EngineError> {
        let launches = self.trial.weights.len().min(LAUNCHES);
        for _ in 0..CAPTURES {
            let launch = |layer| self.matmul.call(self.device, &self.gemm(rows, layer, self.few), algorithm);
            if let Some(seconds) = seconds_of(self.device, launches, launch)? {
                return Ok(seconds);
            }
        }
        Ok(f32::INFINITY)
    }

    fn refusal(&self) -> EngineError {
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
/// they could not be captured.
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
    begin.record(&device.stream).map_err(measure)?;
    graph.launch().map_err(measure)?;
    end.record(&device.stream).map_err(measure)?;
    Ok(Some(begin.elapsed_ms(&end).map_err(measure)? / 1e3 / launches as f32))
}
