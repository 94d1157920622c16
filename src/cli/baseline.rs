//! `--baseline` and its limits, which `gsm8k` and `report` have.

use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::Exit;
use super::printer::{note, print_error, print_notes};
use crate::compare::{Gate, Limits, NoiseFloors, RunChecks, no_shared_precision, refusal};
use crate::jobs::JobError;
use crate::jobs::eval::{EvalJob, StoredRun};
use crate::record::VariantName;
use crate::task::Protocol;

/// Holding a run against a stored one.
#[derive(Debug, Clone, Args)]
pub struct BaselineArguments {
    /// Exit with 1 if the run is worse than this one, paired by sample
    #[arg(long, value_name = "RUN", help_heading = "Gate")]
    pub baseline: Option<PathBuf>,
    /// Percentage points of accuracy that may be lost [default: 2]
    #[arg(long, value_name = "POINTS", requires = "baseline", allow_negative_numbers = true, help_heading = "Gate")]
    pub margin: Option<f64>,
    /// The least tokens/s, as a multiple of the baseline's
    #[arg(long, value_name = "RATIO", requires = "baseline", allow_negative_numbers = true, help_heading = "Gate")]
    pub min_speed_ratio: Option<f64>,
    /// A record of `determinism`: differences that flip no more answers than flip by
    /// themselves are named as noise
    #[arg(long, value_name = "FILE", help_heading = "Gate")]
    pub noise: Option<PathBuf>,
}

/// A stored run, and what it demands.
#[derive(Debug, Clone)]
pub(super) struct Baseline {
    run: StoredRun,
    limits: Limits,
    noise: Option<NoiseFloors>,
}

impl BaselineArguments {
    /// Reads the baseline, so that a wrong one is known before hours are spent.
    pub(super) fn open(&self) -> Result<Option<Baseline>, JobError> {
        let Some(path) = &self.baseline else { return Ok(None) };
        let limits = Limits {
            margin_points: self.margin.unwrap_or(Limits::default().margin_points),
            min_speed_ratio: self.min_speed_ratio,
        };
        let numbers = [
            (
                "--margin",
                limits.margin_points,
                (0.0..=100.0).contains(&limits.margin_points),
                "percentage points, 0 to 100",
            ),
            (
                "--min-speed-ratio",
                limits.min_speed_ratio.unwrap_or(1.0),
                limits.min_speed_ratio.is_none_or(|ratio| ratio > 0.0 && ratio.is_finite()),
                "a ratio above 0, such as 0.9",
            ),
        ];
        for (flag, value, holds, range) in numbers {
            if !holds {
                return Err(JobError::invalid(format!("{flag} {value} is out of range"), format!("give {range}")));
            }
        }
        let run = StoredRun::read(path)?;
        print_notes(&run.notes);
        Ok(Some(Baseline { run, limits, noise: self.floors()? }))
    }

    /// Reads the noise floors, where they are named.
    pub(super) fn floors(&self) -> Result<Option<NoiseFloors>, JobError> {
        Ok(self.noise.as_deref().map(NoiseFloors::read).transpose()?)
    }

    /// Refuses `--noise` where there is no baseline to hold a run against.
    pub(super) fn refuse_idle_noise(&self) -> Result<(), JobError> {
        match (&self.noise, &self.baseline) {
            (Some(_), None) => Err(JobError::invalid(
                "--noise is of no use without --baseline",
                "give both, or give `--noise` to `evalsuite report`, which holds a run against its own reference",
            )),
            _ => Ok(()),
        }
    }
}

impl Baseline {
    /// Refuses a job whose run could not be held against it, before hours are spent. Its problems are compared once they are known.
    pub(super) fn check_job(&self, job: &EvalJob) -> Result<(), JobError> {
        let (stored, target) = (&self.run.record, &job.target);
        let protocol = Protocol::open(&job.protocol)?;
        if protocol.sha256 != stored.plan.protocol.sha256 {
            let why = format!("its protocol is {}, the baseline's {}", protocol.name, stored.plan.protocol.name);
            let hint = "give the baseline's `--protocol`, or make a new baseline";
            return Err(refusal("this run", &self.run, &why, hint).into());
        }
        let shared = |name: &VariantName| {
            target.dtypes.iter().any(|dtype| *name == *dtype) || target.variants.iter().any(|one| one.name == *name)
        };
        if !target.dtypes.is_empty() && !stored.dtypes.iter().any(|one| shared(&one.dtype)) {
            return Err(no_shared_precision("this run", &self.run).into());
        }
        Ok(())
    }

    /// The noise floors that were named with it.
    pub(super) fn floors(&self) -> Option<&NoiseFloors> {
        self.noise.as_ref()
    }

    /// Holds one run of several against it: `place` is its index, and how many there are.
    pub(super) fn checks(&self, place: (usize, usize), run: &StoredRun) -> Result<RunChecks, JobError> {
        let checks = RunChecks::new(place, run, &self.run, self.limits)?;
        self.noise.as_ref().map_or(Ok(()), |noise| noise.check(run))?;
        Ok(checks)
    }

    /// What came of all of them.
    pub(super) fn gate(&self, runs: Vec<RunChecks>) -> Gate {
        let gate = Gate::of(runs, &self.run, self.limits);
        match &self.noise {
            Some(noise) => noise.name_in_gate(gate),
            None => gate,
        }
    }

    /// Holds a run that has just finished against it, and says what came of it.
    pub(super) fn check(&self, folder: &Path) -> Result<Exit, JobError> {
        let gate = self.gate(vec![self.checks((0, 1), &StoredRun::read(folder)?)?]);
        report(&gate);
        Ok(exit(Some(&gate)))
    }
}

/// The exit code that a gate asks for.
pub(super) fn exit(gate: Option<&Gate>) -> Exit {
    if gate.is_none_or(|gate| gate.passed) { Exit::Success } else { Exit::BelowMinimum }
}

fn report(gate: &Gate) {
    for text in &gate.notes {
        note(&format!("baseline: {text}"));
    }
    for check in &gate.checks {
        if check.passed { note(&format!("baseline: {}", check.message)) } else { print_error(&check.message) }
    }
}
