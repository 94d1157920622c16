//! The parts of a benchmark: one file a part, and its line in [`PARTS`].

mod concurrent;
mod load;
mod many;
mod single;
mod startup;
mod sweep;
mod workload;

use super::Part;

pub(super) use concurrent::CONCURRENT;
pub(super) use load::open;
pub(super) use single::SINGLE;
pub(super) use sweep::{NAME as SWEEP, notes as sweep_notes, plan as sweep_plan};
pub(super) use workload::NAME as WORKLOAD;

/// Every part, in the order in which they run.
pub const PARTS: [&dyn Part; 6] =
    [&load::Load, &single::Single, &concurrent::Concurrent, &workload::OfWorkload, &sweep::Sweep, &startup::Startup];

/// Those of these names, in the order in which they run.
pub(super) fn chosen(names: &[String]) -> Vec<&'static dyn Part> {
    PARTS.into_iter().filter(|part| names.iter().any(|name| name == part.name())).collect()
}
