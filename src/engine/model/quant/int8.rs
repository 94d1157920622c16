//! Eight bits a weight, symmetric, one scale a row; made from dense weights while loading.

use super::{FormatEntry, Origin};
use crate::engine::arithmetic::Arithmetic;

pub(super) const ENTRY: FormatEntry = FormatEntry {
    name: "int8",
    aliases: &["w8a16"],
    description: "linear layers in eight bits, a scale a row, made while loading; the rest in f16",
    arithmetics: &[Arithmetic::F16],
    bits: Some(8),
    origin: Origin::Packed,
};
