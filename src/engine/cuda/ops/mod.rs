//! Operations on the card: each file pairs a kernel source with its constants, shape checks and launches.

pub(super) mod attention;
