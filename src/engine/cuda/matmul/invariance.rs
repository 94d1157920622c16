//! Invariance of GEMMs: checked on the device when a model is loaded, and at little cost where rows are few.
//!
//! A row's bits must not depend on how many rows share its step, and NVIDIA promises that of no algorithm of cuBLASLt. So it is checked, for
//! each kind of GEMM of a model and with its weights: a row alone, among some, and among the most that a step may hold.
//!
//! Tiles for many rows keep few multiprocessors busy where rows are few. But algorithms that do not split a sum add up its products in the
//! same order, one tensor-core instruction after the other, whatever their tiles, and so does our own kernel for few rows: there, the fastest
//! of those whose bits are found to be the same takes the place of the one for many.

use super::choice::{Bench, FEW_ROWS, Trial, fill_for};
use super::{INVARIANT_ROWS, Matmul, Shape, Way};
use crate::EngineError;
use crate::cuda::buffer::Buffer;
use crate::cuda::device::Device;
use crate::cuda::ops::compare::Compare;
use crate::cuda::ops::gemm_f32::{Reduction, supports};

impl Matmul {
    /// Checks that a row's bits do not depend on the number of rows, and finds the fastest ways for few rows that give the same bits.
    /// `x` has room for the rows of every trial's input.
    pub(crate) fn make_invariant(&self, device: &Device, x: &Buffer, trials: &[Trial]) -> Result<(), EngineError> {
        fill_for(self, device, x, trials)?;
        let compare = Compare::load(device)?;
        trials.iter().try_for_each(|trial| self.try_one(&compare, &Bench::new(self, device, x, trial)))
    }

    fn try_one(&self, compare: &Compare, bench: &Bench) -> Result<(), EngineError> {
        if self.own.as_ref().is_some_and(|_| supports(&bench.gemm(bench.few, 0, 0))) {
            return if bench.is_invariant(compare, &Way::F32)? { Ok(()) } else { Err(bench.refusal()) };
        }
        let many = bench.gemm(INVARIANT_ROWS, 0, 0);
        let mut reference = None;
        for candidate in self.ask_for(&many, true)?.into_iter().map(Way::Library) {
            if bench.is_invariant(compare, &candidate)? {
                reference = Some(candidate);
                break;
            }
        }
        let reference = reference.ok_or_else(|| bench.refusal())?;
        self.keep(Shape::of(&many, INVARIANT_ROWS, Reduction::Invariant), reference);
        let mut few = FEW_ROWS.into_iter().filter(|rows| *rows <= bench.few);
        few.try_for_each(|rows| self.choose(bench, rows, Some((reference, compare))))
    }
}
