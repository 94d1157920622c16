//! Weights as elements of the run's arithmetic.

use super::{FormatEntry, Origin};
use crate::engine::arithmetic::Arithmetic;

pub(super) const ENTRY: FormatEntry = FormatEntry {
    name: "dense",
    aliases: &[],
    description: "every weight an element of the arithmetic",
    arithmetics: &Arithmetic::ALL,
    bits: None,
    origin: Origin::Any,
};
