//! The noise floor that `evalsuite determinism` found, beside differences: what flips no more answers than flip by themselves shows nothing.

use std::path::Path;

use super::comparison::Comparison;
use super::gate::{Gate, GateSubject};
use crate::jobs::determinism::{DeterminismRecord, VariantFloor};
use crate::jobs::eval::StoredRun;
use crate::report::ReportError;
use crate::report::words::{percent, thousands};
use crate::score::statistics::{Paired, Proportion};

/// What flips by itself, by variant.
#[derive(Debug, Clone)]
pub struct NoiseFloors {
    record: DeterminismRecord,
    path: String,
}

impl NoiseFloors {
    /// Reads a record of `determinism`.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let shown = path.display().to_string();
        let hint = "make one with `evalsuite determinism --out FILE`";
        if !path.is_file() {
            return Err(ReportError::new(format!("--noise {shown}: there is no such file"), hint));
        }
        let record = DeterminismRecord::read(path).map_err(|error| ReportError::new(error.to_string(), hint))?;
        let record = record.ok_or_else(|| {
            ReportError::new(format!("--noise {shown}: not a record of `evalsuite determinism`"), hint)
        })?;
        Ok(Self { record, path: shown })
    }

    /// Refuses a run of another model: its noise is another's.
    pub fn check(&self, run: &StoredRun) -> Result<(), ReportError> {
        let (own, floor) = (&run.record.plan.target.model, &self.record.plan.asked.target.model);
        match (&own.sha256, &floor.sha256) {
            (Some(own_sha256), Some(sha256)) if own_sha256 != sha256 => Err(ReportError::new(
                format!(
                    "--noise {}: the noise floor of {}, but {} is a run of {}",
                    self.path,
                    floor.name,
                    run.path.display(),
                    own.name
                ),
                "give the record of `evalsuite determinism` on the run's own model",
            )),
            _ => Ok(()),
        }
    }

    /// The larger floor of those that it has of these variants.
    fn of(&self, variants: &[&str]) -> Option<Proportion> {
        let is_one = |one: &&VariantFloor| {
            one.failure.is_none() && self.record.is_whole(one) && variants.contains(&one.variant.as_str())
        };
        let floors = self.record.variants.iter().filter(is_one).filter_map(|one| Some(one.floor?.flips));
        floors.max_by(|one, other| one.high.total_cmp(&other.high))
    }

    /// What the floor makes of a difference between answers of these variants.
    fn judge(&self, paired: &Paired, variants: &[&str]) -> Judgement {
        let Some(floor) = self.of(variants) else { return Judgement::Unknown };
        let flips = (paired.lost + paired.gained) as f64 / paired.n() as f64;
        if floor.successes > 0 && flips <= floor.high { Judgement::Noise(floor) } else { Judgement::Above(floor) }
    }

    /// Names what cannot be told from noise among the checks of a gate; it changes none.
    #[must_use]
    pub fn name_in_gate(&self, mut gate: Gate) -> Gate {
        for check in gate.checks.iter_mut().filter(|check| check.subject == GateSubject::Accuracy) {
            let Some(paired) = &check.paired else { continue };
            if let Judgement::Noise(floor) = self.judge(paired, &[check.dtype.as_str()]) {
                check.message.extend(["; ", not_told(paired, &floor).as_str()]);
            }
        }
        gate
    }

    /// A sentence for each row that is compared, under the headline rule.
    pub fn name_in(&self, comparison: &mut Comparison) {
        let sentence = |index: &usize| {
            let row = &comparison.rows[*index];
            let paired = row.scores.first()?.against?;
            let reference = &comparison.rows[row.reference?];
            let label = &row.label;
            Some(match self.judge(&paired, &[&row.precision, &reference.precision]) {
                Judgement::Unknown => format!("{label}: {} holds no floor of it", self.path),
                Judgement::Noise(floor) => format!("{label}: {}", not_told(&paired, &floor)),
                Judgement::Above(floor) => {
                    format!("{label}: {}, above the noise floor of {}", flips(&paired), share(&floor))
                }
            })
        };
        comparison.noise = comparison.compared.iter().filter_map(sentence).collect();
    }
}

/// A difference beside the floor.
enum Judgement {
    /// There is no floor of these variants.
    Unknown,
    /// No more answers flip than by themselves: within the floor's interval.
    Noise(Proportion),
    /// More do, or nothing moves by itself.
    Above(Proportion),
}

fn flips(paired: &Paired) -> String {
    let flips = paired.lost + paired.gained;
    format!(
        "{} of {} answers flip ({} %)",
        thousands(flips as u64),
        thousands(paired.n() as u64),
        percent(flips as f64 / paired.n() as f64)
    )
}

fn share(floor: &Proportion) -> String {
    format!("{} % [{}, {}]", percent(floor.value), percent(floor.low), percent(floor.high))
}

fn not_told(paired: &Paired, floor: &Proportion) -> String {
    format!("{}, which cannot be told from noise: {} flip with nothing changed", flips(paired), share(floor))
}
