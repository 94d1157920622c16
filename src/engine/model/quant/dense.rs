//! Weights as elements of the run's arithmetic.

use super::entry::{FormatEntry, Layout, Origin};
use crate::arithmetic::Arithmetic;

pub(super) const ENTRY: FormatEntry = FormatEntry {
    name: "dense",
    aliases: &[],
    description: "every weight an element of the arithmetic",
    arithmetics: &Arithmetic::ALL,
    layout: Layout::Dense,
    bits: None,
    origin: Origin::Any,
};
