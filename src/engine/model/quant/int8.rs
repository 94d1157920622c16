//! Eight bits a weight, symmetric, one scale a row; made from dense weights while loading.

use super::entry::{FormatEntry, Layout, Origin};
use crate::arithmetic::Arithmetic;

pub(super) const ENTRY: FormatEntry = FormatEntry {
    name: "int8",
    aliases: &["w8a16"],
    description: "linear layers in eight bits, a scale a row, made while loading; the rest in f16",
    arithmetics: &[Arithmetic::F16],
    layout: Layout::Int8,
    bits: Some(8),
    origin: Origin::Packed,
};
