//! Operations on the card: each file pairs a kernel source with its constants, shape checks and launches.

pub(super) mod argmax;
pub(super) mod gemv;
#[cfg(test)]
mod gemv_fixture;
pub(super) mod pack;
#[cfg(test)]
mod testing;
