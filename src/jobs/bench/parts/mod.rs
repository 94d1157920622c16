//! The parts of a benchmark: one file a part, and its line in [`PARTS`].

mod concurrent;
mod load;
mod many;
mod single;
mod workload;

use super::Part;

pub(super) use concurrent::CONCURRENT;
pub(super) use load::open;
pub(super) use single::SINGLE;
pub(super) use workload::NAME as WORKLOAD;

/// Every part, in the order in which they run.
pub const PARTS: [&dyn Part; 4] = [&load::Load, &single::Single, &concurrent::Concurrent, &workload::OfWorkload];

/// Those of these names, in the order in which they run.
pub(super) fn chosen(names: &[String]) -> Vec<&'static dyn Part> {
    PARTS.into_iter().filter(|part| names.iter().any(|name| name == part.name())).collect()
}
